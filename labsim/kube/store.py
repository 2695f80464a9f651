"""One revision counter and one log: what an API server keeps.

Objects are kept as encoded, immutable revisions and decoded at most once; what is handed out is shared and must not be
changed. The log keeps the last LOG_REVISIONS_MAX revisions, or LOG_BYTES_MAX of them; a watch from before them is told
that its start is gone. Only the latest state of an object stays decoded: older ones are decoded again for whoever asks.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Iterator

import orjson

from labsim.kube.field_index import FieldIndex
from labsim.model.kinds import Kind
from labsim.model.objects import Object

FIRST_REVISION = 100  # low numbers count as compacted: no client can have seen one
LOG_REVISIONS_MAX = 20_000
LOG_BYTES_MAX = 48 * 2**20  # an Agent has some 20 KB: twenty thousand of its states would be most of a lab's memory


class Revision:
    """One change of one object. `object` is the state after it (the last one, for a deletion)."""

    __slots__ = (
        "_object",
        "_previous_object",
        "data",
        "kind",
        "name",
        "namespace",
        "previous",
        "revision",
        "type",
        "views",
    )

    def __init__(
        self, revision: int, event: str, kind: Kind, namespace: str, name: str, obj: Object, previous: Revision | None
    ) -> None:
        """`obj` is what `data` says, decoded; it is shared from now on."""
        self.revision = revision
        self.type = event
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.data = orjson.dumps(obj)
        self.previous: bytes | None = None if previous is None else previous.data
        self.views: dict[object, Object] | None = None  # the object as other versions of its kind show it
        self._object: Object | None = obj
        self._previous_object: Object | None = None if previous is None else previous._object

    @property
    def object(self) -> Object:
        found = self._object
        if found is None:
            found = self._object = orjson.loads(self.data)
        return found

    @property
    def previous_object(self) -> Object | None:
        """The state before, None for a new object."""
        if self._previous_object is None and self.previous is not None:
            self._previous_object = orjson.loads(self.previous)
        return self._previous_object

    def superseded(self) -> None:
        """A later state is there: let go of what was decoded."""
        self._object = self._previous_object = self.views = None

    def delivered(self) -> None:
        """Everybody has heard of it: let go of the state before."""
        self._previous_object = None


Subscriber = Callable[[Revision], None]
Revisions = list[Revision]


class Store:
    """The objects of one API server."""

    def __init__(self, log_revisions_max: int = LOG_REVISIONS_MAX, log_bytes_max: int = LOG_BYTES_MAX) -> None:
        self.revision = FIRST_REVISION
        self._objects: dict[Kind, dict[str, Revision]] = {}
        self._order: dict[Kind, list[str]] = {}
        self._log: deque[Revision] = deque()
        self._log_bytes = 0
        self._log_max = (log_revisions_max, log_bytes_max)
        self._indexes: dict[Kind, FieldIndex] = {}
        self._everybody: list[Subscriber] = []
        self._by_kind: dict[Kind, list[Subscriber]] = {}
        self._undelivered: deque[tuple[Revision, Revision | None]] = deque()
        self._delivering = False

    @property
    def oldest(self) -> int:
        """The oldest revision that a watch can begin after."""
        return self._log[0].revision - 1 if self._log else self.revision

    def get(self, kind: Kind, namespace: str, name: str) -> Revision | None:
        objects = self._objects.get(kind)
        return None if objects is None else objects.get(_key(namespace, name))

    def list(self, kind: Kind, namespace: str | None = None) -> Iterator[Revision]:
        """The latest revision of every object of a kind, by namespace/name as bytes are ordered."""
        objects = self._objects.get(kind)
        if not objects:
            return iter(())
        order = self._order[kind]
        if namespace is not None:
            start = bisect.bisect_left(order, f"{namespace}/")
            order = order[start : bisect.bisect_left(order, f"{namespace}0", start)]  # "0" follows "/"
        return map(objects.__getitem__, tuple(order))

    def list_by(self, kind: Kind, path: str, value: str, namespace: str | None = None) -> Iterator[Revision]:
        """The objects of a kind with this value of a field, in `list`'s order; the first question makes an index."""
        objects = self._objects.get(kind, {})
        index = self._indexes.get(kind)
        if index is None:
            index = self._indexes[kind] = FieldIndex(path)
            for key, entry in objects.items():
                index.put(key, entry.object)
        found = map(objects.__getitem__, index.keys(value))
        return found if namespace is None else (entry for entry in found if entry.namespace == namespace)

    def count(self, kind: Kind) -> int:
        return len(self._objects.get(kind, ()))

    def put(self, kind: Kind, obj: Object) -> Revision:
        """Store an object, which is the store's from then on, under its next revision (written into its metadata)."""
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        key = _key(namespace, name)
        objects = self._objects.setdefault(kind, {})
        previous = objects.get(key)
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        event = "ADDED" if previous is None else "MODIFIED"
        made = Revision(self.revision, event, kind, namespace, name, obj, previous)
        objects[key] = made
        index = self._indexes.get(kind)
        if index is not None:
            index.put(key, obj)
        if previous is None:
            bisect.insort(self._order.setdefault(kind, []), key)
        self._commit(made, previous)
        return made

    def remove(self, kind: Kind, obj: Object) -> Revision:
        """Remove an object; `obj` is its last state, which gets the revision of the deletion."""
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        key = _key(namespace, name)
        previous = self._objects[kind].pop(key)
        if kind in self._indexes:
            self._indexes[kind].drop(key)
        order = self._order[kind]
        del order[bisect.bisect_left(order, key)]
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        made = Revision(self.revision, "DELETED", kind, namespace, name, obj, previous)
        self._commit(made, previous)
        return made

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of which there is an object."""
        return tuple(kind for kind, objects in self._objects.items() if objects)

    def since(self, revision: int, kind: Kind | None = None) -> Revisions | None:
        """Every later change, oldest first; None where the log no longer reaches back so far."""
        if revision < self.oldest:
            return None
        later = itertools.islice(reversed(self._log), max(0, self.revision - revision))
        found = [entry for entry in later if kind is None or entry.kind == kind]
        found.reverse()
        return found

    def subscribe(self, callback: Subscriber, kind: Kind | None = None) -> Callable[[], None]:
        """Hear each commit, in order, before the write returns; what is returned ends it."""
        listeners = self._everybody if kind is None else self._by_kind.setdefault(kind, [])
        listeners.append(callback)
        active = [True]

        def unsubscribe() -> None:
            if active:
                active.clear()
                listeners.remove(callback)

        return unsubscribe

    def _commit(self, made: Revision, previous: Revision | None) -> None:
        """Log a change and tell everybody. What a listener writes meanwhile is told after it, so all hear one order."""
        self._log.append(made)
        self._log_bytes += len(made.data)
        self._compact()
        self._undelivered.append((made, previous))
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._undelivered:
                self._deliver(*self._undelivered.popleft())
        finally:
            self._delivering = False

    def _compact(self) -> None:
        """Forget the oldest changes while there are too many, or too large ones; the latest always stays."""
        log, (revisions_max, bytes_max) = self._log, self._log_max
        while len(log) > 1 and (len(log) > revisions_max or self._log_bytes > bytes_max):
            self._log_bytes -= len(log.popleft().data)

    def _deliver(self, made: Revision, previous: Revision | None) -> None:
        for callback in tuple(self._everybody):
            callback(made)
        listeners = self._by_kind.get(made.kind)
        if listeners:
            for callback in tuple(listeners):
                callback(made)
        made.delivered()
        if previous is not None:
            previous.superseded()


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
