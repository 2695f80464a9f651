"""Files as answers: whole, or the one range that the client asks for (RFC 9110, section 14)."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import BinaryIO

from labsim.model.http import Request, Response

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


class FileBody:
    """A stretch of an open file that is still to be sent."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file = file
        self._file.seek(start)
        self.remaining = length

    def read(self) -> bytes:
        """The next chunk; b"" at the end, or where the file is shorter than it was."""
        data = self._file.read(min(CHUNK_BYTES, self.remaining))
        self.remaining -= len(data)
        return data

    def close(self) -> None:
        self._file.close()


def file_answer(response: Response, request: Request) -> tuple[Response, FileBody | None]:
    """The head of the answer that sends `response.file`, and its body; 404, 416 and 304 have none."""
    assert response.file is not None
    try:
        file = open(response.file, "rb")  # noqa: SIM115 - closed with the body
    except OSError:
        return Response(status=404, headers={"content-type": "text/plain"}, body=b"404 page not found\n"), None
    state = os.fstat(file.fileno())
    size = state.st_size
    etag = f'"{state.st_mtime_ns:x}-{size:x}"'
    headers = {
        "content-type": "application/octet-stream",
        **response.headers,
        "accept-ranges": "bytes",
        "etag": etag,
    }
    wanted = request.headers.get("range", "")
    if "if-range" in request.headers and request.headers["if-range"] != etag:
        wanted = ""
    stretch = byte_range(wanted, size) if wanted and response.status == 200 else (0, size)
    if stretch is None:
        file.close()
        return Response(status=416, headers={"content-range": f"bytes */{size}"}), None
    start, length = stretch
    status = response.status
    if wanted and status == 200 and _RANGE.match(wanted):
        status = 206
        headers["content-range"] = f"bytes {start}-{start + length - 1}/{size}"
    if request.method == "HEAD":
        file.close()
        return dataclasses.replace(response, status=status, headers=headers | {"content-length": str(length)}), None
    return dataclasses.replace(response, status=status, headers=headers), FileBody(file, start, length)


def byte_range(wanted: str, size: int) -> tuple[int, int] | None:
    """(start, length) of a Range header: the whole file where it is not understood, None where it cannot be had."""
    match = _RANGE.match(wanted.strip())
    if match is None or match.group(0) == "bytes=-":
        return 0, size
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, length) if length else None
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if start >= size or end < start:
        return None
    return start, end - start + 1
