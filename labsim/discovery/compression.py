"""gzip data that depends on its input alone: no time and no file name in the header."""

from __future__ import annotations

import gzip


def gzip_fixed(data: bytes, level: int = 6) -> bytes:
    return gzip.compress(data, compresslevel=level, mtime=0)
