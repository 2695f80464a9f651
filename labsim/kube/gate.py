"""Holds back what a watch would deliver: for a while, or above a revision. Order is kept whatever happens.

Kubernetes promises a watch its events in the order of their revisions, each once, and nothing about when they come: not
relative to other watches, and not relative to the answers of the client's own writes. So a gate never lets one item
overtake another of the same watch, and may do everything else.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Generic, TypeVar

from labsim.clock import Scheduler, Timer

T = TypeVar("T")
Lag = Callable[[int], float]  # in-world seconds that what is of a revision is late; 0 or more


class Gate(Generic[T]):
    """What stands between a watch and who reads it. All calls are made on the world's thread."""

    __slots__ = ("_deliver", "_frozen_at", "_held", "_lag", "_scheduler", "_timer")

    def __init__(self, scheduler: Scheduler, deliver: Callable[[T], None]) -> None:
        self._scheduler = scheduler
        self._deliver = deliver
        self._lag: Lag | None = None
        self._frozen_at: int | None = None
        self._held: collections.deque[tuple[float, int, T]] = collections.deque()  # when it is due, its revision, it
        self._timer: Timer | None = None

    @property
    def held(self) -> int:
        """How much is held back now."""
        return len(self._held)

    def set(self, lag: Lag | None, frozen_at: int | None) -> None:
        """Hold back what comes by `lag`, and everything above the revision `frozen_at`; None for neither.

        What is held is let go as far as the new setting allows, at once where nothing lags any more.
        """
        self._lag, self._frozen_at = lag, frozen_at
        if lag is None:
            now_s = self._scheduler.now()
            self._held = collections.deque((min(due_s, now_s), revision, item) for due_s, revision, item in self._held)
        self._release()

    def send(self, revision: int, item: T) -> None:
        """Let an item through when its time has come, and all before it are through. Revisions never go backwards."""
        now_s = self._scheduler.now()
        due_s = now_s if self._lag is None else now_s + self._lag(revision)
        if not self._held and due_s <= now_s and self._passes(revision):
            self._deliver(item)
            return
        self._held.append((due_s, revision, item))
        self._await_first()

    def close(self) -> None:
        """Nothing comes any more; what is held is dropped."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _passes(self, revision: int) -> bool:
        return self._frozen_at is None or revision <= self._frozen_at

    def _release(self) -> None:
        now_s = self._scheduler.now()
        while self._held and self._held[0][0] <= now_s and self._passes(self._held[0][1]):
            self._deliver(self._held.popleft()[2])
        self._await_first()

    def _await_first(self) -> None:
        """Look again when the first item is due; what is frozen is due when somebody thaws it."""
        if self._timer is not None or not self._held or not self._passes(self._held[0][1]):
            return
        self._timer = self._scheduler.call_at(self._held[0][0], self._due, "gate")

    def _due(self) -> None:
        self._timer = None
        self._release()
