"""What a controller has written itself and its cache may not have heard of yet."""

from __future__ import annotations

from labsim.controllers.runtime.effects import Key
from labsim.model.objects import Object, name_of, namespace_of

# Passes may follow each other faster than their echoes come back.
REMEMBERED = 8


def _revision(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


class OwnWrites:
    """The last writes per object: to go on from what a write returned, and to know its echo in the watch.

    What somebody else wrote before such a write has an event of its own, which is no echo.
    """

    def __init__(self) -> None:
        self._latest: dict[Key, Object] = {}
        self._echoes: dict[Key, tuple[str, ...]] = {}

    def wrote(self, *written: Object, echoes: bool = True) -> None:
        """These are what the writes of one pass returned, in order; `echoes=False` for one whose event matters."""
        key = Key(namespace_of(written[0]), name_of(written[0]))
        self._latest[key] = written[-1]
        if not echoes:
            return
        revisions = [obj["metadata"]["resourceVersion"] for obj in written]
        self._echoes[key] = (*self._echoes.get(key, ()), *revisions)[-REMEMBERED:]

    def fresher(self, key: Key, cached: Object | None) -> Object | None:
        """The cached object, or what was written after it and is still on its way."""
        latest = self._latest.get(key)
        if latest is None:
            return cached
        if cached is None or _revision(cached) >= _revision(latest):
            del self._latest[key]
            return cached
        return latest

    def is_echo(self, obj: Object) -> bool:
        """Whether an event brings back a write of this controller's own, and so nothing new."""
        key = Key(namespace_of(obj), name_of(obj))
        return obj["metadata"]["resourceVersion"] in self._echoes.get(key, ())

    def forget(self, key: Key) -> None:
        self._latest.pop(key, None)
        self._echoes.pop(key, None)
