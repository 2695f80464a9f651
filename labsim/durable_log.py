"""A file that state is appended to, so that it outlives its process: framed records, each with a checksum.

The file begins with MAGIC, which names the version of the format. A frame is the length of its payload and the CRC-32
of it (two little-endian 32-bit numbers), then the payload. What was appended is kept once `sync` has returned.

A crash can tear only what was written after the last sync: the end of the file. Such an end is cut off at the next
opening. A frame that is wrong with whole ones behind it was kept and then damaged: that is refused, not cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from labsim.errors import LabError

MAGIC = b"labsim-log 1\n"
PAYLOAD_BYTES_MAX = 1 << 30
_HEAD = struct.Struct("<II")
_CHUNK_BYTES = 1 << 20


class LogFailed(LabError):
    """The log cannot be written or read: nothing may be acknowledged any more."""


class DurableLog:
    """A log that is open for appending, by one process at a time."""

    def __init__(self, path: Path, descriptor: int, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes  # with what is not yet synced
        self._descriptor = descriptor

    @classmethod
    def made(cls, path: Path, payloads: Iterable[bytes]) -> DurableLog:
        """A new log with these payloads, in the place of whatever stood there: whole and kept, or not there at all."""
        temporary = path.with_name(f"{path.name}.new")
        with _failing(f"writing {path}"):
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _lock(descriptor, path)
                size = _write(descriptor, MAGIC)
                for chunk in _chunks(payloads):
                    size += _write(descriptor, chunk)
                os.fsync(descriptor)
                temporary.replace(path)
                _sync_folder(path.parent)
            except BaseException:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
        return cls(path, descriptor, size)

    @classmethod
    def opened(cls, path: Path) -> tuple[DurableLog, list[bytes]]:
        """A log that is there, and its payloads; a torn end is cut off. Raises LogFailed where it cannot be used."""
        with _failing(f"reading {path}"):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            try:
                _lock(descriptor, path)
                content = path.read_bytes()
                payloads, end = _payloads(content, path)
                if end < len(content):
                    os.ftruncate(descriptor, end)
                    os.fsync(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        return cls(path, descriptor, end), payloads

    def append(self, payload: bytes) -> None:
        """Write a payload to the end; it is kept once `sync` has returned."""
        with _failing(f"writing {self.path}"):
            self.size_bytes += _write(self._descriptor, _framed(payload))

    def sync(self) -> None:
        """Return when everything that was appended is on the disk."""
        with _failing(f"writing {self.path}"):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file. Quiet when called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _framed(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _chunks(payloads: Iterable[bytes]) -> Iterator[bytes]:
    """The frames of payloads, in pieces that are worth a write."""
    waiting: list[bytes] = []
    size = 0
    for payload in payloads:
        frame = _framed(payload)
        waiting.append(frame)
        size += len(frame)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _payloads(content: bytes, path: Path) -> tuple[list[bytes], int]:
    """What a log holds, and where its whole frames end."""
    if not content.startswith(MAGIC):
        known = content[: len(MAGIC)].partition(b"\n")[0].decode("latin-1")
        raise LogFailed(
            f"{path} is no log of this version (it begins with {known!r})",
            hint=f"this labsim reads {MAGIC.decode().strip()!r}; restart the lab with the version that made it",
        )
    found = []
    at = len(MAGIC)
    while at < len(content):
        frame = _frame_at(content, at)
        if frame is None:
            if _whole_frame_behind(content, at):
                raise LogFailed(
                    f"{path} is damaged at byte {at}: whole records follow a broken one",
                    hint="restore the file from a copy, or labsim down removes the lab",
                )
            break
        found.append(frame)
        at += _HEAD.size + len(frame)
    return found, at


def _frame_at(content: bytes, at: int) -> bytes | None:
    """The payload of the frame that begins here; None where there is no whole one."""
    if at + _HEAD.size > len(content):
        return None
    length, checksum = _HEAD.unpack_from(content, at)
    start = at + _HEAD.size
    if not 0 < length <= PAYLOAD_BYTES_MAX or start + length > len(content):
        return None
    payload = content[start : start + length]
    return payload if zlib.crc32(payload) == checksum else None


def _whole_frame_behind(content: bytes, at: int) -> bool:
    """Whether the frame that should follow a broken one is whole: then what broke was no torn end."""
    if at + _HEAD.size > len(content):
        return False
    length, _ = _HEAD.unpack_from(content, at)
    behind = at + _HEAD.size + length
    return behind < len(content) and _frame_at(content, behind) is not None


def _write(descriptor: int, data: bytes) -> int:
    written = 0
    view = memoryview(data)
    while written < len(data):
        written += os.write(descriptor, view[written:])
    return written


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        raise LogFailed(f"{path} is in use by another process", hint="labsim status shows which labs are up") from held


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _failing(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LogFailed(
            f"{doing}: {error.strerror or error}",
            hint="make room on the disk, or mend it: everything that was acknowledged is kept",
        ) from error
