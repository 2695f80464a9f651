"""Times that a real API server writes, as a paced world reads them.

A cluster's clock runs at its own speed, a paced world's at another; what the server wrote into an object's metadata is
shown in the world's time, so that "since its deletion" means the same for every component.
"""

from __future__ import annotations

from collections.abc import Callable

from labsim.model.objects import Object, parse_timestamp, timestamp

SERVER_TIMES = ("creationTimestamp", "deletionTimestamp")
SERVER_FIELDS = (*SERVER_TIMES, "deletionGracePeriodSeconds", "selfLink")


class InWorldTime:
    """Translates for a world that began at `start_s` (real and in-world the same) and runs `speed` times as fast."""

    def __init__(self, start_s: float, speed: float, now: Callable[[], float]) -> None:
        self._start_s = start_s
        self._speed = speed
        self._now = now

    def shown(self, obj: Object) -> Object:
        """The object, which is changed, with its server's times in the world's."""
        metadata = obj["metadata"]
        for field in SERVER_TIMES:
            written = metadata.get(field)
            if written:
                metadata[field] = timestamp(self._in_world_s(parse_timestamp(written)))
        return obj

    def _in_world_s(self, real_s: float) -> float:
        """Never later than now; what was before the world began keeps its time."""
        if real_s < self._start_s:
            return real_s
        return min(self._start_s + (real_s - self._start_s) * self._speed, self._now())


def without_server_fields(obj: Object) -> Object:
    """The object as a client sends it: what only the server writes is left out, which keeps it as it is."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in SERVER_FIELDS}
    return {**obj, "metadata": metadata}
