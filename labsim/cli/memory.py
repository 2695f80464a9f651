"""The memory of a command that lives on: how seldom it is searched for cycles, and how large its pages are.

A large lab is some hundred megabytes of small objects that are met in no order. With pages of 4 KiB the processor
looks up a page's place for most of them, which costs more the deeper the machine is virtualised; with pages of 2 MiB
the places of all of them are at hand. The kernel makes such pages of memory that it is asked to (madvise), or of all;
where it makes none, or is another one, nothing is done.
"""

from __future__ import annotations

import gc
import mmap
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

THP_FOLDER = Path("/sys/kernel/mm/transparent_hugepage")
MADV_COLLAPSE = 25  # of linux/mman.h, since 6.1: make huge pages of what is there already; older kernels refuse
GROWTH_BYTES = 32 << 20  # of memory in use, before the new part is looked after
DENSE = 0.9  # a mapping that is less full than that would grow by being made of huge pages

Advise = Callable[[int, int, int], None]  # start, length, advice


def live_long() -> None:
    """For a command that lives on with what it has imported by now.

    A lab makes objects by the million and hardly a cycle: the collector's walks are for little, and so they are rare.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    advise = _system_advise()
    if advise is not None:
        gc.callbacks.append(HugePages(advise, Path("/proc/self")).collected)


class HugePages:
    """Asks for huge pages as the process grows: a callback of the collector, which runs as objects are made."""

    def __init__(self, advise: Advise, process: Path) -> None:
        """`process` is the folder of this process in /proc."""
        self._advise = advise
        self._process = process
        self._page_bytes = huge_page_bytes()
        self._seen_bytes = self._used_bytes()

    def collected(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "stop" and self._used_bytes() - self._seen_bytes >= GROWTH_BYTES:
            self.look_after()

    def look_after(self) -> None:
        """Make huge pages of every mapping that is full."""
        for start, end in dense_mappings((self._process / "smaps").read_text()):
            start = -(-start // self._page_bytes) * self._page_bytes
            length = end // self._page_bytes * self._page_bytes - start
            if length > 0:
                self._advise(start, length, mmap.MADV_HUGEPAGE)
                self._advise(start, length, MADV_COLLAPSE)
        self._seen_bytes = self._used_bytes()

    def _used_bytes(self) -> int:
        pages = int((self._process / "statm").read_text().split()[1])
        return pages * mmap.PAGESIZE


def dense_mappings(smaps: str) -> Iterator[tuple[int, int]]:
    """Start and end of the mappings in a text like /proc/self/smaps that are this process's own writable memory, and
    nearly full. A thread's stack is not."""
    place: tuple[int, int] | None = None
    for line in smaps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            own = words[1] == "rw-p" and words[4] == "0" and words[5:] in ([], ["[heap]"])
            start, _, end = words[0].partition("-")
            place = (int(start, 16), int(end, 16)) if own else None
        elif place is not None and words[0] == "Rss:":
            if int(words[1]) * 1024 >= DENSE * (place[1] - place[0]):
                yield place
            place = None


def huge_page_bytes() -> int:
    """The size of a huge page; 0 where the kernel makes none."""
    try:
        chosen = (THP_FOLDER / "enabled").read_text()
        return 0 if "[never]" in chosen else int((THP_FOLDER / "hpage_pmd_size").read_text())
    except (OSError, ValueError):
        return 0


def _system_advise() -> Advise | None:
    """madvise(2) of this system; None where it would be no use. A refusal is none of our business."""
    if sys.platform != "linux" or not huge_page_bytes():
        return None
    import ctypes

    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def advise(start: int, length: int, advice: int) -> None:
        madvise(start, length, advice)

    return advise
