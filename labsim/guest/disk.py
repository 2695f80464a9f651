"""The disk of an installed machine: a copy of the hybrid discovery ISO, which starts as a disk too, and a record store.

    0 ................ image end, rounded up to 1 MiB, plus 1 MiB ........................ + 16 MiB ..................
    | boot sector, boot loader, kernel, initrd (the ISO as it is) | record store: Ignition and /var/lib | boot entry |

The image is the simplest thing that really boots, under a BIOS and, with the EFI system partition that is part of it,
under UEFI: no partition, file system or boot loader has to be made in the guest. The kernel cannot tell whether the
same image was read as CD or as disk, so one word of the disk's boot menus (there is one for each boot loader) says it,
changed in place because all its values have the same length:

    labsim.boot=iso   the discovery system: a CD, or the image written to a stick by a person
    labsim.boot=dsk   the installed system; its Ignition lies in the record store

A reclaim writes the kernel and the initrd that it downloaded behind the record store and makes them the menu's default
for one boot (labsim.guest.boot_entry), which says labsim.boot=rcl; the Ignition is in that initrd.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from labsim.guest import boot_entry
from labsim.guest.boot_entry import MENU_PATH, MENU_PATHS
from labsim.guest.iso9660 import IsoReader, reader_of
from labsim.guest.record_store import STORE_BYTES, RecordStore

MARKER = b"labsim.boot="
BOOT_ISO, BOOT_DISK = b"iso", b"dsk"
IDENTITY_PATH = "/labsim/image.json"
IGNITION_RECORD = "boot/ignition"
SURROUNDINGS_PREFIX = "lab"  # + path: files that the lab, not the Ignition of the installed system, gives a machine
FILE_PREFIX = "file"  # + path
MIB = 1 << 20
SECTOR_BYTES = 512
# What firmware needs to start the disk: a BIOS and UEFI the first sector, code and partitions, and UEFI also takes the
# boot record of the ISO behind it (El Torito, sector 17 of 2048 bytes), on a disk as on a CD.
BOOT_SECTORS = ((0, SECTOR_BYTES), (17 * 2048, 2048))
COPY_BYTES = MIB
BLOCK_DEVICES = "/sys/class/block"


def store_offset(image_bytes: int) -> int:
    """Where the record store begins behind an image of this size."""
    return (image_bytes + MIB - 1) // MIB * MIB + MIB


def entry_offset(image_bytes: int) -> int:
    """Where kernel and initrd of a reclaim's boot entry begin."""
    return store_offset(image_bytes) + STORE_BYTES


class DiskImage:
    """An open disk or CD that holds our image. Use `open_image`; close() when done."""

    def __init__(self, path: str, fileno: int, iso: IsoReader) -> None:
        self.path = path
        self.fileno = fileno
        self.iso = iso

    def close(self) -> None:
        os.close(self.fileno)

    @property
    def image_bytes(self) -> int:
        return self.iso.size_bytes

    def store(self) -> RecordStore | None:
        return RecordStore.open(self.fileno, store_offset(self.image_bytes))

    def boot_entry(self) -> str:
        """The entry that the disk's boot menu starts."""
        return boot_entry.default_entry(self.fileno, self.iso)

    def set_boot_entry(self, entry: str) -> None:
        """Let the disk's boot menu start an entry. Raises OSError where it cannot be written."""
        boot_entry.set_default(self.fileno, self.iso, entry)

    def boot_marker(self) -> bytes:
        """iso or dsk: what the image's own entry starts; empty where the menu holds no such word."""
        extent = self.iso.find(MENU_PATH)
        menu = os.pread(self.fileno, extent.length, extent.offset)
        _, found, rest = menu.partition(MARKER)
        return rest[:3] if found else b""

    def set_boot_marker(self, value: bytes) -> None:
        """Change the word in the disk's boot menus. Raises OSError where it cannot be written."""
        for path in MENU_PATHS:
            if not self.iso.has(path):
                continue
            extent = self.iso.find(path)
            menu = os.pread(self.fileno, extent.length, extent.offset)
            position = menu.find(MARKER)
            if position < 0:
                raise OSError(errno.EINVAL, f"{path} of {self.path} is no boot menu of ours")
            os.pwrite(self.fileno, value, extent.offset + position + len(MARKER))
        os.fsync(self.fileno)


def open_image(path: str, *, writable: bool = False) -> DiskImage | None:
    """Open a device or file that holds an image of ours, or None."""
    try:
        fileno = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError:
        return None
    iso = reader_of(lambda offset, length: os.pread(fileno, length, offset))
    if iso is None or not iso.has(IDENTITY_PATH) or not iso.has(MENU_PATH):
        os.close(fileno)
        return None
    return DiskImage(path, fileno, iso)


def block_devices() -> list[str]:
    """Whole disks and CDs of this machine, CDs first, by name."""
    found = []
    for name in sorted(os.listdir(BLOCK_DEVICES)):
        if os.path.exists(f"{BLOCK_DEVICES}/{name}/partition") or name.startswith(("loop", "ram", "zram")):
            continue
        found.append(f"/dev/{name}")
    return sorted(found, key=lambda path: (not path.startswith("/dev/sr"), path))


def installed_disk(devices: list[str]) -> DiskImage | None:
    """The first disk, CDs apart, that holds an installed system: our image as a disk's, and a record store."""
    for device in devices:
        if device.startswith("/dev/sr"):
            continue
        image = open_image(device, writable=True)
        if image is None:
            continue
        if image.boot_marker() == BOOT_DISK and image.store() is not None:
            return image
        image.close()
    return None


class DiskWriter:
    """Installs the system on a disk: the answer to WriteDisk and SetBootEntry.

    The first part takes the boot sectors away and the last one writes them, so a disk whose writing was cut short does
    not start. `surroundings` are files that the lab gives the machine whatever system runs on it (/etc/hosts and the
    pace of its clock): the pointer Ignition of an installed node does not repeat them.
    """

    def __init__(self, devices: list[str], surroundings: dict[str, bytes]) -> None:
        self._devices = devices
        self._surroundings = surroundings
        self._boot_sectors: dict[str, list[bytes]] = {}

    def write_part(self, device: str, part: int, parts: int, ignition: bytes) -> None:
        """Write one part. Raises OSError where there is no such disk, no image to copy, or no room."""
        target = str(Path(device).resolve())
        source = self._source(target)
        try:
            if part == 0:
                self._begin(source, target)
            if source.path != target:
                self._copy(source, target, part, parts)
            if part == parts - 1:
                self._finish(source, target, ignition)
        finally:
            source.close()

    def set_boot_entry(self, kernel: bytes, initrd: bytes, command_line: str) -> None:
        """Make the installed disk start this kernel and initrd once. Raises OSError where nothing is installed here."""
        disk = installed_disk(self._devices)
        if disk is None:
            raise OSError(errno.ENODEV, "this machine was not started from a disk of its own")
        try:
            place = entry_offset(disk.image_bytes)
            boot_entry.write_entry(
                disk.fileno, disk.iso, place, kernel=kernel, initrd=initrd, command_line=command_line
            )
        finally:
            disk.close()

    def _source(self, target: str) -> DiskImage:
        """The image to install: a CD or another disk, else the target's own (a reclaimed machine has no CD)."""
        for device in [*(device for device in self._devices if device != target), target]:
            image = open_image(device)
            if image is not None:
                return image
        seen = ", ".join(self._devices) or "no block device at all"
        raise OSError(errno.ENOMEDIUM, f"no medium of this machine holds the system to install (there are: {seen})")

    def _begin(self, source: DiskImage, target: str) -> None:
        needed = store_offset(source.image_bytes) + STORE_BYTES
        fileno = os.open(target, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.lseek(fileno, 0, os.SEEK_END)
            if size < needed:
                raise OSError(errno.ENOSPC, f"{target} has {size} bytes, {needed} are needed")
            self._boot_sectors[target] = _boot_sectors(source)
            for offset, length in BOOT_SECTORS:
                os.pwrite(fileno, bytes(length), offset)
            os.fsync(fileno)
        finally:
            os.close(fileno)

    def _copy(self, source: DiskImage, target: str, part: int, parts: int) -> None:
        """Copy this part's share of the image, whole MiB, without its boot sectors."""
        blocks = (source.image_bytes + COPY_BYTES - 1) // COPY_BYTES
        fileno = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for block in range(blocks * part // parts, blocks * (part + 1) // parts):
                start = block * COPY_BYTES
                length = min(start + COPY_BYTES, source.image_bytes) - start
                data = os.pread(source.fileno, length, start)
                for offset, size in BOOT_SECTORS if block == 0 else ():
                    data = data[:offset] + bytes(size) + data[offset + size :]
                _write_all(fileno, data, start)
            os.fsync(fileno)
        finally:
            os.close(fileno)

    def _finish(self, source: DiskImage, target: str, ignition: bytes) -> None:
        fileno = os.open(target, os.O_RDWR | os.O_CLOEXEC)
        try:
            store = RecordStore.create(fileno, store_offset(source.image_bytes))
            store.put(IGNITION_RECORD, ignition, 0o600)
            for path, data in self._surroundings.items():
                store.put(SURROUNDINGS_PREFIX + path, data)
        finally:
            os.close(fileno)
        image = open_image(target, writable=True)
        if image is None:
            raise OSError(errno.EIO, f"{target} does not hold what was written to it")
        try:
            image.set_boot_marker(BOOT_DISK)
            for (offset, _), data in zip(
                BOOT_SECTORS, self._boot_sectors.pop(target, _boot_sectors(source)), strict=True
            ):
                _write_all(image.fileno, data, offset)
            os.fsync(image.fileno)
        finally:
            image.close()


def _boot_sectors(source: DiskImage) -> list[bytes]:
    return [os.pread(source.fileno, length, offset) for offset, length in BOOT_SECTORS]


def _write_all(fileno: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fileno, view, offset)
        view, offset = view[written:], offset + written
