"""The one place that reads the machine's own clock and chance, for edges: sockets, hypervisors, commands.

Nothing in the core imports this: in-world time comes from a Clock, in-world chance from an Entropy.
"""

from __future__ import annotations

import os
import time


def real_s() -> float:
    """Epoch seconds of this machine."""
    return time.time()  # noqa: TID251


def monotonic_s() -> float:
    """Seconds on a clock that never goes back; for deadlines of real I/O."""
    return time.monotonic()  # noqa: TID251


def wait_s(seconds: float) -> None:
    """Block this thread; for edges only."""
    time.sleep(seconds)  # noqa: TID251


def os_random(count: int) -> bytes:
    """Bytes from the operating system, for keys and tokens that must not be guessable and never enter the history."""
    return os.urandom(count)  # noqa: TID251
