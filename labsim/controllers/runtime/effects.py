"""What a controller may ask of the world, as data.

A controller is a generator: it yields an effect and is sent the answer, or the error is thrown into it. It touches
nothing else, so the runtime can delay, fail, lose or crash it at each point.

    def reconcile(key: Key) -> Program[Result]:
        agent = yield from get(AGENT, key.namespace, key.name)          # from this controller's cache; None if absent
        ...
        agent = yield from update(thawed_agent)                          # the object as the server stored it

Reads are from the cache of the controller (fed by its watches, a little late, as an informer's) unless `live=True` or
the controller does not watch the kind. Objects from a cache are shared: `labsim.model.objects.thaw` gives a copy to
change. `at` is the text of a kubeconfig: that cluster is asked instead of the hub, and `Unreachable` is raised where
nothing answers, from a cache too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from labsim.model.http import Request, Response
from labsim.model.kinds import Kind
from labsim.model.objects import Object

T = TypeVar("T")
Program = Generator[Any, Any, T]  # yields effects, is sent their answers, returns T


class Unreachable(Exception):
    """Nothing answers at the address: connection refused, no route, unknown name, or a dead API server."""


class ReconcileError(Exception):
    """A reconcile gives up with an error that upstream's controller would return: its key is tried again later."""


class Key(NamedTuple):
    """What a reconcile is about: an object's namespace ("" for cluster scope) and name, and nothing else."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """How a reconcile ended: done (`Result()`), or to be run again after `requeue_after_s`."""

    requeue_after_s: float | None = None


DONE = Result()


@dataclasses.dataclass(slots=True)
class Read:
    """Read one object. (Effects are made by the thousand: freezing them would cost, and nobody changes them.)"""

    kind: Kind
    namespace: str
    name: str
    live: bool = False
    at: str | None = None


@dataclasses.dataclass(slots=True)
class ReadList:
    kind: Kind
    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""
    live: bool = False
    at: str | None = None


@dataclasses.dataclass(slots=True)
class Write:
    """verb: create, update, patch or delete. `body` is the object, the patch, or the delete options."""

    verb: str
    kind: Kind
    namespace: str
    name: str
    body: Any = None
    subresource: str = ""
    patch_type: str = "application/merge-patch+json"
    field_manager: str = ""
    force: bool = False
    at: str | None = None


@dataclasses.dataclass(slots=True)
class Http:
    """An HTTP request to a service of the world, as a client with a certificate bundle would make it."""

    request: Request


@dataclasses.dataclass(slots=True)
class Now:
    """The in-world time in epoch seconds."""


@dataclasses.dataclass(slots=True)
class Sleep:
    seconds: float


@dataclasses.dataclass(slots=True)
class Enqueue:
    """Wake another key, of this or another controller of the same component."""

    controller: str
    key: Key
    after_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Let something answer at `host:port`: what a started pod does. `service` names a handler of the component
    ("ignition-server", "oauth", ...) or "kube-apiserver" for the hosted cluster's own API server, which is made at the
    first Publish of `owner` and keeps its state until `Withdraw`. `owner` is "<namespace>/<name>" of its
    HostedControlPlane.
    `certificate_pem` and `key_pem` serve TLS where the endpoint is a real socket."""

    service: str
    owner: str
    host: str
    port: int
    certificate_pem: str = ""
    key_pem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Withdraw:
    """Stop answering at every endpoint of `owner` that has this service; "" means all, and forgets its API server."""

    owner: str
    service: str = ""


@dataclasses.dataclass(slots=True)
class Note:
    """A line in the history that says what a controller decided and why; no effect on the world."""

    text: str


def get(kind: Kind, namespace: str, name: str, *, live: bool = False, at: str | None = None) -> Program[Object | None]:
    """The object, or None where there is none."""
    found: Object | None = yield Read(kind, namespace, name, live, at)
    return found


def list_all(
    kind: Kind,
    namespace: str | None = None,
    *,
    labels: Mapping[str, str] | str = "",
    fields: str = "",
    live: bool = False,
    at: str | None = None,
) -> Program[list[Object]]:
    """Every object of a kind, ordered by namespace and name. `labels` is a mapping or a selector in text form."""
    selector = labels if isinstance(labels, str) else ",".join(f"{key}={value}" for key, value in labels.items())
    found: list[Object] = yield ReadList(kind, namespace, selector, fields, live, at)
    return found


def create(obj: Object, kind: Kind, *, at: str | None = None, manager: str = "") -> Program[Object]:
    """Create; raises ApiError (409 AlreadyExists, 422 Invalid, ...)."""
    metadata = obj["metadata"]
    made: Object = yield Write(
        "create", kind, metadata.get("namespace", ""), metadata.get("name", ""), obj, field_manager=manager, at=at
    )
    return made


def update(
    obj: Object, kind: Kind, *, subresource: str = "", at: str | None = None, manager: str = ""
) -> Program[Object]:
    """Replace with optimistic concurrency: 409 Conflict where metadata.resourceVersion is stale."""
    metadata = obj["metadata"]
    stored: Object = yield Write(
        "update", kind, metadata.get("namespace", ""), metadata["name"], obj, subresource, field_manager=manager, at=at
    )
    return stored


def patch(
    kind: Kind,
    namespace: str,
    name: str,
    body: Any,
    *,
    subresource: str = "",
    patch_type: str = "application/merge-patch+json",
    at: str | None = None,
    manager: str = "",
    force: bool = False,
) -> Program[Object]:
    """Patch; a merge patch unless `patch_type` says otherwise. `application/apply-patch+yaml` is server-side apply."""
    stored: Object = yield Write("patch", kind, namespace, name, body, subresource, patch_type, manager, force, at)
    return stored


def delete(
    kind: Kind, namespace: str, name: str, *, options: Mapping[str, Any] | None = None, at: str | None = None
) -> Program[bool]:
    """Delete; True if there was something to delete, False if it was already gone (NotFound is no error here)."""
    existed: bool = yield Write("delete", kind, namespace, name, dict(options or {}), at=at)
    return existed


def now() -> Program[float]:
    moment: float = yield Now()
    return moment


def http(request: Request) -> Program[Response]:
    answer: Response = yield Http(request)
    return answer


MapEvent = Callable[[Object], Iterable[Key]]


def own_key(obj: Object) -> tuple[Key, ...]:
    """The key of the object itself: what a controller's root kind maps to."""
    metadata = obj["metadata"]
    return (Key(metadata.get("namespace", ""), metadata["name"]),)


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """A kind that a controller follows: each event's object (the last state, for a deletion) maps to keys to wake.

    `hosted=True` follows the kind in every hosted cluster instead of the hub; the map is then called with the object
    and the owner ("<namespace>/<name>" of the HostedControlPlane) as second argument.
    `keys` of None caches the kind for reads without waking anybody.
    `when` is asked before `keys`, as controller-runtime's predicates are, with the state before and after the event
    (and the owner, for a hosted cluster): `before` is None for an object that was not there, `after` is None for a
    deletion. False wakes nobody. It sees every event, in order, so it is also where a controller keeps an index up to
    date.
    `sieve` is asked when an object changes, before the event is on its way, with both states: False, and this watch
    never hears of it. It is for a controller that looks at a part of the objects only, as a metadata-only informer
    does; its cache then keeps the last state that passed.
    """

    kind: Kind
    keys: Callable[..., Iterable[Key]] | None = own_key
    hosted: bool = False
    when: Callable[..., bool] | None = None
    sieve: Callable[[Object, Object], bool] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Controller:
    """One control loop. `reconcile` reads the world through effects and brings it nearer to what is wanted.

    An exception that leaves `reconcile` is logged and the key is tried again with back-off: 5 ms doubling to 1000 s.
    Distinct keys run side by side up to `workers`; one key never runs twice at once.
    """

    name: str
    reconcile: Callable[[Key], Program[Result]]
    watches: tuple[Watch, ...]
    workers: int = 1


Handler = Callable[[Request], Program[Response]]
"""An HTTP service as a program: `(request) -> Program[Response]`. Its first path element is the served path's."""
