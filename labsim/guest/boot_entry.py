"""The boot entry that a reclaim adds to an installed disk: the downloaded kernel and initrd, started once.

The boot loader of the disk is that of the hybrid image (isolinux under a BIOS, GRUB under UEFI), which starts files of
the image's ISO 9660 tree by name. Nothing can be added to that tree, so the image brings the two files of the entry,
with no kernel in them, and a menu of each loader that has the entry already. To write the entry is to write kernel and
initrd behind the record store, to let the directory records of the two files point there, to put the command line into
the space that the menus reserve for it, and, last of all, to make the entry the menus' default. A cut before that last
write leaves a disk that starts as before.
"""

from __future__ import annotations

import errno
import os
import re
import struct

from labsim.guest.iso9660 import SECTOR_BYTES, IsoReader

MENU_PATH, GRUB_MENU_PATH = "/isolinux/isolinux.cfg", "/EFI/redhat/grub.cfg"
MENU_PATHS = (GRUB_MENU_PATH, MENU_PATH)
KERNEL_PATH, INITRD_PATH = "/boot/discovery/vmlinuz", "/boot/discovery/initrd"
RESERVED = b"room for what a reclaimed machine downloads\n"
ENTRY = "00-assisted-discovery"  # the entry's name on a real node
GRUB_ENTRY = "assisted-discovery-00"  # GRUB would take a name that begins with a digit for a number of the menu
OWN_ENTRY = "discovery"
RECLAIM_MARKER = "labsim.boot=rcl"
ARGUMENTS_BYTES = 1024
_DEFAULT = {MENU_PATH: b"\ndefault ", GRUB_MENU_PATH: b"\nset default="}
_GRUB_SPECIAL = re.compile(r"[{}|&$;<>'\"\\]")


def menu_lines(fixed_arguments: str) -> list[str]:
    """What the image's menu holds for the entry; `fixed_arguments` are those that every boot of the image has."""
    arguments = f"initrd={INITRD_PATH} {fixed_arguments} {RECLAIM_MARKER} "
    return [f"label {ENTRY}", f"  kernel {KERNEL_PATH}", f"  append {arguments}{' ' * ARGUMENTS_BYTES}"]


def grub_menu_lines(fixed_arguments: str) -> list[str]:
    """The same for GRUB's menu."""
    return [
        f"menuentry {ENTRY} --id {GRUB_ENTRY} {{",
        f"  linux {KERNEL_PATH} {fixed_arguments} {RECLAIM_MARKER} {' ' * ARGUMENTS_BYTES}",
        f"  initrd {INITRD_PATH}",
        "}",
    ]


def default_line(menu_path: str = MENU_PATH, entry: str = OWN_ENTRY) -> str:
    """A menu's choice, as long for each entry: it is changed in place."""
    return _DEFAULT[menu_path].decode().strip("\n") + entry.ljust(len(ENTRY))


def grub_words(arguments: str) -> str:
    """Kernel arguments as GRUB's script wants them: a word with a character that means something there is quoted."""
    words = arguments.split()
    return " ".join("'" + word.replace("'", "'\\''") + "'" if _GRUB_SPECIAL.search(word) else word for word in words)


def write_entry(
    fileno: int, iso: IsoReader, area_offset: int, *, kernel: bytes, initrd: bytes, command_line: str
) -> None:
    """Write the entry on the disk behind `fileno` and make it the default. `area_offset`: where kernel and initrd go.

    Raises OSError where the image has no place for an entry, where a command line is too long, or the disk too small.
    """
    if not iso.has(KERNEL_PATH) or not iso.has(INITRD_PATH):
        raise OSError(errno.EINVAL, "the image on this disk has no place for a boot entry")
    arguments = {path: _arguments(path, command_line) for path in _menus(iso)}
    too_long = max(map(len, arguments.values()))
    if too_long > ARGUMENTS_BYTES:
        raise OSError(errno.E2BIG, f"a command line of {too_long} bytes does not fit into {ARGUMENTS_BYTES}")
    initrd_offset = area_offset + -(-len(kernel) // SECTOR_BYTES) * SECTOR_BYTES
    size = os.lseek(fileno, 0, os.SEEK_END)
    if size < initrd_offset + len(initrd):
        raise OSError(errno.ENOSPC, f"the disk has {size} bytes, {initrd_offset + len(initrd)} are needed")
    set_default(fileno, iso, OWN_ENTRY)  # while an earlier entry is written over
    for path, data, offset in ((KERNEL_PATH, kernel, area_offset), (INITRD_PATH, initrd, initrd_offset)):
        _write(fileno, data, offset)
        os.fsync(fileno)
        _point_to(fileno, iso.find(path).record_offset, offset, len(data))
    for path, text in arguments.items():
        start = _find_in_menu(fileno, iso, path, f" {RECLAIM_MARKER} ".encode())
        _write(fileno, text.ljust(ARGUMENTS_BYTES), start)
    os.fsync(fileno)
    set_default(fileno, iso, ENTRY)


def _menus(iso: IsoReader) -> list[str]:
    return [path for path in MENU_PATHS if iso.has(path)]


def _arguments(menu_path: str, command_line: str) -> bytes:
    return (grub_words(command_line) if menu_path == GRUB_MENU_PATH else command_line).encode()


def set_default(fileno: int, iso: IsoReader, entry: str) -> None:
    """Let the menus start this entry. Raises OSError where a menu has no choice."""
    for path in _menus(iso):
        start = _find_in_menu(fileno, iso, path, _DEFAULT[path])
        name = GRUB_ENTRY if (path, entry) == (GRUB_MENU_PATH, ENTRY) else entry
        _write(fileno, name.encode().ljust(len(ENTRY)), start)
    os.fsync(fileno)


def default_entry(fileno: int, iso: IsoReader) -> str:
    """The entry that the menu starts; "" where it has no choice."""
    try:
        start = _find_in_menu(fileno, iso, MENU_PATH, _DEFAULT[MENU_PATH])
    except OSError:
        return ""
    return os.pread(fileno, len(ENTRY), start).decode("ascii", "replace").strip()


def _find_in_menu(fileno: int, iso: IsoReader, menu_path: str, what: bytes) -> int:
    """The place on the disk right behind `what` in a menu."""
    extent = iso.find(menu_path)
    position = os.pread(fileno, extent.length, extent.offset).find(what)
    if position < 0:
        raise OSError(errno.EINVAL, f"{menu_path} holds no {what.decode().strip()!r}")
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
