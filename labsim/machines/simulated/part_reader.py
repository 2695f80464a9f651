"""A simulated machine that waits for more of a body which is made while it is sent."""

from __future__ import annotations

from collections.abc import Callable

from labsim.clock import Scheduler
from labsim.entropy import Delays
from labsim.guest.effects import ConnectionFailed
from labsim.guest.scheduler import Done
from labsim.machines.simulated.record import RecordedDone
from labsim.model.http import BodyStream


class PartReader:
    """One wait. What comes is on its way for a moment, and all that has come by then is one part.

    A machine that went down hears nothing any more: its stream is closed with the next that comes.
    """

    __slots__ = ("_coming", "_delays", "_done", "_hears", "_scheduler", "_stream")

    def __init__(
        self,
        stream: BodyStream,
        done: Done | RecordedDone,
        scheduler: Scheduler,
        delays: Delays,
        hears: Callable[[], bool],
    ) -> None:
        """hears: whether anything reaches the machine."""
        self._stream = stream
        self._done = done
        self._scheduler = scheduler
        self._delays = delays
        self._coming = False
        self._hears = hears
        stream.on_ready(self._ready)

    def _ready(self) -> None:
        if self._coming:
            return
        self._coming = True
        now_s = self._scheduler.now()
        self._scheduler.post_at(now_s + self._delays.of("part", now_s), self._deliver, None)

    def _deliver(self, _: None) -> None:
        if not self._done.wanted:
            self._stream.close()
            return
        if not self._hears():
            self._stream.close()
            self._done.error(ConnectionFailed("http2: client connection lost"))
            return
        try:
            part = self._stream.read()
        except ConnectionFailed as error:
            self._done.error(error)
            return
        if part == b"":
            self._coming = False
            return
        self._done(part or b"")
