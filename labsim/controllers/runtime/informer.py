"""The watches of a component: each delivers the changes of one kind, a little late and in order, to whoever follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from labsim.clock import Scheduler
from labsim.controllers.runtime.cache import Cache
from labsim.controllers.runtime.effects import Key, Watch, own_key
from labsim.controllers.runtime.hub import HubServer
from labsim.controllers.runtime.queue import WorkQueue
from labsim.entropy import Delays
from labsim.kube.gate import Gate
from labsim.kube.store import Revision
from labsim.model.kinds import Kind
from labsim.model.objects import Object

Sieve = Callable[[Object, Object], bool]  # whether a change, from the first state to the second, is worth an event
_Change = tuple[str, str, str, Object]  # what happened (ADDED, MODIFIED, DELETED), namespace, name, object


class Follower:
    """One controller's interest in a kind: which events matter to it, and which keys they wake."""

    __slots__ = ("_extra", "_keys", "_kind", "_queue", "_when")

    def __init__(self, watch: Watch, queue: WorkQueue, owner: str | None) -> None:
        self._kind = watch.kind.kind
        self._when: Callable[..., bool] | None = watch.when
        self._keys: Callable[..., Iterable[Key]] | None = watch.keys
        self._queue = queue
        self._extra = () if owner is None else (owner,)

    def hear(self, event: str, namespace: str, name: str, before: Object | None, obj: Object) -> None:
        """`before` is the state that the cache had; None for a new object."""
        extra = self._extra
        if self._when is not None:
            gone = event == "DELETED"
            last = obj if before is None and gone else before
            if not self._when(last, None if gone else obj, *extra):
                return
        mapped = self._keys
        if mapped is None:
            return
        keys = mapped(obj, *extra)
        if before is not None and before is not obj and mapped is not own_key:
            keys = dict.fromkeys([*keys, *mapped(before, *extra)])
        cause = ""
        for key in keys:
            cause = cause or f"{self._kind} {namespace}/{name} {event.lower()}"
            self._queue.add(key, cause)


class Informer:
    """A watch of one kind at one API server, its cache, and its followers: the controllers of a component share it,
    where they look through the same sieve.

    Each event takes a derived delay, and none overtakes another: one that would arrives together with the event that
    it follows.
    """

    __slots__ = ("_arriving", "_delays", "_followers", "_gate", "_last_s", "_scheduler", "_sieve", "cache", "kind")

    def __init__(
        self, scheduler: Scheduler, delays: Delays, server: HubServer, kind: Kind, sieve: Sieve | None = None
    ) -> None:
        self.kind = kind
        self.cache = Cache()
        self._scheduler = scheduler
        self._delays = delays
        self._sieve = sieve
        self._followers: list[Follower] = []
        self._gate: Gate[Revision] | None = None
        self._last_s = 0.0
        self._arriving: list[_Change] | None = None  # what arrives at _last_s; None once that has been
        for obj in server.follow(kind, self._committed):
            metadata = obj["metadata"]
            self.cache.put(metadata.get("namespace", ""), metadata["name"], obj)

    def join(self, follower: Follower) -> None:
        """Let a follower hear of what is there now, and of every later event."""
        for namespace, name, obj in self.cache.entries():
            follower.hear("ADDED", namespace, name, None, obj)
        self._followers.append(follower)

    def gated(self, make: Callable[[Callable[[Revision], None]], Gate[Revision]]) -> Gate[Revision]:
        """The gate that the changes go through from now on, made where there is none."""
        if self._gate is None:
            self._gate = make(self._take)
        return self._gate

    def _committed(self, revision: Revision) -> None:
        if self._gate is None:
            self._take(revision)
        else:
            self._gate.send(revision.revision, revision)

    def _take(self, revision: Revision) -> None:
        if self._sieve is not None and revision.type == "MODIFIED":
            before = revision.previous_object
            if before is not None and not self._sieve(before, revision.object):
                return
        now_s = self._scheduler.now()
        due_s = now_s + self._delays.of(revision.name, now_s)
        change = (revision.type, revision.namespace, revision.name, revision.object)
        if due_s > self._last_s:
            self._last_s = due_s
        elif self._arriving is not None:
            self._arriving.append(change)
            return
        self._arriving = [change]
        self._scheduler.post_at(self._last_s, self._arrive, self._arriving)

    def _arrive(self, changes: list[_Change]) -> None:
        if self._arriving is changes:
            self._arriving = None
        cache = self.cache
        for event, namespace, name, obj in changes:
            before = cache.drop(namespace, name) if event == "DELETED" else cache.put(namespace, name, obj)
            for follower in self._followers:
                follower.hear(event, namespace, name, before, obj)
