"""Who uses a hub, and what each of them does: read, watched, wrote; and the faults that meet some of them.

Stands at the seam of the hub's HTTP surface (labsim.kube.client_seam). The watches of the simulated components go
through the same gates: to a fault's rule such a component is the program `labsim/<component>`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import orjson

from labsim.clock import Scheduler
from labsim.controllers.runtime.informer import Informer
from labsim.entropy import Entropy
from labsim.history import History
from labsim.hub.embedded.client_faults import Client, ClientFaults, Cut, Fault, LostBy, What, Who
from labsim.kube.client_seam import USUAL, Carry, WatchTerms
from labsim.kube.errors import ApiError
from labsim.kube.gate import Gate
from labsim.kube.http import error_answer, verb_of
from labsim.kube.routes import Route
from labsim.kube.server import ApiServer
from labsim.kube.users import User
from labsim.kube.watch import WatchStream
from labsim.model.http import Request, Response
from labsim.model.kinds import Kind

REQUEST_TIMEOUT_S = 60.0  # kube-apiserver's --request-timeout
TIMED_OUT = "request did not complete within requested timeout - context deadline exceeded"
CLIENTS_MAX = 1000  # that are remembered; who was silent for longest is forgotten first
NAME_MAX, PATH_MAX = 256, 2048  # characters that are kept of what a client calls itself, and of what it asks for
COMPONENT_PROGRAM = "labsim/"
IN_PROCESS = "in-process"
_READS = ("get", "list", "watch")
_WHOLE_WRITES = ("create", "update", "patch", "delete")
Informers = Callable[[], Iterable[tuple[str, Informer]]]


@dataclasses.dataclass(slots=True)
class _Exchange:
    """The request that is being answered."""

    client: Client
    kind: Kind | None = None
    namespace: str | None = None
    verb: str = ""
    revision: int | None = None  # of the stale cache that answers it
    watch: int | None = None
    fault: int | None = None
    is_lost: bool = False  # the connection is reset in place of an answer
    lag_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class _OpenWatch:
    number: int
    client: Client
    kind: Kind
    namespace: str | None
    path: str


class HubClients:
    """The clients of one hub. A labsim.kube.client_seam.ClientSeam. All calls are made on the world's thread."""

    def __init__(
        self,
        *,
        server: ApiServer,
        scheduler: Scheduler,
        entropy: Entropy,
        history: History,
        act: Callable[[str], str],
        informers: Informers,
    ) -> None:
        """`act` names who causes the store's writes from now on, and returns who did before; `informers`: those of
        the simulated components, by component."""
        self.server = server
        self._scheduler = scheduler
        self._history = history
        self._act = act
        self._informers = informers
        self._faults = ClientFaults(entropy)
        self._open: dict[WatchStream, _OpenWatch] = {}
        self._opened = 0
        # Who may not go on from a revision up to this one, until it has begun anew.
        self._expired: dict[tuple[str, str, str, str | None], int] = {}
        self._counts: collections.OrderedDict[tuple[str, str], collections.Counter[str]] = collections.OrderedDict()
        self._exchange = _Exchange(Client("", "", ""))

    # -- a request ----------------------------------------------------------------------------------------------------

    def handle(self, request: Request, answer: Carry) -> Response | Future[Response]:
        """Have a request answered, and tell the history. Raises ConnectionResetError where it gets no answer."""
        client = Client(request.headers.get("user-agent", "")[:NAME_MAX], "", request.client)
        exchange = self._exchange = _Exchange(client, verb=request.method.lower())
        before = self._act(f"outside/{request.client}")
        try:
            response = answer(request)
        finally:
            self._act(before)
        self._note(request, exchange, response.status)
        if exchange.is_lost:
            raise ConnectionResetError(f"fault {exchange.fault}")
        return self._later(response, exchange.lag_s) if exchange.lag_s else response

    def _later(self, response: Response, after_s: float) -> Future[Response]:
        future: Future[Response] = Future()
        self._scheduler.call_later(after_s, lambda: future.set_result(response), "late answer")
        return future

    def _note(self, request: Request, exchange: _Exchange, status: int) -> None:
        client = exchange.client
        if client.user:
            self._count(client, exchange, status)
        if not self._history.wants("request"):
            return
        more: dict[str, Any] = {"watch": exchange.watch, "fault": exchange.fault}
        is_watch = exchange.watch is not None
        self._history.record(
            "request",
            client=client.program,
            connection=client.connection,
            user=client.user,
            service="hub",
            owner="hub",
            method="WATCH" if is_watch else request.method,
            verb=exchange.verb,
            path=request.path[:PATH_MAX],
            **({"query": {name: value[:PATH_MAX] for name, value in request.query[:64]}} if request.query else {}),
            status=status,
            revision=self.server.revision if exchange.revision is None else exchange.revision,
            **{name: value for name, value in more.items() if value is not None},
        )

    def _count(self, client: Client, exchange: _Exchange, status: int) -> None:
        key = (client.program, client.user)
        counts = self._counts.pop(key, None)
        self._counts[key] = counts = collections.Counter() if counts is None else counts
        counts["refused" if status >= 400 else exchange.verb if exchange.kind is not None else "other"] += 1
        if len(self._counts) > CLIENTS_MAX:
            self._counts.popitem(last=False)

    # -- the seam (labsim.kube.client_seam) -------------------------------------------------------------------------

    def asked(self, request: Request, user: User) -> None:
        self._exchange.client = dataclasses.replace(self._exchange.client, user=user.name)

    def serve(self, request: Request, route: Route, kind: Kind, carry: Carry) -> Response:
        exchange = self._exchange
        exchange.kind, exchange.namespace, exchange.verb = kind, route.namespace, verb_of(request, route)
        if exchange.verb == "list" and self._expired:
            self._expired.pop(self._place(exchange.client, kind, route.namespace), None)
        if not self._faults or exchange.verb in _READS or any(name == "dryRun" for name, _ in request.query):
            return carry(request)
        client = exchange.client
        if exchange.verb in _WHOLE_WRITES and route.subresource in ("", "status", "scale"):
            fault = self._faults.losing(What.LOSE_WRITE, client, kind)
            if fault is not None:
                return self._acknowledged(request, carry, fault)
        before = self.server.revision
        response = carry(request)
        if self.server.revision == before:  # nothing was written, so nothing can be lost
            return response
        fault = self._faults.losing(What.LOSE_ANSWER, client, kind)
        if fault is not None:
            self._meets(exchange, fault)
            exchange.is_lost = fault.how == LostBy.RESET
            if exchange.is_lost:
                return response
            exchange.lag_s = REQUEST_TIMEOUT_S
            return error_answer(ApiError(504, "Timeout", f"Timeout: {TIMED_OUT}"))
        exchange.lag_s = self._faults.answer_lag_s(client, kind, self.server.revision)
        return response

    def cached_at(self) -> int | None:
        exchange = self._exchange
        if not self._faults or exchange.kind is None:
            return None
        self._thaw_forgotten()
        _, frozen_at = self._faults.on_watch(exchange.client, exchange.kind)
        exchange.revision = frozen_at
        return frozen_at

    def watch_terms(self, since: int) -> WatchTerms:
        exchange = self._exchange
        kind = exchange.kind
        if kind is None or not (self._faults or self._expired):
            return USUAL
        place = self._place(exchange.client, kind, exchange.namespace)
        if 0 < since <= self._expired.get(place, 0):
            return WatchTerms(expired=True)
        self._expired.pop(place, None)
        self._thaw_forgotten()
        lag, frozen_at = self._faults.on_watch(exchange.client, kind)
        exchange.revision = frozen_at
        if lag is None and frozen_at is None:
            return USUAL

        def gate(deliver: Callable[[bytes], None]) -> Gate[bytes]:
            made = self._gate(deliver)
            made.set(lag, frozen_at)
            return made

        return WatchTerms(as_of=frozen_at, gate=gate)

    def opened(self, stream: WatchStream) -> None:
        exchange = self._exchange
        assert exchange.kind is not None
        self._opened += 1
        exchange.watch = self._opened
        path = exchange.kind.path(exchange.namespace)
        self._open[stream] = _OpenWatch(self._opened, exchange.client, exchange.kind, exchange.namespace, path)
        stream.on_close = functools.partial(self._closed, stream)

    def _closed(self, stream: WatchStream) -> None:
        watch = self._open.pop(stream)
        self._history.record(
            "watch",
            client=watch.client.program,
            connection=watch.client.connection,
            user=watch.client.user,
            watch=watch.number,
            path=watch.path,
            ended=stream.how_ended,
            events=stream.events,
            held=stream.dropped,
            revision=self.server.revision,
        )

    # -- lost writes ------------------------------------------------------------------------------------------------

    def _meets(self, exchange: _Exchange, fault: Fault) -> None:
        exchange.fault = fault.number
        self._faults.has_acted(fault)

    def _acknowledged(self, request: Request, carry: Carry, fault: Fault) -> Response:
        """The answer of a write that is not carried out: what it would have made, under the next revision."""
        dry = dataclasses.replace(
            request,
            query=(*request.query, ("dryRun", "All")),
            headers={**request.headers, "accept": "application/json"},
        )
        response = carry(dry)
        document = orjson.loads(response.body)
        if document.get("kind") != "Status":
            document["metadata"]["resourceVersion"] = str(self.server.revision + 1)
        self._meets(self._exchange, fault)
        return dataclasses.replace(response, body=orjson.dumps(document))

    # -- faults -----------------------------------------------------------------------------------------------------

    def faults(self) -> list[Fault]:
        """Those that are on."""
        return self._faults.all()

    def add_fault(self, what: What, who: Who, **details: Any) -> Fault:
        """Switch a fault on, for watches that are open too. A freeze is at the present revision where none is given."""
        if what is What.FREEZE:
            details.setdefault("revision", self.server.revision)
        fault = self._faults.add(what, who, **details)
        self._history.record("fault", what="on", **fault.row())
        self._apply()
        return fault

    def clear_faults(self, numbers: list[int]) -> list[Fault]:
        """Switch these off, all where none is named: what they hold back comes at once. Raises NothingSelected."""
        cleared = self._faults.clear(numbers)
        for fault in cleared:
            self._history.record("fault", what="off", **fault.row())
        if not numbers:
            self._expired.clear()
        self._apply()
        return cleared

    def cut(self, who: Who, how: Cut) -> int:
        """End the open watches of a client; returns how many. The simulated components' own lose nothing by it."""
        met = [(stream, watch) for stream, watch in self._open.items() if who.meets(watch.client, watch.kind)]
        for stream, watch in met:
            if how is Cut.EXPIRED:
                self._expired[self._place(watch.client, watch.kind, watch.namespace)] = self.server.revision
            if how is Cut.RESET:
                stream.reset("cut by a reset")
            else:
                stream.finish(f"cut: {how.value}")
        numbers = [watch.number for _, watch in met]
        self._history.record("fault", what="cut", how=how.value, who=str(who), watches=numbers)
        return len(met)

    def rows(self) -> list[dict[str, Any]]:
        """The clients and what each has done so far, as people and programs are shown it."""
        rows = []
        for (program, user), counts in self._counts.items():
            open_now = [
                watch for watch in self._open.values() if (watch.client.program, watch.client.user) == (program, user)
            ]
            rows.append(
                {
                    "program": program,
                    "user": user,
                    "reads": counts["get"] + counts["list"],
                    "writes": sum(counts[verb] for verb in (*_WHOLE_WRITES, "deletecollection")),
                    "refused": counts["refused"],
                    "watching": ",".join(sorted({watch.kind.plural for watch in open_now})),
                    "watches": counts["watch"],
                    "connections": ",".join(sorted({watch.client.connection for watch in open_now})),
                }
            )
        return rows + self._component_rows()

    def _component_rows(self) -> list[dict[str, Any]]:
        """The simulated components, which read and write without a request."""
        watching: dict[str, set[str]] = {}
        for component, informer in self._informers():
            watching.setdefault(component, set()).add(informer.kind.plural)
        return [
            {"program": COMPONENT_PROGRAM + component, "user": component, "watching": ",".join(sorted(kinds))}
            for component, kinds in sorted(watching.items())
        ]

    def _place(self, client: Client, kind: Kind, namespace: str | None) -> tuple[str, str, str, str | None]:
        return client.program, client.user, kind.qualified, namespace

    def _gate(self, deliver: Callable[[Any], None]) -> Gate[Any]:
        return Gate(self._scheduler, deliver)

    def _thaw_forgotten(self) -> None:
        """A cache whose revision is gone from the log has to begin anew, and is up to date then."""
        over = self._faults.frozen_before(self.server.store.oldest)
        if over:
            self.clear_faults([fault.number for fault in over])

    def _apply(self) -> None:
        for stream, watch in list(self._open.items()):
            lag, frozen_at = self._faults.on_watch(watch.client, watch.kind)
            stream.gated(self._gate).set(lag, frozen_at)
        for component, informer in self._informers():
            client = Client(COMPONENT_PROGRAM + component, component, IN_PROCESS)
            lag, frozen_at = self._faults.on_watch(client, informer.kind)
            informer.gated(self._gate).set(lag, frozen_at)
