"""What a lab has seen of a cluster: one list and one watch for each kind, taken in on the world's thread.

A thread per kind reads its watch and hands events over; `pump` takes them in, in order. A watch that is cut goes on
where it was. One that cannot (410 Gone) lists again: what happened meanwhile was not seen, which is a gap.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from labsim.controllers.runtime.effects import Unreachable
from labsim.edge_time import monotonic_s
from labsim.hub.plain.connection import ClusterConnection, status_error
from labsim.hub.plain.scope import Scope
from labsim.kube.errors import ApiError
from labsim.kube.store import Revision
from labsim.model.kinds import Kind
from labsim.model.objects import Object, namespace_of

WATCH_S = 270  # then the server ends the watch and we go on from where it was
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # between attempts at a server that does not answer

Objects = list[Object]
Subscriber = Callable[[Revision], None]
Place = tuple[str, str]  # namespace, name


class News(NamedTuple):
    """One thing that a kind's thread has to say: an event's type and object, or a whole new list."""

    kind: Kind
    event: str  # ADDED, MODIFIED, DELETED, or LISTED
    obj: Object
    items: tuple[Object, ...] = ()


class Mirror:
    """The objects of a lab on a cluster, as far as they have been seen. All but `_read` is the world's thread's."""

    def __init__(
        self,
        connection: ClusterConnection,
        scope: Scope,
        *,
        post: Callable[[Callable[[], None]], Any],
        shown: Callable[[Object], Object],
        on_gap: Callable[[Kind], None],
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._post = post
        self._shown = shown
        self._on_gap = on_gap
        self._objects: dict[Kind, dict[Place, Revision]] = {}
        self._by_kind: dict[Kind, list[Subscriber]] = {}
        self._everybody: list[Subscriber] = []
        self._news: deque[News] = deque()
        self._arrived = threading.Condition()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    # -- reading ------------------------------------------------------------------------------------------------------

    def is_followed(self, kind: Kind) -> bool:
        return kind in self._objects

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        found = self._objects[kind].get((namespace if kind.namespaced else "", name))
        return None if found is None else found.object

    def list(self, kind: Kind) -> list[Object]:
        """By namespace and name."""
        objects = self._objects[kind]
        return [objects[place].object for place in sorted(objects)]

    def everything(self) -> Iterator[Object]:
        for kind in sorted(self._objects, key=lambda kind: (kind.group, kind.plural)):
            yield from self.list(kind)

    def follow(self, kind: Kind, subscriber: Subscriber) -> Objects:
        """What there is now; `subscriber` hears the rest. The first follower of a kind waits for its list."""
        if kind not in self._objects:
            self._objects[kind] = {}
            items, version = listed(self._connection, kind)
            self._take_list(kind, items, is_first=True)
            thread = threading.Thread(target=self._read, args=(kind, version), name=f"watch {kind.plural}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._by_kind.setdefault(kind, []).append(subscriber)
        return self.list(kind)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        self._everybody.append(subscriber)
        return lambda: self._everybody.remove(subscriber)

    def close(self) -> None:
        """End the watches; the connection is to be closed right after."""
        self._stopped.set()

    def join(self, timeout_s: float) -> None:
        deadline_s = monotonic_s() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - monotonic_s()))

    # -- taking in ----------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Take in everything that has arrived."""
        while True:
            with self._arrived:
                if not self._news:
                    return
                news = self._news.popleft()
            if news.event == "LISTED":
                self._take_list(news.kind, news.items, is_first=False)
                self._on_gap(news.kind)
            else:
                self._take(news.kind, news.event, self._shown(news.obj))

    def wait_for(self, seen: Callable[[], bool], timeout_s: float) -> bool:
        """Take in what arrives until `seen()`; True if it came to be."""
        deadline_s = monotonic_s() + timeout_s
        while True:
            self.pump()
            if seen():
                return True
            left_s = deadline_s - monotonic_s()
            if left_s <= 0:
                return False
            with self._arrived:
                if not self._news:
                    self._arrived.wait(min(left_s, 0.05))

    def _take_list(self, kind: Kind, items: tuple[Object, ...], *, is_first: bool) -> None:
        present = {_place(kind, item) for item in items}
        for item in items:
            self._take(kind, "ADDED", self._shown(item))
        if not is_first:
            for place in [place for place in self._objects[kind] if place not in present]:
                self._take(kind, "DELETED", dict(self._objects[kind][place].object))

    def _take(self, kind: Kind, event: str, obj: Object) -> None:
        place, gone = _place(kind, obj), event == "DELETED"
        self._scope.saw(kind, obj, gone=gone)
        objects = self._objects[kind]
        previous = objects.get(place)
        version = int(obj["metadata"]["resourceVersion"])
        if not gone and not self._scope.sees(kind, obj):
            if previous is None:
                return
            gone = True  # it is somebody else's now
        if previous is None and gone:
            return
        if previous is not None and not gone and version <= previous.revision:
            return  # seen already
        what = "DELETED" if gone else "ADDED" if previous is None else "MODIFIED"
        made = Revision(version, what, kind, *place, obj, previous)
        if gone:
            del objects[place]
        else:
            objects[place] = made
        for subscriber in (*self._everybody, *self._by_kind.get(kind, ())):
            subscriber(made)
        made.forgotten()  # no log here: what was before is let go

    # -- the threads --------------------------------------------------------------------------------------------------

    def _tell(self, news: News) -> None:
        with self._arrived:
            self._news.append(news)
            is_first = len(self._news) == 1
            self._arrived.notify_all()
        if is_first:
            self._post(self.pump)

    def _read(self, kind: Kind, version: str) -> None:
        """Follow one kind for ever."""
        pause_s = FIRST_PAUSE_S
        while not self._stopped.is_set():
            try:
                for event in watched(self._connection, kind, version):
                    pause_s = FIRST_PAUSE_S
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._tell(News(kind, event["type"], typed(kind, event["object"])))
            except ApiError as refused:
                if refused.code == 410 and not self._stopped.is_set():
                    version = self._list_again(kind, version)
                    continue
                pause_s = self._pause(pause_s)
            except Unreachable:
                pause_s = self._pause(pause_s)

    def _list_again(self, kind: Kind, version: str) -> str:
        try:
            items, version = listed(self._connection, kind)
        except (ApiError, Unreachable):
            self._pause(FIRST_PAUSE_S)
            return version
        self._tell(News(kind, "LISTED", {}, items))
        return version

    def _pause(self, pause_s: float) -> float:
        self._stopped.wait(pause_s)
        return min(pause_s * 2, LONGEST_PAUSE_S)


def listed(connection: ClusterConnection, kind: Kind) -> tuple[tuple[Object, ...], str]:
    """Every object of a kind on the cluster, and the version of the list."""
    answer = connection.call("GET", kind.path())
    items = tuple(typed(kind, item) for item in answer.get("items") or ())
    return items, str(answer["metadata"]["resourceVersion"])


def watched(connection: ClusterConnection, kind: Kind, version: str) -> Iterator[Object]:
    """The events of a kind after a version; raises ApiError 410 where the cluster has forgotten it."""
    query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S)}
    for event in connection.watch(kind.path(), query, WATCH_S + 30):
        if event["type"] == "ERROR":
            raise status_error(event["object"])
        yield event


def typed(kind: Kind, item: Object) -> Object:
    """An item of a list, which may leave out what it is."""
    if "kind" in item:
        return item
    return {"apiVersion": kind.api_version, "kind": kind.kind, **item}


def _place(kind: Kind, obj: Object) -> Place:
    return (namespace_of(obj) if kind.namespaced else "", str(obj["metadata"]["name"]))
