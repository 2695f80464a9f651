"""The boot entry that a reclaim adds to an installed disk: the downloaded kernel and initrd, started once.

The boot loader of the disk is that of the hybrid image (isolinux), which starts files of the image's ISO 9660 tree by
name. Nothing can be added to that tree, so the image brings the two files of the entry, with no kernel in them, and a
menu that has the entry already. To write the entry is to write kernel and initrd behind the record store, to let the
directory records of the two files point there, to put the command line into the space that the menu reserves for it,
and, last of all, to make the entry the menu's default. A cut before that last write leaves a disk that starts as
before.
"""

from __future__ import annotations

import errno
import os
import struct

from labsim.guest.iso9660 import SECTOR_BYTES, IsoReader

MENU_PATH = "/isolinux/isolinux.cfg"
KERNEL_PATH, INITRD_PATH = "/boot/discovery/vmlinuz", "/boot/discovery/initrd"
RESERVED = b"room for what a reclaimed machine downloads\n"
ENTRY = "00-assisted-discovery"  # the entry's name on a real node
OWN_ENTRY = "discovery"
RECLAIM_MARKER = "labsim.boot=rcl"
ARGUMENTS_BYTES = 1024
_DEFAULT = b"\ndefault "


def menu_lines(fixed_arguments: str) -> list[str]:
    """What the image's menu holds for the entry; `fixed_arguments` are those that every boot of the image has."""
    arguments = f"initrd={INITRD_PATH} {fixed_arguments} {RECLAIM_MARKER} "
    return [f"label {ENTRY}", f"  kernel {KERNEL_PATH}", f"  append {arguments}{' ' * ARGUMENTS_BYTES}"]


def default_line(entry: str = OWN_ENTRY) -> str:
    """The menu's choice, as long for each entry: it is changed in place."""
    return f"default {entry.ljust(len(ENTRY))}"


def write_entry(
    fileno: int, iso: IsoReader, area_offset: int, *, kernel: bytes, initrd: bytes, command_line: str
) -> None:
    """Write the entry on the disk behind `fileno` and make it the default. `area_offset`: where kernel and initrd go.

    Raises OSError where the image has no place for an entry, where a command line is too long, or the disk too small.
    """
    arguments = command_line.encode()
    if not iso.has(KERNEL_PATH) or not iso.has(INITRD_PATH):
        raise OSError(errno.EINVAL, "the image on this disk has no place for a boot entry")
    if len(arguments) > ARGUMENTS_BYTES:
        raise OSError(errno.E2BIG, f"a command line of {len(arguments)} bytes does not fit into {ARGUMENTS_BYTES}")
    initrd_offset = area_offset + -(-len(kernel) // SECTOR_BYTES) * SECTOR_BYTES
    size = os.lseek(fileno, 0, os.SEEK_END)
    if size < initrd_offset + len(initrd):
        raise OSError(errno.ENOSPC, f"the disk has {size} bytes, {initrd_offset + len(initrd)} are needed")
    set_default(fileno, iso, OWN_ENTRY)  # while an earlier entry is written over
    for path, data, offset in ((KERNEL_PATH, kernel, area_offset), (INITRD_PATH, initrd, initrd_offset)):
        _write(fileno, data, offset)
        os.fsync(fileno)
        _point_to(fileno, iso.find(path).record_offset, offset, len(data))
    start = _find_in_menu(fileno, iso, f" {RECLAIM_MARKER} ".encode())
    _write(fileno, arguments.ljust(ARGUMENTS_BYTES), start)
    os.fsync(fileno)
    set_default(fileno, iso, ENTRY)


def set_default(fileno: int, iso: IsoReader, entry: str) -> None:
    """Let the menu start this entry. Raises OSError where the menu has no choice."""
    start = _find_in_menu(fileno, iso, _DEFAULT)
    _write(fileno, entry.encode().ljust(len(ENTRY)), start)
    os.fsync(fileno)


def default_entry(fileno: int, iso: IsoReader) -> str:
    """The entry that the menu starts; "" where it has no choice."""
    try:
        start = _find_in_menu(fileno, iso, _DEFAULT)
    except OSError:
        return ""
    return os.pread(fileno, len(ENTRY), start).decode("ascii", "replace").strip()


def _find_in_menu(fileno: int, iso: IsoReader, what: bytes) -> int:
    """The place on the disk right behind `what` in the menu."""
    extent = iso.find(MENU_PATH)
    position = os.pread(fileno, extent.length, extent.offset).find(what)
    if position < 0:
        raise OSError(errno.EINVAL, f"the boot menu holds no {what.decode().strip()!r}")
    return extent.offset + position + len(what)


def _point_to(fileno: int, record_offset: int, offset: int, length: int) -> None:
    """Change a file's directory record (ECMA-119 9.1): extent and size, each in both byte orders."""
    sector = offset // SECTOR_BYTES
    _write(fileno, struct.pack("<I", sector) + struct.pack(">I", sector), record_offset + 2)
    _write(fileno, struct.pack("<I", length) + struct.pack(">I", length), record_offset + 10)


def _write(fileno: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fileno, view, offset)
        view, offset = view[written:], offset + written
