"""Named bytes on a raw part of a disk, safe against a power cut: what outlives a reboot of an installed machine.

Two areas of the same size take turns. One is in use: a header, then appended records, each with a checksum and synced
before `put` returns; the last record of a name counts, and the first torn one is the end. When the area is full, what
still counts is written to the other one, which becomes the newer when its header, written last, is on the disk. A
record's checksum covers the generation of its area, so what an earlier use left behind the end is never a record.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from collections.abc import Mapping

MAGIC = b"LABSIMRS"
AREA_BYTES = 8 << 20
STORE_BYTES = 2 * AREA_BYTES
_HEADER = struct.Struct("<8sQI")  # magic, generation, crc of the two
_RECORD = struct.Struct("<IIIII")  # marker, name length, data length (all bits set: removed), mode, crc of the rest
_MARKER = 0x4C425253
_REMOVED = 0xFFFFFFFF
_HEADER_ROOM = 4096


class RecordStore:
    """The records of one disk. Every call is safe from any thread; a write is on the disk when it returns."""

    def __init__(self, fileno: int, offset: int) -> None:
        self._fileno = fileno
        self._offset = offset
        self._lock = threading.Lock()
        self._records: dict[str, tuple[int, bytes]] = {}
        self._generation = 0
        self._area = 0
        self._end = _HEADER_ROOM

    @classmethod
    def create(cls, fileno: int, offset: int) -> RecordStore:
        """An empty store; whatever was there is gone."""
        store = cls(fileno, offset)
        for area in (0, 1):
            store._write(area, 0, bytes(AREA_BYTES))
        store._rewrite({})
        return store

    @classmethod
    def open(cls, fileno: int, offset: int) -> RecordStore | None:
        """The store that lies there, or None."""
        store = cls(fileno, offset)
        generations = [store._generation_of(area) for area in (0, 1)]
        newest = max(generations)
        if newest == 0:
            return None
        store._generation, store._area = newest, generations.index(newest)
        store._load()
        return store

    def get(self, name: str) -> bytes | None:
        found = self._records.get(name)
        return None if found is None else found[1]

    def files(self, prefix: str) -> Mapping[str, tuple[int, bytes]]:
        """Mode and data of every record whose name begins with `prefix`, by name."""
        with self._lock:
            return {name: record for name, record in self._records.items() if name.startswith(prefix)}

    def put(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Keep `data` under `name`. Raises OSError (ENOSPC) where it does not fit even after a clean-up."""
        with self._lock:
            if self._records.get(name) == (mode, data):
                return
            self._append(name, mode, data)

    def remove(self, name: str) -> None:
        with self._lock:
            if name in self._records:
                self._append(name, 0, None)

    def _append(self, name: str, mode: int, data: bytes | None) -> None:
        records = {key: value for key, value in self._records.items() if key != name}
        if data is not None:
            records[name] = (mode, data)
        record = _encode(self._generation, name, mode, data)
        if self._end + len(record) > AREA_BYTES:
            self._rewrite(records)
            return
        self._write(self._area, self._end, record)
        self._end += len(record)
        self._records = records

    def _rewrite(self, records: dict[str, tuple[int, bytes]]) -> None:
        area, generation = 1 - self._area, self._generation + 1
        content = b"".join(_encode(generation, name, mode, data) for name, (mode, data) in records.items())
        if _HEADER_ROOM + len(content) > AREA_BYTES:
            raise OSError(errno.ENOSPC, "the machine's persistent files do not fit")
        self._write(area, 0, bytes(_HEADER_ROOM))
        self._write(area, _HEADER_ROOM, content)
        start = struct.pack("<8sQ", MAGIC, generation)
        self._write(area, 0, start + struct.pack("<I", zlib.crc32(start)))
        self._area, self._generation = area, generation
        self._end = _HEADER_ROOM + len(content)
        self._records = records

    def _write(self, area: int, position: int, data: bytes) -> None:
        start = self._offset + area * AREA_BYTES + position
        while data:
            written = os.pwrite(self._fileno, data, start)
            data, start = data[written:], start + written
        os.fsync(self._fileno)

    def _generation_of(self, area: int) -> int:
        header = os.pread(self._fileno, _HEADER.size, self._offset + area * AREA_BYTES)
        if len(header) < _HEADER.size:
            return 0
        magic, generation, checksum = _HEADER.unpack(header)
        right = magic == MAGIC and checksum == zlib.crc32(header[:16])
        return int(generation) if right else 0

    def _load(self) -> None:
        area = os.pread(self._fileno, AREA_BYTES, self._offset + self._area * AREA_BYTES)
        position = _HEADER_ROOM
        while True:
            found = _decode(self._generation, area, position)
            if found is None:
                break
            name, mode, data, position = found
            if data is None:
                self._records.pop(name, None)
            else:
                self._records[name] = (mode, data)
        self._end = position


def _checksum(generation: int, body: bytes, *fields: int) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<QIII", generation, *fields)))


def _encode(generation: int, name: str, mode: int, data: bytes | None) -> bytes:
    key = name.encode()
    body = key + (data or b"")
    length = _REMOVED if data is None else len(data)
    checksum = _checksum(generation, body, len(key), length, mode)
    return _RECORD.pack(_MARKER, len(key), length, mode, checksum) + body


def _decode(generation: int, area: bytes, position: int) -> tuple[str, int, bytes | None, int] | None:
    if position + _RECORD.size > len(area):
        return None
    marker, key_length, length, mode, checksum = _RECORD.unpack_from(area, position)
    start = position + _RECORD.size
    end = start + key_length + (0 if length == _REMOVED else length)
    if marker != _MARKER or end > len(area):
        return None
    body = area[start:end]
    if checksum != _checksum(generation, body, key_length, length, mode):
        return None
    data = None if length == _REMOVED else body[key_length:]
    return body[:key_length].decode(errors="replace"), mode, data, end
