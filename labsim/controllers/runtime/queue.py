"""A controller's work queue: each key at most once, never twice at a time, with back-off and delays."""

from __future__ import annotations

from collections.abc import Callable

from labsim.clock import Scheduler, Timer
from labsim.controllers.runtime.effects import Key

# client-go's item exponential failure rate limiter.
BACK_OFF_BASE_S = 0.005
BACK_OFF_CAP_S = 1000.0
MOST_DOUBLINGS = 18  # more of them are over the cap, and in the end no float any more


class WorkQueue:
    """Keys to reconcile. `run(key, cause)` is called on the world's thread, at most `workers` keys at a time."""

    def __init__(self, scheduler: Scheduler, run: Callable[[Key, str], None], workers: int) -> None:
        self._scheduler = scheduler
        self._run = run
        self._workers = workers
        self._waiting: dict[Key, str] = {}
        self._running: set[Key] = set()
        self._again: dict[Key, str] = {}
        self._delayed: dict[Key, Timer] = {}
        self._failures: dict[Key, int] = {}
        self._pumping = False

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits to run now; delayed keys do not count."""
        return not self._waiting and not self._running

    def add(self, key: Key, cause: str) -> None:
        if key in self._running:
            self._again.setdefault(key, cause)
        elif key not in self._waiting:
            self._waiting[key] = cause
            self._schedule_pump()

    def add_after(self, key: Key, delay_s: float, cause: str) -> None:
        """Add later; of two delays for one key the earlier counts, as in client-go's delaying queue."""
        if delay_s <= 0:
            self.add(key, cause)
            return
        due_s = self._scheduler.now() + delay_s
        present = self._delayed.get(key)
        if present is not None:
            if present.when_s <= due_s:
                return
            present.cancel()

        def fire() -> None:
            self._delayed.pop(key, None)
            self.add(key, cause)

        self._delayed[key] = self._scheduler.call_at(due_s, fire, "requeue")

    def succeeded(self, key: Key) -> None:
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: Key, cause: str) -> None:
        """Put the key back after its back-off: 5 ms, doubled at each failure in a row, 1000 s at most."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._finish(key)
        doublings = min(failures, MOST_DOUBLINGS)
        self.add_after(key, min(BACK_OFF_BASE_S * 2**doublings, BACK_OFF_CAP_S), cause)

    def _finish(self, key: Key) -> None:
        self._running.discard(key)
        cause = self._again.pop(key, None)
        if cause is not None:
            self._waiting[key] = cause
        if self._waiting:
            self._schedule_pump()

    def _schedule_pump(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._scheduler.call_soon(self._pump)

    def _pump(self) -> None:
        waiting, running = self._waiting, self._running
        while waiting and len(running) < self._workers:
            key = next(iter(waiting))
            cause = waiting.pop(key)
            running.add(key)
            self._run(key, cause)
        self._pumping = False
