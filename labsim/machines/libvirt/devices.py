"""Where each disk of a machine sits: target name, bus, address, as libvirt's XML and QEMU's options want it. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase

from labsim.machines.driver import DiskSpec, MachineSpec

DISK_ALIAS, CD_ALIAS = "ua-disk0", "ua-cd"
NVME_SLOT = 8  # libvirt does not know of these devices: a place on the root bus that it gives to nobody


@dataclasses.dataclass(frozen=True, slots=True)
class PlacedDisk:
    """A disk of libvirt's. `place` is its number on its controller; the CD drive is 0 on one of scsi and sata."""

    spec: DiskSpec
    path: str
    alias: str
    target: str
    place: int

    @property
    def wwn(self) -> str:
        return self.spec.wwn.removeprefix("0x")


def placed_disks(disks: Sequence[DiskSpec], paths: Sequence[Path]) -> list[PlacedDisk]:
    """Every disk but the NVMe ones, which libvirt cannot emulate before 11.5 (`nvme_arguments`)."""
    letters = {"vd": iter(ascii_lowercase), "sd": iter(ascii_lowercase[1:])}  # the CD drive is sda
    placed = []
    for index, (disk, path) in enumerate(zip(disks, paths, strict=True)):
        if disk.bus == "nvme":
            continue
        kind = "vd" if disk.bus == "virtio" else "sd"
        letter = next(letters[kind])
        placed.append(PlacedDisk(disk, str(path), f"ua-disk{index}", kind + letter, ascii_lowercase.index(letter)))
    return placed


def qemu_arguments(spec: MachineSpec, paths: Sequence[Path], disk_order: int) -> list[str]:
    """What libvirt has no element for: NVMe disks, and a system UUID beside the machine's own."""
    arguments: list[str] = []
    for index, (disk, path) in enumerate(zip(spec.disks, paths, strict=True)):
        if disk.bus == "nvme":
            arguments += nvme_arguments(disk, path, index, disk_order if index == 0 else 0)
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


def with_boot_index(argument: str, alias: str, order: int) -> str:
    """A QEMU argument with the place of the device `alias` in the boot order changed; any other one as it is."""
    if f"id={alias}," not in argument:
        return argument
    return re.sub(r"bootindex=\d+", f"bootindex={order}", argument)
