"""A world: one event queue, one hub store, hosted clusters, components, machines; driven by one thread.

Others (socket servers, hypervisor callbacks, a test's thread) hand work in with `post`, which is the only method that
another thread may call.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from labsim.clock import VIRTUAL_EPOCH_S, EventQueue
from labsim.controllers.runtime.component import Component
from labsim.controllers.runtime.effects import Program, Publish, Unreachable, Withdraw
from labsim.controllers.runtime.engine import Done, Engine
from labsim.controllers.runtime.hub import HubServer, RemoteHub
from labsim.entropy import Entropy
from labsim.history import History
from labsim.kube.crds import hosted_crds, hub_conversions, hub_crds
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.model.http import Request, Response
from labsim.model.objects import Object
from labsim.network.fabric import Endpoint, Fabric
from labsim.world.durability import KEPT_WITHIN_S, Durability, KeptState
from labsim.world.hosted import HostedApi, HostedAuthenticationOf, kubeconfig_server
from labsim.world.pace import Pace, VirtualPace

T = TypeVar("T")

KUBE_API_SERVICE = "kube-apiserver"


class World:
    """Everything that is simulated, under one clock."""

    def __init__(
        self,
        *,
        seed: int | str,
        pace: Pace | None = None,
        start_s: float = VIRTUAL_EPOCH_S,
        history: Callable[[Callable[[], float]], History] = History,
        port_is_free: Callable[[int], bool] = lambda port: True,
        extra_crds: Iterable[Object] = (),
        durability: Durability | None = None,
        kept: KeptState | None = None,
        remote: Callable[[World], RemoteHub] | None = None,
    ) -> None:
        """`remote` connects to a hub outside the process, which then takes the place of the world's own.

        durability: keeps the state on a disk, from its `begin` on. kept: the state of an earlier process, to go on
        from.
        """
        self.entropy = Entropy(seed)
        self.pace: Pace = pace or VirtualPace()
        self.queue = EventQueue(start_s)
        self.history = history(self.queue.now)
        self.fabric = Fabric()
        self.gaps = 0  # how often changes of a hub outside the process were not seen
        self.changes = 0  # grows with every store write: whoever waits looks again only when it has grown
        self.writes = 0  # of every store
        self.requests = 0  # that the world's services and hosted clusters have answered
        self._inbox: collections.deque[Callable[[], None]] = collections.deque()
        self._arrived = threading.Condition()
        self._stopping = False
        self._trouble: Exception | None = None
        self.hub_in_process: ApiServer | None = None
        self.remote = None if remote is None else remote(self)
        if self.remote is None:
            self.hub_in_process = ApiServer(
                name="hub",
                clock=self.queue,
                entropy=self.entropy.child("hub"),
                crds=[*hub_crds(), *extra_crds],
                conversions=hub_conversions(),
                port_is_free=port_is_free,
                kept=None if kept is None else kept.store("hub"),
            )
        self.hosted: dict[str, HostedApi] = {}
        self.hosted_authentication: HostedAuthenticationOf = lambda owner: None
        self.engine = Engine(
            scheduler=self.queue,
            entropy=self.entropy,
            history=self.history,
            hub=self.hub_server,
            around=self,
            remote=self.remote,
        )
        self._record_all("hub", self.hub_server)
        self.hub_server.subscribe(lambda revision: self._record("hub", revision))
        self.durability = durability
        if durability is not None:
            durability.now = self.queue.now
        if durability is not None and self.hub_in_process is not None:
            durability.keep_store("hub", self.hub_in_process)
        for owner in sorted(kept.stores) if kept is not None else ():
            self._add_hosted(owner, kept)

    @property
    def hub(self) -> ApiServer:
        """The hub's API server in this process."""
        if self.hub_in_process is None:
            raise RuntimeError("the hub of this world is outside the process")
        return self.hub_in_process

    @property
    def hub_server(self) -> HubServer:
        """The hub's API server, wherever it is."""
        return self.hub if self.remote is None else self.remote

    # -- time ---------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.queue.now()

    def run_until(self, done: Callable[[], bool], deadline_s: float) -> bool:
        """Let time pass until `done()` or the in-world time `deadline_s`; True if it was done.

        `done` is asked again whenever a store or a machine has changed.
        """
        seen = -1
        inbox, run_next = self._inbox, self.queue.run_next
        runs_freely = self.pace.is_virtual and self.durability is None
        while True:
            if self.changes != seen:
                seen = self.changes
                if done():
                    return True
            if self._stopping:
                if self._trouble is not None:
                    raise self._trouble
                return done()
            if runs_freely and not inbox and run_next(deadline_s):
                continue
            if not self._advance(deadline_s):
                return done()

    def run_for(self, seconds: float) -> None:
        """Let that much in-world time pass."""
        self.run_until(lambda: False, self.now() + seconds)

    def _advance(self, deadline_s: float) -> bool:
        """Do the next thing; False when the deadline has come and nothing is due before it."""
        if self.durability is not None and self.durability.is_due():
            self.durability.keep_now()
            return True
        if self._inbox:
            self._drain()
            return True
        if self.pace.is_virtual:
            if self.queue.run_next(deadline_s):
                return True
            self.queue.advance_to(deadline_s)
            return False
        in_world_s = self.pace.in_world_s() or 0.0
        if self.queue.run_next(min(in_world_s, deadline_s)):
            return True
        self.queue.advance_to(min(in_world_s, deadline_s))
        if in_world_s >= deadline_s:
            return False
        due_s = self.queue.next_due_s()
        wait_s = self.pace.real_wait_s(deadline_s if due_s is None else min(due_s, deadline_s))
        with self._arrived:
            if not self._inbox and wait_s > 0:
                self._arrived.wait(min(wait_s, KEPT_WITHIN_S if self.durability is not None else 0.25))
        return True

    def stop(self) -> None:
        """End `run_until` soon; any thread."""
        self._stopping = True
        with self._arrived:
            self._arrived.notify()

    def fail(self, error: Exception) -> None:
        """End `run_until` with an error: this world cannot go on (its history cannot be written). Any thread."""
        self._trouble = error
        self.stop()

    # -- work from other threads ------------------------------------------------------------------------------------

    def post(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` on the world's thread; any thread."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call()
            except BaseException as error:
                problem = error
                self.tell(lambda: future.set_exception(problem))
            else:
                self.tell(lambda: future.set_result(result))

        with self._arrived:
            self._inbox.append(run)
            self._arrived.notify()
        return future

    def _drain(self) -> None:
        for _ in range(len(self._inbox)):  # what comes meanwhile is of the next round, and shares its sync
            self._inbox.popleft()()

    def tell(self, call: Callable[[], None]) -> None:
        """Tell somebody outside the process something, once what it rests on is kept."""
        if self.durability is None:
            call()
        else:
            self.durability.tell(call)

    # -- components and requests ------------------------------------------------------------------------------------

    def add(self, component: Component) -> None:
        self.engine.add(component)

    def publish_service(self, service: str, host: str, port: int, *, ca_pem: str = "") -> None:
        """Let a component's service answer at a place that is there from the start (the hub's own routes)."""
        self.fabric.publish(Endpoint(host=host, port=port, service=service, owner="hub", serve=service, ca_pem=ca_pem))

    def serve(self, endpoint: Endpoint, request: Request) -> Program[Response]:
        """The program that answers a request at an endpoint."""
        if isinstance(endpoint.serve, HostedApi):
            return _answered(endpoint.serve.handle(request))
        handler, _ = self.engine.services[endpoint.serve]
        return handler(request)

    def answer(self, endpoint: Endpoint, request: Request, done: Done) -> None:
        """Serve a request; `done` hears the response on the world's thread."""
        if isinstance(endpoint.serve, HostedApi):
            acting, self.engine.acting = self.engine.acting, request.client
            try:
                response = endpoint.serve.handle(request)
            finally:
                self.engine.acting = acting
            self._note_request(request, endpoint, response.status)
            done(response, None)
            return
        handler, actor = self.engine.services[endpoint.serve]

        def finished(response: Any, error: BaseException | None) -> None:
            self._note_request(request, endpoint, 500 if error is not None else response.status)
            done(response, error)

        self.engine.run(handler(request), actor, finished)

    def _note_request(self, request: Request, endpoint: Endpoint, status: int) -> None:
        self.requests += 1
        if not self.history.wants("request"):
            return
        self.history.record(
            "request",
            client=request.client,
            service=endpoint.service,
            owner=endpoint.owner,
            method=request.method,
            path=request.path,
            status=status,
        )

    # -- what the engine needs (labsim.controllers.runtime.engine.Surroundings) -------------------------------------

    def server_at(self, kubeconfig: str, caller: str) -> ApiServer:
        url = kubeconfig_server(kubeconfig)
        endpoint = self.fabric.find(url)
        if endpoint is None or not isinstance(endpoint.serve, HostedApi) or self.fabric.is_blocked(caller, endpoint):
            raise Unreachable(f"dial tcp {url}: connect: connection refused")
        return endpoint.serve.server

    def hosted_servers(self) -> Mapping[str, ApiServer]:
        return {owner: api.server for owner, api in sorted(self.hosted.items())}

    def request(self, request: Request) -> Program[Response]:
        endpoint = self.fabric.find(request.host, request.scheme)
        if endpoint is None or self.fabric.is_blocked(request.client, endpoint):
            raise Unreachable(f"dial tcp {request.host}: connect: connection refused")
        return self.serve(endpoint, request)

    def publish(self, effect: Publish) -> None:
        serve: Any = effect.service
        if effect.service == KUBE_API_SERVICE:
            serve = self.hosted.get(effect.owner) or self._start_hosted(effect.owner)
            namespace = effect.owner.partition("/")[0]
            inner = Endpoint(
                host=f"{KUBE_API_SERVICE}.{namespace}.svc",
                port=6443,
                service=effect.service,
                owner=effect.owner,
                serve=serve,
            )
            self.fabric.publish(inner)
        elif effect.service not in self.engine.services:
            serve = "none"
        self.fabric.publish(
            Endpoint(
                host=effect.host,
                port=effect.port,
                service=effect.service,
                owner=effect.owner,
                serve=serve,
                certificate_pem=effect.certificate_pem,
                key_pem=effect.key_pem,
            )
        )

    def withdraw(self, effect: Withdraw) -> None:
        self.fabric.withdraw(effect.owner, effect.service)
        if effect.service == "" and self.hosted.pop(effect.owner, None) is not None:
            if self.durability is not None:
                self.durability.forget_store(effect.owner)
            self.history.record("forgotten", store=effect.owner)

    def _start_hosted(self, owner: str) -> HostedApi:
        api = self._add_hosted(owner)
        self.engine.hosted_cluster_started(owner, api.server)
        return api

    def _add_hosted(self, owner: str, kept: KeptState | None = None) -> HostedApi:
        server = ApiServer(
            name=owner,
            clock=self.queue,
            entropy=self.entropy.child(f"hosted/{owner}"),
            crds=hosted_crds(),
            kept=None if kept is None else kept.store(owner),
        )
        api = HostedApi(owner, server, lambda: self.hosted_authentication(owner))
        self._record_all(owner, server)
        server.subscribe(lambda revision: self._record(owner, revision))
        self.hosted[owner] = api
        if self.durability is not None:
            self.durability.keep_store(owner, server)
        return api

    def act(self, actor: str) -> str:
        """Who causes the store writes from now on; returns who did before."""
        before, self.engine.acting = self.engine.acting, actor
        return before

    def missed(self, store: str, kind: str) -> None:
        """Some changes of a hub outside the process were not seen: no verdict can rely on them."""
        self.gaps += 1
        self.history.record("gap", store=store, what=f"changes of {kind} were not seen")

    def _record_all(self, store: str, server: HubServer) -> None:
        """What a new server begins with: its kinds and first namespaces."""
        for obj in server.everything():
            metadata = obj["metadata"]
            place = (obj["kind"], metadata.get("namespace", ""), metadata["name"], int(metadata["resourceVersion"]))
            self.history.record_write(store, "server", "ADDED", *place, None, obj)

    def _record(self, store: str, revision: Revision) -> None:
        self.changes += 1
        self.writes += 1
        if not self.history.wants("write"):
            return
        self.history.record_write(
            store,
            self.engine.acting,
            str(revision.type),
            revision.kind.kind,
            revision.namespace,
            revision.name,
            revision.revision,
            revision.previous_object,
            revision.object,
        )


def _answered(response: Response) -> Program[Response]:
    """A program that has its answer already."""
    yield from ()
    return response
