"""A watch that a simulated machine follows: it ends when its time is over, and breaks off with the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.clock import Scheduler
from labsim.guest.effects import ConnectionFailed
from labsim.model.http import BodyStream, TimedStream


class FollowedStream:
    """A BodyStream over the lab's network; `is_cut` tells whether nothing comes through any more."""

    def __init__(self, stream: BodyStream, is_cut: Callable[[], bool], scheduler: Scheduler) -> None:
        self._stream = stream
        self._is_cut = is_cut
        if isinstance(stream, TimedStream) and stream.timeout_s is not None:
            scheduler.call_later(stream.timeout_s, stream.expire, "watch ends")

    def read(self) -> bytes | None:
        """As BodyStream; raises ConnectionFailed where the machine is cut off from whoever sends."""
        if self._is_cut():
            self._stream.close()
            raise ConnectionFailed("connection reset by peer")
        return self._stream.read()

    def on_ready(self, callback: Callable[[], Any]) -> None:
        self._stream.on_ready(callback)

    def close(self) -> None:
        self._stream.close()
