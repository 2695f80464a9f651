"""One revision counter and one log: what an API server keeps.

Objects are kept as encoded, immutable revisions and decoded at most once; what is handed out is shared and must not be
changed. The log keeps the last LOG_REVISIONS_MAX revisions; a watch from before them is told that its start is gone.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator

import orjson

from labsim.model.kinds import Kind
from labsim.model.objects import Object

FIRST_REVISION = 100
LOG_REVISIONS_MAX = 20_000


class Revision:
    """One change of one object. `object` is the state after it (the last one, for a deletion)."""

    __slots__ = ("_object", "_previous_object", "data", "kind", "name", "namespace", "previous", "revision", "type")

    def __init__(
        self, revision: int, event: str, kind: Kind, namespace: str, name: str, data: bytes, previous: Revision | None
    ) -> None:
        self.revision = revision
        self.type = event
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.data = data
        self.previous: bytes | None = None if previous is None else previous.data
        self._object: Object | None = None
        self._previous_object: Object | None = None if previous is None else previous.object

    @property
    def object(self) -> Object:
        if self._object is None:
            self._object = orjson.loads(self.data)
        return self._object

    @property
    def previous_object(self) -> Object | None:
        return self._previous_object


Subscriber = Callable[[Revision], None]


class Store:
    """The objects of one API server."""

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self._objects: dict[Kind, dict[tuple[str, str], Revision]] = {}
        self._order: dict[Kind, list[tuple[str, str]]] = {}
        self._log: deque[Revision] = deque(maxlen=LOG_REVISIONS_MAX)
        self._subscribers: list[tuple[Kind | None, Subscriber]] = []

    def get(self, kind: Kind, namespace: str, name: str) -> Revision | None:
        return self._objects.get(kind, {}).get((namespace, name))

    def list(self, kind: Kind, namespace: str | None = None) -> Iterator[Revision]:
        """The latest revision of every object of a kind, by namespace and name."""
        objects = self._objects.get(kind, {})
        order = self._order.get(kind, [])
        start = 0 if namespace is None else bisect.bisect_left(order, (namespace, ""))
        for index in range(start, len(order)):
            key = order[index]
            if namespace is not None and key[0] != namespace:
                return
            yield objects[key]

    def put(self, kind: Kind, obj: Object) -> Revision:
        """Store an object under its next revision, which is written into its metadata."""
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        previous = self.get(kind, *key)
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        event = "ADDED" if previous is None else "MODIFIED"
        made = Revision(self.revision, event, kind, *key, orjson.dumps(obj), previous)
        self._objects.setdefault(kind, {})[key] = made
        if previous is None:
            bisect.insort(self._order.setdefault(kind, []), key)
        self._commit(made)
        return made

    def remove(self, kind: Kind, obj: Object) -> Revision:
        """Remove an object; `obj` is its last state, which gets the revision of the deletion."""
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        previous = self._objects[kind].pop(key)
        order = self._order[kind]
        del order[bisect.bisect_left(order, key)]
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        made = Revision(self.revision, "DELETED", kind, *key, orjson.dumps(obj), previous)
        self._commit(made)
        return made

    def kinds(self) -> list[Kind]:
        return [kind for kind, objects in self._objects.items() if objects]

    def since(self, revision: int, kind: Kind | None = None) -> list[Revision] | None:
        """Every later change, oldest first; None where the log no longer reaches back so far."""
        if self._log and revision < self._log[0].revision - 1:
            return None
        return [entry for entry in self._log if entry.revision > revision and kind in (None, entry.kind)]

    def subscribe(self, callback: Subscriber, kind: Kind | None = None) -> Callable[[], None]:
        entry = (kind, callback)
        self._subscribers.append(entry)
        return lambda: self._subscribers.remove(entry) if entry in self._subscribers else None

    def _commit(self, revision: Revision) -> None:
        self._log.append(revision)
        for kind, callback in tuple(self._subscribers):
            if kind is None or kind == revision.kind:
                callback(revision)
