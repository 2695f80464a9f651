"""How time passes in a world: in jumps, or in step with real time."""

from __future__ import annotations

from typing import Protocol

from labsim.edge_time import monotonic_s
from labsim.edge_time import real_s as clock_s


class Pace(Protocol):
    """Says how long to wait, really, until an in-world time has come."""

    @property
    def is_virtual(self) -> bool: ...

    def real_wait_s(self, when_s: float) -> float:
        """Real seconds from now until the in-world time `when_s`; 0 or less when it has come."""
        ...

    def floor_s(self, seconds: float, real_floor_s: float) -> float:
        """An in-world time-out that leaves at least so much real time, where time is real at all."""
        ...

    def in_world_s(self) -> float | None:
        """The in-world time by this pace; None where time moves only from event to event."""
        ...


class VirtualPace:
    """Every wait is over at once: an hour of installing takes milliseconds."""

    is_virtual = True

    def real_wait_s(self, when_s: float) -> float:
        del when_s
        return 0.0

    def floor_s(self, seconds: float, real_floor_s: float) -> float:
        del real_floor_s
        return seconds

    def in_world_s(self) -> float | None:
        return None


class RealPace:
    """In-world time is real time multiplied by `speed`, from `start_s` at construction."""

    is_virtual = False

    def __init__(self, start_s: float, speed: float) -> None:
        self.speed = speed
        self.start_s = start_s
        self._anchor_s = monotonic_s()

    def begin(self) -> None:
        """Let time pass from now on: what has been prepared until now has taken none."""
        self._anchor_s = monotonic_s()

    def in_world_of(self, real_s: float) -> float:
        """The in-world time at an epoch time of the machine's clock; as it is for one before the world began."""
        ago_s = monotonic_s() - self._anchor_s - (clock_s() - real_s)
        return self.start_s + ago_s * self.speed if ago_s > 0 else real_s

    def floor_s(self, seconds: float, real_floor_s: float) -> float:
        """An in-world time-out that leaves at least so much real time, however fast the world is."""
        return max(seconds, real_floor_s * self.speed)

    def real_wait_s(self, when_s: float) -> float:
        return (when_s - (self.in_world_s() or 0.0)) / self.speed

    def in_world_s(self) -> float | None:
        return self.start_s + (monotonic_s() - self._anchor_s) * self.speed
