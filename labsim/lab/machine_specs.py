"""What a machine of a group is, in every detail: what the file leaves open is derived from the seed."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from labsim.entropy import Entropy
from labsim.guest.host_id import host_id
from labsim.lab.sizes import Sizes
from labsim.machines.driver import VIRTIO_SERIAL_LENGTH_MAX, BootSource, DiskSpec, MachineSpec, NicSpec
from labsim.model.machine_group import Disk, MachineGroup, Nic


def machine_spec(name: str, group: MachineGroup, sizes: Sizes, entropy: Entropy) -> MachineSpec:
    """The machine `name` of a group."""
    cpus, memory_mib, disk_bytes = sizes.of(group)
    disks = group.all_disks()
    described = zip(_names(disks), disks, disk_bytes, strict=True)
    return MachineSpec(
        name=name,
        uuid=entropy.uuid(f"machine-uuid/{name}"),
        cpus=cpus,
        memory_mib=memory_mib,
        disks=tuple(_disk(name, disk_name, disk, size_bytes) for disk_name, disk, size_bytes in described),
        nics=tuple(NicSpec(mac=nic.mac or _mac(entropy, name, index)) for index, nic in enumerate(group.nics)),
        boot_order=tuple(BootSource(source) for source in group.boot_order),
        firmware=group.firmware,
        tpm=group.tpm,
        cd_bus=group.cd or "",
        product_uuid=group.product_uuid or "",
        board_serial=group.board_serial or "",
    )


def new_disk(machine: str, disk: Disk, present: Sequence[str]) -> DiskSpec:
    """A disk to plug in, under the next free name beside those that are present."""
    kind = "vd" if disk.bus == "virtio" else "sd"
    name = next(kind + letter for letter in ascii_lowercase if kind + letter not in present)
    return _disk(machine, name, disk, disk.size)


def new_nic(machine: str, nic: Nic, present: Sequence[str], entropy: Entropy) -> NicSpec:
    """A card to plug in, beside those that are present."""
    return NicSpec(mac=nic.mac or _mac(entropy, machine, len(present)))


def host_id_of(spec: MachineSpec) -> str:
    """The id under which the machine's agent registers."""
    return host_id(spec.board_serial, spec.product_uuid or spec.uuid, [nic.mac for nic in spec.nics])


def _names(disks: list[Disk]) -> list[str]:
    """What Linux calls them: by bus, counted for each kind of name."""
    count = {"vd": 0, "sd": 0, "nvme": 0}
    names = []
    for disk in disks:
        kind = {"virtio": "vd", "nvme": "nvme"}.get(disk.bus, "sd")
        number, count[kind] = count[kind], count[kind] + 1
        names.append(f"nvme{number}n1" if kind == "nvme" else kind + ascii_lowercase[number])
    return names


def _disk(machine: str, name: str, disk: Disk, size_bytes: int) -> DiskSpec:
    return DiskSpec(
        name=name,
        size_bytes=size_bytes,
        serial=disk.serial or f"{machine}-{name}"[-VIRTIO_SERIAL_LENGTH_MAX:],
        rotational=disk.bus != "nvme" and disk.rotational is not False,
        bus=disk.bus,
        wwn=disk.wwn or "",
    )


def _mac(entropy: Entropy, machine: str, index: int) -> str:
    """An address of QEMU's range. The first of a machine is derived as it always was."""
    raw = entropy.bytes(f"mac/{machine}" if index == 0 else f"mac/{machine}/{index}", 3)
    return f"52:54:00:{raw[0]:02x}:{raw[1]:02x}:{raw[2]:02x}"
