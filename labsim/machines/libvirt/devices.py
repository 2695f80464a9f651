"""Where each disk of a machine sits: target name, bus, address, as libvirt's XML and QEMU's options want it. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

from labsim.machines.driver import BootSource, DiskSpec, MachineSpec

CD_ALIAS = "ua-cd"  # disks are ua-disk0, ua-disk1 and so on
NVME_SLOT = 8  # libvirt does not know of these devices: a place on the root bus that it gives to nobody


@dataclasses.dataclass(frozen=True, slots=True)
class PlacedDisk:
    """A disk of libvirt's. `place` is its number on its controller; the CD drive is 0 on one of scsi and sata."""

    spec: DiskSpec
    path: str
    alias: str
    target: str
    place: int
    boot_order: int = 0  # 0: firmware does not start from it

    @property
    def wwn(self) -> str:
        return self.spec.wwn.removeprefix("0x")


def boot_places(order: Sequence[BootSource], disks: Sequence[str]) -> dict[str, int]:
    """The place of each device in the boot order, by alias: all disks in turn, since a system may be on any of them."""
    drives = [CD_ALIAS, *disks] if order[0] is BootSource.DISCOVERY_ISO else [*disks, CD_ALIAS]
    return {alias: place for place, alias in enumerate(drives, start=1)}


def placed_disks(disks: Sequence[DiskSpec], paths: Sequence[Path], places: Mapping[str, int]) -> list[PlacedDisk]:
    """Every disk but the NVMe ones, which libvirt cannot emulate before 11.5 (`nvme_arguments`)."""
    letters = {"vd": iter(ascii_lowercase), "sd": iter(ascii_lowercase[1:])}  # the CD drive is sda
    placed = []
    for index, (disk, path) in enumerate(zip(disks, paths, strict=True)):
        if disk.bus == "nvme":
            continue
        kind = "vd" if disk.bus == "virtio" else "sd"
        letter = next(letters[kind])
        alias, place = f"ua-disk{index}", ascii_lowercase.index(letter)
        placed.append(PlacedDisk(disk, str(path), alias, kind + letter, place, places[alias]))
    return placed


def qemu_arguments(spec: MachineSpec, paths: Sequence[Path], places: Mapping[str, int]) -> list[str]:
    """What libvirt has no element for: NVMe disks, and a system UUID beside the machine's own."""
    arguments: list[str] = []
    for index, (disk, path) in enumerate(zip(spec.disks, paths, strict=True)):
        if disk.bus == "nvme":
            arguments += nvme_arguments(disk, path, index, places.get(f"ua-disk{index}", 0))
    if spec.product_uuid:
        arguments += ["-smbios", f"type=1,uuid={spec.product_uuid}"]
    return arguments


def nvme_arguments(disk: DiskSpec, path: Path, index: int, order: int) -> Iterator[str]:
    """A controller with one namespace. The namespace has the alias: it is what firmware starts from."""
    escaped = str(path).replace(",", ",,")
    yield "-drive"
    yield f"if=none,id=drive-disk{index},file={escaped},format=raw,cache=unsafe,discard=unmap"
    yield "-device"
    yield f"nvme,id=nvme{index},serial={disk.serial},bus=pcie.0,addr=0x{NVME_SLOT + index:x}"
    wwn = f",eui64={disk.wwn}" if disk.wwn else ""
    place = f",bootindex={order}" if order else ""
    yield "-device"
    yield f"nvme-ns,id=ua-disk{index},bus=nvme{index},drive=drive-disk{index},nsid=1{wwn}{place}"


def disk_in_boot_order(argument: str) -> str:
    """The alias of the disk that a QEMU argument puts into the boot order; "" for any other argument."""
    match = re.search(r"id=(ua-disk\d+),.*bootindex=", argument)
    return match[1] if match else ""


def with_boot_index(argument: str, alias: str, order: int) -> str:
    """A QEMU argument with the place of the device `alias` in the boot order changed; any other one as it is."""
    if f"id={alias}," not in argument:
        return argument
    return re.sub(r"bootindex=\d+", f"bootindex={order}", argument)
