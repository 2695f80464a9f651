"""One clock for everything: a queue of what is due, and two ways for time to pass.

Virtual time jumps to the next due call and moves only inside waits. Paced time is real time multiplied by a speed,
for worlds with a participant that lives outside the process. Times are in-world epoch seconds everywhere.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

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

    def post_at(self, when_s: float, call: Callable[[Any], None], argument: Any) -> None:
        """Like `call_at`, for what nobody will cancel: `call(argument)` is due."""
        ...

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call when the present call has returned, before anything else."""
        ...


class EventQueue:
    """The due calls of a world, and its current time. Whoever drives it decides how time passes."""

    def __init__(self, start_s: float = VIRTUAL_EPOCH_S) -> None:
        self._now_s = start_s
        # When, order, what to call with what; a Timer stands in place of the argument where there is nothing to call.
        self._heap: list[tuple[float, int, Callable[[Any], None] | None, Any]] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._order = itertools.count()
        self.executed = 0

    def now(self) -> float:
        return self._now_s

    def call_at(self, when_s: float, call: Callable[[], None], label: str = "") -> Timer:
        if when_s < self._now_s:
            when_s = self._now_s
        timer = Timer(when_s, call, label)
        heapq.heappush(self._heap, (when_s, next(self._order), None, timer))
        return timer

    def call_later(self, delay_s: float, call: Callable[[], None], label: str = "") -> Timer:
        return self.call_at(self._now_s + delay_s, call, label)

    def post_at(self, when_s: float, call: Callable[[Any], None], argument: Any) -> None:
        if when_s < self._now_s:
            when_s = self._now_s
        heapq.heappush(self._heap, (when_s, next(self._order), call, argument))

    def call_soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    def next_due_s(self) -> float | None:
        """When the next call is due; None when there is none."""
        if self._soon:
            return self._now_s
        self._drop_cancelled()
        return self._heap[0][0] if self._heap else None

    def advance_to(self, when_s: float) -> None:
        """Move the clock forward without running anything; never backward, never past a due call."""
        due_s = self.next_due_s()
        limit_s = when_s if due_s is None else min(when_s, due_s)
        self._now_s = max(self._now_s, limit_s)

    def run_next(self, until_s: float) -> bool:
        """Run the next call that is due at or before `until_s`, moving the clock to it, and what it wants called soon.

        False: nothing was due.
        """
        soon = self._soon
        if not soon:
            heap = self._heap
            if heap and heap[0][2] is None:
                self._drop_cancelled()
            if not heap or heap[0][0] > until_s:
                return False
            due_s, _, call, argument = heapq.heappop(heap)
            if due_s > self._now_s:
                self._now_s = due_s
            self.executed += 1
            if call is None:
                argument.call()
            else:
                call(argument)
        while soon:
            soon.popleft()()
        return True

    def _drop_cancelled(self) -> None:
        heap = self._heap
        while heap and heap[0][2] is None and heap[0][3].cancelled:
            heapq.heappop(heap)
