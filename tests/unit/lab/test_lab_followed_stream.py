"""A watch of a simulated machine: what comes, when it ends, and what a cut network makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labsim.clock import EventQueue
from labsim.entropy import Delays, Entropy
from labsim.guest.effects import ConnectionFailed, NextPart, Task
from labsim.guest.scheduler import Done, TaskScheduler
from labsim.lab.followed_stream import FollowedStream
from labsim.machines.simulated.part_reader import PartReader


class Stream:
    """A watch by hand."""

    timeout_s: float | None = 300.0

    def __init__(self) -> None:
        self.pending: list[bytes | None] = []
        self.closed = False
        self._wake: Callable[[], Any] = lambda: None

    def push(self, part: bytes | None) -> None:
        self.pending.append(part)
        self._wake()

    def read(self) -> bytes | None:
        parts, self.pending = self.pending, []
        return b"".join(part for part in parts if part) if parts != [None] else None

    def on_ready(self, callback: Callable[[], Any]) -> None:
        self._wake = callback
        if self.pending:
            callback()

    def close(self) -> None:
        self.closed = True

    def expire(self) -> None:
        self.push(None)

    def keep_alive(self) -> None: ...


class Follower:
    """A machine that follows a stream to its end."""

    def __init__(self) -> None:
        self.queue = EventQueue()
        self.stream = Stream()
        self.is_cut = False
        self.heard: list[bytes | str] = []
        rest = FollowedStream(self.stream, lambda: self.is_cut, self.queue)
        delays = Delays(Entropy("follower"), "part", 0.01, 0.02)

        def program() -> Task[None]:
            while not self.heard or self.heard[-1] != b"":
                try:
                    self.heard.append((yield NextPart(rest)))
                except ConnectionFailed as error:
                    self.heard.append(str(error))
                    return

        def perform(effect: Any, _name: str, done: Done) -> None:
            PartReader(effect.rest, done, self.queue, delays, lambda: True)

        self.tasks = TaskScheduler(perform)
        self.tasks.start(program(), "watch")

    def run_for(self, seconds: float) -> None:
        end_s = self.queue.now() + seconds
        while self.queue.run_next(end_s):
            pass
        self.queue.advance_to(end_s)


def test_what_comes_together_is_one_part_and_nothing_is_lost_between_two() -> None:
    follower = Follower()
    follower.stream.push(b"a")
    follower.stream.push(b"b")
    follower.run_for(1)
    follower.stream.push(b"c")
    follower.run_for(1)
    assert follower.heard == [b"ab", b"c"]


def test_it_ends_when_its_time_is_over() -> None:
    follower = Follower()
    follower.run_for(299)
    assert follower.heard == []
    follower.run_for(2)
    assert follower.heard == [b""]


@pytest.mark.parametrize("when", ["before", "on the way"])
def test_nothing_comes_through_a_cut_network(when: str) -> None:
    follower = Follower()
    follower.is_cut = when == "before"
    follower.stream.push(b"a")
    follower.is_cut = True
    follower.run_for(1)
    assert follower.heard == ["connection reset by peer"]
    assert follower.stream.closed


def test_a_machine_that_went_down_closes_it_with_the_next_that_comes() -> None:
    follower = Follower()
    follower.tasks.stop()
    follower.stream.push(b"a")
    follower.run_for(1)
    assert follower.heard == []
    assert follower.stream.closed
