"""One clock for everything: a queue of what is due, and two ways for time to pass.

Virtual time jumps to the next due call and moves only inside waits. Paced time is real time multiplied by a speed,
for worlds with a participant that lives outside the process. Times are in-world epoch seconds everywhere.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Protocol

VIRTUAL_EPOCH_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z: every virtual world starts here


class Clock(Protocol):
    """Tells the in-world time."""

    def now(self) -> float: ...


class Timer:
    """A call that is due at `when_s`; `cancel` makes it never happen."""

    __slots__ = ("call", "cancelled", "label", "when_s")

    def __init__(self, when_s: float, call: Callable[[], None], label: str) -> None:
        self.when_s = when_s
        self.call = call
        self.label = label
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Scheduler(Clock, Protocol):
    """A clock that also calls back. Calls due at the same instant come in the order they were asked for."""

    def call_at(self, when_s: float, call: Callable[[], None], label: str = "") -> Timer: ...
    def call_later(self, delay_s: float, call: Callable[[], None], label: str = "") -> Timer: ...


class EventQueue:
    """The due calls of a world, and its current time. Whoever drives it decides how time passes."""

    def __init__(self, start_s: float = VIRTUAL_EPOCH_S) -> None:
        self._now_s = start_s
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self.executed = 0

    def now(self) -> float:
        return self._now_s

    def call_at(self, when_s: float, call: Callable[[], None], label: str = "") -> Timer:
        if when_s < self._now_s:
            when_s = self._now_s
        timer = Timer(when_s, call, label)
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        return timer

    def call_later(self, delay_s: float, call: Callable[[], None], label: str = "") -> Timer:
        return self.call_at(self._now_s + delay_s, call, label)

    def next_due_s(self) -> float | None:
        """When the next call is due; None when there is none."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def advance_to(self, when_s: float) -> None:
        """Move the clock forward without running anything; never backward, never past a due call."""
        due_s = self.next_due_s()
        limit_s = when_s if due_s is None else min(when_s, due_s)
        self._now_s = max(self._now_s, limit_s)

    def run_next(self, until_s: float) -> bool:
        """Run the next call that is due at or before `until_s`, moving the clock to it. False: nothing was due."""
        heap = self._heap
        while heap and heap[0][2].cancelled:
            heapq.heappop(heap)
        if not heap or heap[0][0] > until_s:
            return False
        due_s, _, timer = heapq.heappop(heap)
        if due_s > self._now_s:
            self._now_s = due_s
        self.executed += 1
        timer.call()
        return True
