"""JSON on the guest's connections: the standard library's reader and writer, or those that a carrier has.

The guest imports nothing else. A carrier that lives in a process with a faster pair names it once, with `use`; what
is read and meant by what is written is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def _written(document: Any) -> bytes:
    return json.dumps(document).encode()


read: Callable[[bytes | str], Any] = json.loads  # raises ValueError on rubbish
write: Callable[[Any], bytes] = _written


def use(reader: Callable[[bytes | str], Any], writer: Callable[[Any], bytes]) -> None:
    """Read and write with these from now on."""
    global read, write
    read, write = reader, writer
