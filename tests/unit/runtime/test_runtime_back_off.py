"""Back-off of a key that never succeeds."""

from __future__ import annotations

from itertools import pairwise

from labsim.clock import EventQueue
from labsim.controllers.runtime.effects import Key
from labsim.controllers.runtime.queue import BACK_OFF_CAP_S, WorkQueue


def test_a_key_that_fails_for_ever_keeps_its_longest_back_off() -> None:
    events = EventQueue()
    key = Key("", "broken")
    moments: list[float] = []

    def run(failing: Key, _cause: str) -> None:
        moments.append(events.now())
        queue.failed(failing, "error")
        if len(moments) % 2:
            queue.add(failing, "an event")  # does not wait for the back-off

    queue = WorkQueue(events, run, workers=1)
    queue.add(key, "start")
    while len(moments) < 2200:
        events.run_next(float("inf"))
    gaps = [after - before for before, after in pairwise(moments)]
    assert max(gaps) == BACK_OFF_CAP_S
