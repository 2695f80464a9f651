"""Archives in the "newc" format of cpio (magic 070701), which the kernel unpacks as its initial file system.

Written by hand because the order, the inode numbers and the times must be the same for the same input, and because the
guest has the standard library only. Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

from __future__ import annotations

import dataclasses
import stat
import zlib
from collections.abc import Iterable, Iterator

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
HEADER_BYTES = 110
IGNITION_NAME = "config.ign"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One file: `mode` with its type bits, `device` (major, minor) for device nodes; a link's target is its data."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str, permissions: int = 0o755) -> Entry:
    return Entry(path, stat.S_IFDIR | permissions)


def plain_file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    return Entry(path, stat.S_IFREG | permissions, data)


def symbolic_link(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    return Entry(path, stat.S_IFCHR | permissions, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The entries in the given order, owned by root, dated 1970; the trailer is included, no padding behind it."""
    parts: list[bytes] = []
    for number, entry in enumerate(entries, start=1):
        parts.append(_record(number, entry))
    parts.append(_record(0, Entry(TRAILER, 0)))
    return b"".join(parts)


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = MAGIC + b"".join(b"%08X" % value for value in fields)
    return pad4(header + name) + pad4(entry.data)


def pad4(data: bytes) -> bytes:
    """`data` with zeros up to a multiple of four bytes."""
    return data + b"\0" * (-len(data) % 4)


def read_archive(data: bytes) -> Iterator[Entry]:
    """The entries of one uncompressed archive up to its trailer. Raises ValueError on anything else."""
    position = 0
    while True:
        header = data[position : position + HEADER_BYTES]
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise ValueError(f"no newc header at offset {position}")
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name_end = position + HEADER_BYTES + name_size
        path = data[position + HEADER_BYTES : name_end - 1].decode()
        start = name_end + (-(HEADER_BYTES + name_size) % 4)
        if start + size > len(data):
            raise ValueError(f"the archive ends inside {path}")
        if path == TRAILER:
            return
        yield Entry(path, mode, bytes(data[start : start + size]), (fields[9], fields[10]))
        position = start + size + (-size % 4)


def gunzip_member(data: bytes, limit_bytes: int = 64 << 20) -> bytes:
    """The content of the gzip member at the start of `data`; what follows it is ignored. Raises ValueError."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = stream.decompress(data, limit_bytes)
    except zlib.error as error:
        raise ValueError(f"no gzip data: {error}") from error
    if not stream.eof:
        raise ValueError(f"the gzip data is cut short or holds more than {limit_bytes} bytes")
    return content


def ignition_of_area(area: bytes) -> bytes | None:
    """The Ignition in an embed area: one archive with `config.ign`, gzip or plain. None where the area is empty.

    Raises ValueError where the area holds something else. An xz archive, which newer installers may write, is not
    opened here: the guest has no xz.
    """
    if not area.strip(b"\0"):
        return None
    content = area if area.startswith(MAGIC) else gunzip_member(area)
    for entry in read_archive(content):
        if entry.path.lstrip("./") == IGNITION_NAME:
            return entry.data
    raise ValueError(f"the archive holds no {IGNITION_NAME}")


def ignition_of_initrd(initrd: bytes) -> bytes | None:
    """The Ignition that a pxe-initrd carries: the last gzip archive with `config.ign`, looked for from the end.

    An initrd is a row of archives, each with a compression of its own, so the tail is searched for a gzip header
    that opens to a right archive; a chance match does not open.
    """
    end = len(initrd)
    while True:
        start = initrd.rfind(b"\x1f\x8b\x08", 0, end)
        if start < 0:
            return None
        try:
            return ignition_of_area(initrd[start:])
        except ValueError:
            end = start
