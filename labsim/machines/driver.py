"""What a lab asks of whatever makes its machines: few verbs, each says what is wanted and may be said again.

A driver knows machines, disks and media. It knows no hub, no cluster and nothing of what an ISO holds. Every verb but
`ensure` is about a machine that exists and raises `NoSuchMachine` (a LabError) otherwise, except `remove`, for which
"gone already" is what was wanted. Foreign errors never leave a driver: they are LabErrors with a hint.

Boot: a machine's own boot order is disk first, then CD, as facts/host-lifecycle.md demands of a BIOS machine (section
6, step 5): it must prefer its disk, or it registers again and lands in installing-pending-user-action. An empty disk
falls through to the CD, as in real firmware. `boot(name, DISCOVERY_ISO)` is one pick in the boot menu: the CD for this
start only, and a reboot from inside the machine follows the machine's own order again. A lab that wants the wrong
order to see what happens says so in `MachineSpec.boot_order`.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from labsim.errors import LabError, UsageError

MIB = 1 << 20
USER_NETWORK = "user"  # user mode: outgoing connections only, no root, no bridge
VIRTIO_SERIAL_LENGTH_MAX = 20  # what a virtio block device can carry


class BootSource(enum.Enum):
    """What a machine's firmware can start from."""

    DISK = "disk"
    DISCOVERY_ISO = "discovery-iso"


DISK_FIRST = (BootSource.DISK, BootSource.DISCOVERY_ISO)
CD_FIRST = (BootSource.DISCOVERY_ISO, BootSource.DISK)


class Power(enum.Enum):
    """PAUSED has processors that stand still (a full host disk does that too); CRASHED died without being told to."""

    OFF = "off"
    ON = "on"
    PAUSED = "paused"
    CRASHED = "crashed"


DiskBus = Literal["virtio", "scsi", "sata", "nvme"]
CdBus = Literal["", "virtio", "sata"]
Arch = Literal["x86_64", "aarch64"]
Firmware = Literal["bios", "uefi", "uefi-secure"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """One disk. `serial` and `wwn` ("0x" and 16 hexadecimal digits; "" for none) are what the guest reads; a disk that
    does not rotate is an SSD to the guest."""

    name: str
    size_bytes: int
    serial: str
    rotational: bool = True
    bus: DiskBus = "virtio"
    wwn: str = ""

    def __post_init__(self) -> None:
        if self.bus == "virtio" and (self.wwn or not self.rotational):
            raise ValueError("a virtio disk has no WWN and cannot say that it does not rotate")
        if self.bus == "nvme" and self.rotational:
            raise ValueError("an NVMe disk does not rotate")
        if len(self.serial) > VIRTIO_SERIAL_LENGTH_MAX:
            raise ValueError(f"disk serial {self.serial!r} is longer than {VIRTIO_SERIAL_LENGTH_MAX} characters")
        if self.size_bytes < 512 or self.size_bytes % 512:
            raise ValueError(f"disk size {self.size_bytes} is not a positive multiple of 512 bytes")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NicSpec:
    """One network card. `network` is USER_NETWORK or the name of a network that the driver knows.

    `subnet` ("10.0.7.0/24", user mode only): the addresses that the machine sees; it gets .15, and .2 is the host.
    Without it every machine is 10.0.2.15, which is true to user mode and confusing in a list of agents.
    """

    mac: str
    network: str = USER_NETWORK
    subnet: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """A machine as wanted. `uuid` (lower case) is its own and never changes in the life of a machine. The guest reads
    it as its system UUID, so it is the host id too (facts/host-lifecycle.md 1.7), unless `product_uuid` says otherwise
    or there is a `board_serial`; machines may have those in common. `cd_bus`: "" is the driver's choice.
    `arch`: the processor's; the machine type follows from it, and an aarch64 machine has UEFI whatever `firmware` says.
    `firmware`: uefi-secure enforces secure boot with Microsoft's keys. `tpm`: a TPM 2.0."""

    name: str
    uuid: str
    cpus: int
    memory_mib: int
    disks: tuple[DiskSpec, ...]
    nics: tuple[NicSpec, ...]
    arch: Arch = "x86_64"
    firmware: Firmware = "bios"
    tpm: bool = False
    boot_order: tuple[BootSource, ...] = DISK_FIRST
    cd_bus: CdBus = ""
    product_uuid: str = ""
    board_serial: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine as found. `boot_order` is the machine's own, which a reboot from inside follows; `media` the ISO in
    its CD drive; `console` the file its serial port is written to; `reason` what is known about a power state that
    nobody asked for; `disks` their names and `nics` their MAC addresses, as they are at the next start;
    `has_link` whether its cards have their cables in."""

    name: str
    uuid: str
    power: Power
    boot_order: tuple[BootSource, ...]
    media: Path | None = None
    console: Path | None = None
    reason: str = ""
    disks: tuple[str, ...] = ()
    nics: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    has_link: bool = True


class NoSuchMachine(LabError):
    """A verb named a machine that this driver has not made, or that is gone."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no machine {name!r} in this lab", hint="`labsim status` lists the machines of the lab"
        )
        self.name = name


class NoMedia(LabError):
    """A start from the discovery ISO was asked of a machine whose CD drive is empty."""

    def __init__(self, name: str) -> None:
        super().__init__(f"machine {name!r} has no ISO in its CD drive", hint="insert the InfraEnv's discovery ISO")


START_FIRST = "start it first: labsim boot"
STOP_FIRST = "stop it first: labsim stop"
RESUME_FIRST = "let it go on first: labsim resume; or stop it hard: labsim stop --hard"


class WrongPower(LabError):
    """A verb needs a machine that is in another power state."""

    def __init__(self, name: str, power: Power, verb: str, hint: str) -> None:
        super().__init__(f"machine {name!r} is {power.value}: it cannot be {verb}", hint=hint)
        self.name = name
        self.power = power


class NoSuchDevice(LabError):
    """A disk or card to unplug that the machine does not have, or one to plug in that cannot be plugged."""


class NoSuchSnapshot(LabError):
    """A machine is to go back to a snapshot that was not taken."""

    def __init__(self, name: str, snapshot: str, known: Sequence[str]) -> None:
        hint = f"it has: {', '.join(known)}" if known else "it has none"
        super().__init__(f"machine {name!r} has no snapshot {snapshot!r}", hint=hint)


def check_snapshot_name(snapshot: str) -> None:
    """Raises UsageError for a name that cannot be a folder's."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62})", snapshot):
        raise UsageError(f"{snapshot!r} cannot be a snapshot's name", hint="letters, digits, '.', '_' and '-'")


def no_such_device(name: str, device: str, view: MachineView) -> NoSuchDevice:
    """The error for a device that the machine of this view does not have."""
    return NoSuchDevice(
        f"machine {name!r} has no disk or card {device!r}", hint=f"it has: {', '.join((*view.disks, *view.nics))}"
    )


def check_pluggable(device: DiskSpec | NicSpec) -> None:
    """Raises NoSuchDevice for a disk that goes in only while a machine is made."""
    if isinstance(device, DiskSpec) and device.bus not in ("virtio", "scsi"):
        raise NoSuchDevice(
            f"a {device.bus} disk cannot be plugged into a machine", hint="take bus virtio or scsi, or make it so"
        )


class MachineDriver(Protocol):
    """Makes machines exist, run and go away."""

    def ensure(self, spec: MachineSpec) -> None:
        """The machine exists as specified. New ones are off with empty disks and an empty CD drive; one that exists
        keeps its power state, its disks' contents and its media, and takes changes at its next start."""

    def insert_media(self, name: str, iso: Path | None) -> None:
        """The CD drive holds `iso`, or nothing; also while the machine runs."""

    def set_link(self, name: str, up: bool) -> None:
        """The network cables of the machine are in, or all out: its cards have no link, also while it runs and
        whatever it starts from, until they are in again."""

    def boot(self, name: str, source: BootSource) -> None:
        """The machine runs. One that was off or crashed starts from `source` once; a running one is left alone, a
        paused one goes on. Raises NoMedia when it must start from a CD drive that is empty."""

    def reboot(self, name: str, source: BootSource) -> None:
        """The machine is cut off, whatever it does, and started from `source` once."""

    def stop(self, name: str, graceful: bool = False) -> None:
        """The machine is off. `graceful` only presses its power button and returns: the guest decides when, or if.
        Raises WrongPower for a graceful stop of a paused machine, in which nobody hears it."""

    def reset(self, name: str) -> None:
        """The reset button: what runs is cut off, and the machine starts by its own boot order. Raises WrongPower
        where it is not on."""

    def pause(self, name: str) -> None:
        """The processors stand still until `resume`. Raises WrongPower where the machine is off or crashed."""

    def resume(self, name: str) -> None:
        """A paused machine goes on; one that is on is left alone. Raises WrongPower where it is off or crashed."""

    def set_boot_order(self, name: str, order: tuple[BootSource, ...]) -> None:
        """The machine's own boot order, for good: from its next start or reset on."""

    def plug(self, name: str, device: DiskSpec | NicSpec) -> None:
        """A disk or card is in the machine, at once where it runs, and after the next start too. One of that name or
        MAC that is there already is left alone; a disk that was unplugged comes back with what is on it.
        Raises NoSuchDevice for a disk whose bus knows no plugging."""

    def unplug(self, name: str, device: str) -> None:
        """The disk of that name, or the card of that MAC address, is out of the machine: at once where it is off; where
        it runs, as soon as the guest lets go of it, at the latest after the next start. Raises NoSuchDevice."""

    def snapshot(self, name: str, snapshot: str) -> None:
        """What is on the disks (and in UEFI's variables) is kept under that name, in place of an earlier one. The
        machine must be off: raises WrongPower."""

    def revert(self, name: str, snapshot: str) -> None:
        """The machine is off, and its disks hold what they did at the snapshot. Raises NoSuchSnapshot."""

    def observe(self, name: str) -> MachineView:
        """The machine as it is now."""

    def names(self) -> frozenset[str]:
        """The machines that this lab has made and not removed; never anybody else's."""

    def remove(self, name: str) -> None:
        """The machine, its disks and its console file are gone. Gone already: quiet."""

    def close(self) -> None:
        """Let go of the hypervisor. Machines stay as they are; the driver cannot be used again."""


@runtime_checkable
class HasConsole(Protocol):
    """Optional: drivers that can hand over what a machine wrote to its serial port since it was made."""

    def console(self, name: str) -> bytes: ...


@runtime_checkable
class HasLogin(Protocol):
    """Optional: drivers that can say where a running machine's SSH server is reached from this host."""

    def login_address(self, name: str) -> tuple[str, int]:
        """Host and port. Whether the machine's system listens there yet, or at all, is the machine's."""
        ...


@runtime_checkable
class HasEvidence(Protocol):
    """Optional: drivers that know more of a machine than its console, for whoever asks what went wrong."""

    def evidence(self, name: str) -> Mapping[str, bytes]:
        """Files by their names: the definition, addresses, the hypervisor's own log. Never raises for what is not
        there."""
        ...


class MachineOff(LabError):
    """A verb needs a machine that runs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"machine {name!r} is off", hint=f"labsim boot {name} --from disk, or from the discovery ISO")


class Journal(Protocol):
    """Where a driver writes what it is about to make outside this process, before it makes it (labsim.lab.ledger)."""

    def intend(self, kind: str, identity: str, *, mark: str, detail: Mapping[str, str] | None = None) -> None: ...
    def created(self, kind: str, identity: str) -> None: ...
    def removed(self, kind: str, identity: str) -> None: ...
