"""A bootable ISO of a few hundred bytes that tells on the serial port what a machine started from.

For checking a driver or a hypervisor without an operating system: started from the CD it writes `C`, started from a
disk that it has installed itself on, `D`. Real-mode x86 for BIOS firmware, assembled by hand and explained by line.
"""

from __future__ import annotations

import io
from pathlib import Path

import pycdlib

FROM_CD, FROM_DISK = b"C\n", b"D\n"
_SECTOR = 512
_ORIGIN = 0x7C00  # where firmware loads a boot sector, of a CD too
_DISK_SECTOR_AT = _ORIGIN + _SECTOR

_SETUP = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ec0"  # mov es, ax
    "8ed8"  # mov ds, ax
    "8ed0"  # mov ss, ax
    "bc007c"  # mov sp, 0x7c00
)
_RESET = bytes.fromhex(
    "baf90c"  # mov dx, 0xcf9   the chipset's reset control
    "b006"  # mov al, 6       a full reset
    "ee"  # out dx, al
)
_HALT = bytes.fromhex("faf4ebfd")  # cli; hlt; jmp to the hlt


def _write(text: bytes) -> bytes:
    """Write to the first serial port."""
    return bytes.fromhex("baf803") + b"".join(b"\xb0" + bytes([letter]) + b"\xee" for letter in text)


def _install() -> bytes:
    """Write the sector behind this one to the first sector of the first disk, with the firmware's help."""
    return (
        bytes.fromhex(
            "b80103"  # mov ax, 0x0301  write one sector
            "b90100"  # mov cx, 1       cylinder 0, sector 1
            "ba8000"  # mov dx, 0x80    head 0, first disk
        )
        + b"\xbb"
        + _DISK_SECTOR_AT.to_bytes(2, "little")  # mov bx
        + b"\xcd\x13"  # int 0x13
    )


def _sector(code: bytes) -> bytes:
    return code.ljust(_SECTOR - 2, b"\0") + b"\x55\xaa"


def write_probe_iso(path: Path, *, install: bool = False) -> Path:
    """Write the ISO to `path`. It stays on after its letter; with `install` it makes the first disk bootable and
    resets the machine from inside, so that the machine's own boot order decides what comes next."""
    ending = _install() + _RESET + _HALT if install else _HALT
    image = _sector(_SETUP + _write(FROM_CD) + ending) + _sector(_SETUP + _write(FROM_DISK) + _HALT)
    image = image.ljust(2048, b"\0")
    iso = pycdlib.PyCdlib()
    iso.new(vol_ident="LABSIM-PROBE")
    try:
        iso.add_fp(io.BytesIO(image), len(image), "/PROBE.;1")
        iso.add_eltorito("/PROBE.;1", bootcatfile="/BOOT.CAT;1", media_name="noemul", boot_load_size=4)
        iso.write(str(path))
    finally:
        iso.close()
    return path
