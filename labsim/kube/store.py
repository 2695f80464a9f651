"""One revision counter and one log: what an API server keeps.

What is handed out is shared and must not be changed. A write hands over a tree of its own that may share parts with the
state before. Texts are made when somebody needs them: a state that another one shares parts with stays a tree, which
costs what has changed; any other is encoded when it is superseded. The log keeps the last LOG_REVISIONS_MAX revisions,
or as many as LOG_BYTES_MAX hold by estimate; a watch from before them is told that its start is gone.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Iterator

import orjson

from labsim.kube.field_index import INDEXED, FieldIndex, index_text
from labsim.model.kinds import Kind
from labsim.model.objects import Object

FIRST_REVISION = 100  # low numbers count as compacted: no client can have seen one
LOG_REVISIONS_MAX = 20_000
LOG_BYTES_MAX = 48 * 2**20  # an Agent has some 20 KB: twenty thousand of its states would be most of a lab's memory
TREE_BYTES = 4  # of memory for each byte of text, about, where an object is kept as a tree
SMALL_TEXT_BYTES = 4096  # a text up to this size is kept rather than a tree, even one that shares its parts


class Revision:
    """One change of one object. `object` is the state after it (the last one, for a deletion), `data` its text."""

    __slots__ = (
        "_data",
        "_is_past",
        "_object",
        "_previous",
        "kind",
        "name",
        "namespace",
        "revision",
        "size",
        "told",
        "type",
        "views",
    )

    def __init__(
        self,
        revision: int,
        event: str,
        kind: Kind,
        namespace: str,
        name: str,
        obj: Object,
        previous: Revision | None,
        size: int = 0,
    ) -> None:
        """`obj` is shared from now on. `size`: the memory that the log needs to keep this change, in bytes, about."""
        self.revision = revision
        self.type = event
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.size = size
        self.views: dict[object, Object] | None = None  # the object as other versions of its kind show it
        self.told: bytes | None = None  # the line of a watch, for all that are told it now
        self._is_past = False
        self._previous = previous
        self._object: Object | None = obj
        self._data: bytes | None = None

    @property
    def object(self) -> Object:
        found = self._object
        return found if found is not None else self._decoded()

    @property
    def data(self) -> bytes:
        """The object as JSON text."""
        found = self._data
        if found is None:
            # The encoder leaves two to eight times the room that the text needs: what is kept is a copy without it.
            found = bytes(memoryview(orjson.dumps(self._object)))
            if not self._is_past:
                self._data = found
        return found

    @property
    def previous_object(self) -> Object | None:
        """The state before, None for a new object."""
        return None if self._previous is None else self._previous.object

    def _decoded(self) -> Object:
        """The object of a superseded revision, which stays encoded: who asks for it looks at it once."""
        obj: Object = orjson.loads(self.data)
        return obj

    def superseded(self, *, shared: bool) -> None:
        """A later state is there, and holds parts of this one's tree if `shared`: keep the tree or the text."""
        self.views = None
        if shared and (self._data is None or len(self._data) > SMALL_TEXT_BYTES):
            self._data = None
        else:
            self.size = len(self.data)
            self._object = None
        self._is_past = True

    def deleted(self) -> None:
        """Everybody has heard of the deletion: the text is enough from now on."""
        self._object = None

    def forgotten(self) -> None:
        """The log has let go of it: nobody asks any more what was there before."""
        self._previous = None


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
        self._everybody: tuple[Subscriber, ...] = ()
        self._by_kind: dict[Kind, tuple[Subscriber, ...]] = {}
        self._by_text: dict[Kind, dict[str, tuple[Subscriber, ...]]] = {}
        self._undelivered: deque[tuple[Revision, Revision | None, bool]] = deque()
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

    def list_by(self, kind: Kind, text: str, namespace: str | None = None) -> Iterator[Revision]:
        """The objects of a kind whose indexed field says that, in `list`'s order; the first question makes an index."""
        objects = self._objects.get(kind, {})
        index = self._indexes.get(kind)
        if index is None:
            index = self._indexes[kind] = FieldIndex(INDEXED[kind])
            for key, entry in objects.items():
                index.put(key, entry.object)
        found = map(objects.__getitem__, index.keys(text))
        return found if namespace is None else (entry for entry in found if entry.namespace == namespace)

    def count(self, kind: Kind) -> int:
        return len(self._objects.get(kind, ()))

    def put(self, kind: Kind, obj: Object, changed_bytes: int | None = None) -> Revision:
        """Store an object, which is the store's from then on, under its next revision (written into its metadata).

        changed_bytes: about how much text of it is new, where it shares all else with the tree of the state before;
        None where it shares nothing.
        """
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        key = _key(namespace, name)
        objects = self._objects.setdefault(kind, {})
        previous = objects.get(key)
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        event = "ADDED" if previous is None else "MODIFIED"
        size = 0 if changed_bytes is None else TREE_BYTES * changed_bytes
        made = Revision(self.revision, event, kind, namespace, name, obj, previous, size)
        objects[key] = made
        index = self._indexes.get(kind)
        if index is not None:
            index.put(key, obj)
        if previous is None:
            bisect.insort(self._order.setdefault(kind, []), key)
        self._commit(made, previous, shared=changed_bytes is not None)
        return made

    def remove(self, kind: Kind, obj: Object) -> Revision:
        """Remove an object; `obj` is its last state, which gets the revision of the deletion.

        It may share parts with the state before: the log alone keeps their tree from now on, for a while.
        """
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
        made.size = TREE_BYTES * len(made.data)
        self._commit(made, previous, shared=True)
        return made

    def restore(self, kind: Kind, obj: Object, *, deleted: bool = False) -> None:
        """Repeat a change that a store before this one made; the object has the revision that it got there."""
        self.revision = int(obj["metadata"]["resourceVersion"]) - 1
        if deleted:
            self.remove(kind, obj)
        else:
            self.put(kind, obj)

    def begin_at(self, revision: int) -> None:
        """This is the present revision, and nothing is known of how it came to be: earlier watches begin anew."""
        self.revision = revision
        self._log.clear()
        self._log_bytes = 0

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

    def subscribe(self, callback: Subscriber, kind: Kind | None = None, text: str | None = None) -> Callable[[], None]:
        """Hear each commit, in order, before the write returns; what is returned ends it.

        text: only of objects whose indexed field (field_index.INDEXED) says that, or said it before.
        """
        listeners = self._listeners(kind, text)
        self._set_listeners(kind, text, (*listeners, callback))
        active = [True]

        def unsubscribe() -> None:
            if active:
                active.clear()
                left = list(self._listeners(kind, text))
                left.remove(callback)
                self._set_listeners(kind, text, tuple(left))

        return unsubscribe

    def _listeners(self, kind: Kind | None, text: str | None) -> tuple[Subscriber, ...]:
        if kind is None:
            return self._everybody
        return self._by_kind.get(kind, ()) if text is None else self._by_text.get(kind, {}).get(text, ())

    def _set_listeners(self, kind: Kind | None, text: str | None, listeners: tuple[Subscriber, ...]) -> None:
        """Put others in their place: a delivery that is under way goes to those who were there when it began."""
        if kind is None:
            self._everybody = listeners
        elif text is None:
            self._by_kind[kind] = listeners
        elif listeners:
            self._by_text.setdefault(kind, {})[text] = listeners
        else:
            self._by_text[kind].pop(text, None)

    def _commit(self, made: Revision, previous: Revision | None, *, shared: bool) -> None:
        """Log a change and tell everybody. What a listener writes meanwhile is told after it, so all hear one order."""
        self._log.append(made)
        self._log_bytes += made.size
        if self._delivering:
            self._undelivered.append((made, previous, shared))
            return
        self._delivering = True
        try:
            self._deliver(made, previous, shared)
            while self._undelivered:
                self._deliver(*self._undelivered.popleft())
        finally:
            self._delivering = False

    def _compact(self) -> None:
        """Forget the oldest changes while there are too many, or too large ones; the latest always stays."""
        log, (revisions_max, bytes_max) = self._log, self._log_max
        while (self._log_bytes > bytes_max or len(log) > revisions_max) and len(log) > 1:
            oldest = log.popleft()
            self._log_bytes -= oldest.size
            oldest.forgotten()

    def _deliver(self, made: Revision, previous: Revision | None, shared: bool) -> None:
        for callback in self._everybody:
            callback(made)
        for callback in self._by_kind.get(made.kind, ()):
            callback(made)
        by_text = self._by_text.get(made.kind)
        if by_text:
            path, states = INDEXED[made.kind], (made,) if previous is None else (previous, made)
            for text in dict.fromkeys([index_text(path, state.object) for state in states]):
                for callback in by_text.get(text, ()):
                    callback(made)
        made.told = None
        if previous is not None:
            before = previous.size
            previous.superseded(shared=shared)
            if previous.revision > self.oldest:
                self._log_bytes += previous.size - before
        if made.type == "DELETED":
            made.deleted()
        self._compact()


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
