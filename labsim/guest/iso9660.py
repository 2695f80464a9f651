"""Finds files in an ISO 9660 image: where they lie and how long they are. Nothing is written and nothing mounted.

Reads the primary volume (ECMA-119) with Rock Ridge names where there are any, so `/images/ignition.img` is found under
the same path in an image of ours and in an RHCOS one. Used by the guest on its boot medium and by labsim.discovery.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator

SECTOR_BYTES = 2048
DESCRIPTOR_OFFSET = 16 * SECTOR_BYTES
DIRECTORY_LIMIT_BYTES = 4 << 20  # a larger directory is damage, not content

ReadAt = Callable[[int, int], bytes]  # (offset, length) -> bytes


class NotAnIso(ValueError):
    """The image has no primary volume descriptor, or a directory of it is damaged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """Where a file or directory lies, in bytes from the start of the image; `record_offset`: where that is written."""

    offset: int
    length: int
    folder: bool = False
    record_offset: int = 0


class IsoReader:
    """The file tree of an image. `read_at` may be a disk's, so only what is asked for is read."""

    def __init__(self, read_at: ReadAt) -> None:
        self._read_at = read_at
        descriptor = read_at(DESCRIPTOR_OFFSET, SECTOR_BYTES)
        if descriptor[:7] != b"\x01CD001\x01":
            raise NotAnIso("no ISO 9660 volume descriptor at sector 16")
        self.volume_id = descriptor[40:72].decode("ascii", "replace").rstrip()
        self.size_bytes: int = struct.unpack_from("<I", descriptor, 80)[0] * SECTOR_BYTES
        offset, length = struct.unpack_from("<I4xI", descriptor, 158)
        self._root = Extent(offset * SECTOR_BYTES, length, folder=True)
        self._folders: dict[int, dict[str, Extent]] = {}

    def find(self, path: str) -> Extent:
        """Where `path` lies. Raises FileNotFoundError."""
        here = self._root
        for name in path.strip("/").split("/"):
            entries = self._entries(here) if here.folder else {}
            found = entries.get(name) or entries.get(name.upper())
            if found is None:
                raise FileNotFoundError(f"{path} is not in the image")
            here = found
        return here

    def has(self, path: str) -> bool:
        try:
            self.find(path)
        except FileNotFoundError:
            return False
        return True

    def read(self, path: str, limit_bytes: int = 64 << 20) -> bytes:
        """The content of a file. Raises FileNotFoundError, or ValueError where it is longer than the limit."""
        extent = self.find(path)
        if extent.length > limit_bytes:
            raise ValueError(f"{path} has {extent.length} bytes, more than {limit_bytes}")
        return self._read_at(extent.offset, extent.length)

    def names(self, path: str = "/") -> list[str]:
        """The names in a directory, sorted."""
        here = self._root if not path.strip("/") else self.find(path)
        return sorted(self._entries(here))

    def _entries(self, directory: Extent) -> dict[str, Extent]:
        known = self._folders.get(directory.offset)
        if known is None:
            if directory.length > DIRECTORY_LIMIT_BYTES:
                raise NotAnIso(f"a directory claims {directory.length} bytes")
            data = self._read_at(directory.offset, directory.length)
            known = self._folders[directory.offset] = dict(self._records(data, directory.offset))
        return known

    def _records(self, data: bytes, start: int) -> Iterator[tuple[str, Extent]]:
        position = 0
        while position < len(data):
            length = data[position]
            if length == 0:  # a record does not cross a sector: go on in the next
                position = (position // SECTOR_BYTES + 1) * SECTOR_BYTES
                continue
            record, record_offset = data[position : position + length], start + position
            position += length
            if len(record) < 34 or 33 + record[32] > len(record):
                raise NotAnIso("a directory record is cut short")
            name = record[33 : 33 + record[32]]
            if name in (b"\0", b"\1"):  # the directory itself and its parent
                continue
            sector, size = struct.unpack_from("<I4xI", record, 2)
            extent = Extent(sector * SECTOR_BYTES, size, bool(record[25] & 2), record_offset)
            system_use = record[33 + len(name) + (1 - len(name) % 2) :]
            yield self._rock_ridge_name(system_use) or _plain_name(name), extent

    def _rock_ridge_name(self, system_use: bytes) -> str:
        """The NM entries of a record's system use area, followed into its continuation. "" where there are none."""
        name = b""
        for _ in range(8):  # continuations of a damaged image may form a ring
            continuation = b""
            position = 0
            while position + 4 <= len(system_use):
                signature, length = system_use[position : position + 2], system_use[position + 2]
                if length < 4:
                    break
                field = system_use[position : position + length]
                if signature == b"NM":
                    name += field[5:]
                elif signature == b"CE" and len(field) >= 28:
                    sector, offset, size = struct.unpack_from("<I4xI4xI", field, 4)
                    continuation = self._read_at(sector * SECTOR_BYTES + offset, min(size, SECTOR_BYTES))
                position += length
            if not continuation:
                break
            system_use = continuation
        return name.decode("utf-8", "replace")


def _plain_name(name: bytes) -> str:
    """A name without Rock Ridge: upper case, without its version and a bare dot at the end."""
    return name.decode("ascii", "replace").split(";")[0].rstrip(".").upper()


def reader_of(fileno_read_at: ReadAt) -> IsoReader | None:
    """A reader, or None where the medium holds no ISO image or cannot be read."""
    try:
        return IsoReader(fileno_read_at)
    except (NotAnIso, OSError):
        return None
