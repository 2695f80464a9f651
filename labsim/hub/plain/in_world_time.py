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
    """Translates, by `in_world_of`: epoch seconds of the machine's clock to in-world seconds. `now` is in-world."""

    def __init__(self, in_world_of: Callable[[float], float], now: Callable[[], float]) -> None:
        self._in_world_of = in_world_of
        self._now = now

    def shown(self, obj: Object) -> Object:
        """The object, which is changed, with its server's times in the world's."""
        metadata = obj["metadata"]
        for field in SERVER_TIMES:
            written = metadata.get(field)
            if written:
                in_world_s = self._in_world_of(parse_timestamp(written))
                metadata[field] = timestamp(min(in_world_s, self._now()))  # clocks differ: nothing is yet to be
        return obj


def without_server_fields(obj: Object) -> Object:
    """The object as a client sends it: what only the server writes is left out, which keeps it as it is."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in SERVER_FIELDS}
    return {**obj, "metadata": metadata}
