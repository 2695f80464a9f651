"""Runs programs: answers the effects that controllers and services yield, under the world's clock.

Every request and every watch event takes a small delay that is derived from the seed, so that different seeds explore
different interleavings; events of one watch stay in order, as on a real stream.
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from labsim.clock import Scheduler
from labsim.controllers.runtime.cache import Cache
from labsim.controllers.runtime.component import Component
from labsim.controllers.runtime.effects import (
    Controller,
    Enqueue,
    Handler,
    Http,
    Key,
    Note,
    Now,
    Program,
    Publish,
    Read,
    ReadList,
    ReconcileError,
    Result,
    Sleep,
    Unreachable,
    Watch,
    Withdraw,
    Write,
)
from labsim.controllers.runtime.hub import HubServer, RemoteHub
from labsim.controllers.runtime.informer import Follower, Informer
from labsim.controllers.runtime.queue import WorkQueue
from labsim.entropy import Delays, Entropy
from labsim.history import History
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.model.http import Request, Response
from labsim.model.kinds import Kind

log = logging.getLogger(__name__)

# What a request and a watch event take, in seconds: a hub under light load on a local network.
REQUEST_DELAY_S = (0.001, 0.004)
WATCH_DELAY_S = (0.001, 0.015)

Done = Callable[[Any, BaseException | None], None]  # called with the result, or with what was raised
_Watched = tuple[str, Kind, object]  # a component, what it watches, and through which sieve
_Pending = tuple[Program[Any], "Actor", Done, Any]  # a program that waits, and the effect that it waits for


class Surroundings(Protocol):
    """What the engine needs of the world beside the hub: other clusters, other services, and starting them."""

    def server_at(self, kubeconfig: str, caller: str) -> ApiServer:
        """The API server that a kubeconfig leads to; raises Unreachable."""
        ...

    def hosted_servers(self) -> Mapping[str, ApiServer]:
        """The API servers of hosted clusters by owner."""
        ...

    def request(self, request: Request) -> Program[Response]:
        """Route a request of a component to whoever answers at its address; raises Unreachable."""
        ...

    def publish(self, effect: Publish) -> None: ...
    def withdraw(self, effect: Withdraw) -> None: ...


class Actor:
    """Who runs a program: its name in the history, its caches, its component's queues, what its requests take.

    caches: by kind; hosted_caches: the same of each hosted cluster.
    """

    __slots__ = ("caches", "component", "delays", "hosted_caches", "name", "queues")

    def __init__(self, name: str, component: str, delays: Delays) -> None:
        self.name = name
        self.component = component
        self.delays = delays
        self.caches: dict[str, Cache] = {}
        self.hosted_caches: weakref.WeakKeyDictionary[HubServer, dict[str, Cache]] = weakref.WeakKeyDictionary()
        self.queues: dict[str, WorkQueue] = {}


class Engine:
    """The interpreter of all programs of one world."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        entropy: Entropy,
        history: History,
        hub: HubServer,
        around: Surroundings,
        remote: RemoteHub | None = None,  # the hub once more, where it is outside the process
    ) -> None:
        self._scheduler = scheduler
        self._entropy = entropy.child("engine")
        self._history = history
        self._hub = hub
        self._remote = remote
        self._around = around
        self._queues: list[WorkQueue] = []
        self._informers: weakref.WeakKeyDictionary[HubServer, dict[_Watched, Informer]] = weakref.WeakKeyDictionary()
        self._hosted_watches: list[tuple[Actor, Watch, WorkQueue]] = []
        self.services: dict[str, tuple[Handler, Actor]] = {}
        self.acting = "outside"  # who causes the store write that happens now
        self.reconciles = 0
        self.failures: list[tuple[str, str]] = []  # (actor, what) of unexpected exceptions: our own bugs

    # -- components -------------------------------------------------------------------------------------------------

    def add(self, component: Component) -> None:
        """Start a component: its watches, its queues, its services."""
        queues: dict[str, WorkQueue] = {}
        actors: list[Actor] = []
        for controller in component.controllers():
            actor = self._actor(controller.name, component.name)
            queue = WorkQueue(self._scheduler, self._runner(controller, actor), controller.workers)
            queues[controller.name] = queue
            self._queues.append(queue)
            actors.append(actor)
            for watch in controller.watches:
                if watch.hosted:
                    self._hosted_watches.append((actor, watch, queue))
                    for owner, server in self._around.hosted_servers().items():
                        self._follow(server, actor, watch, queue, owner)
                else:
                    self._follow(self._hub, actor, watch, queue, None)
        service_actor = self._actor("http", component.name)
        actors.append(service_actor)
        for actor in actors:
            actor.queues = queues
        for name, handler in component.services().items():
            self.services[name] = (handler, service_actor)
        for controller_name, key in component.start_keys():
            queues[controller_name].add(key, "start")

    def _actor(self, name: str, component: str) -> Actor:
        full_name = f"{component}/{name}"
        return Actor(full_name, component, Delays(self._entropy, f"request/{full_name}", *REQUEST_DELAY_S))

    def hosted_cluster_started(self, owner: str, server: ApiServer) -> None:
        """Let every controller that follows hosted clusters follow this one too."""
        for actor, watch, queue in self._hosted_watches:
            self._follow(server, actor, watch, queue, owner)

    def hub_informers(self) -> Iterator[tuple[str, Informer]]:
        """The watches of the hub, each with its component."""
        for (component, _, _), informer in self._informers.get(self._hub, {}).items():
            yield component, informer

    @property
    def is_idle(self) -> bool:
        return all(queue.is_idle for queue in self._queues)

    def _follow(self, server: HubServer, actor: Actor, watch: Watch, queue: WorkQueue, owner: str | None) -> None:
        informers = self._informers.setdefault(server, {})
        key = (actor.component, watch.kind, watch.sieve)
        informer = informers.get(key)
        if informer is None:
            purpose = f"watch/{actor.component}/{owner or 'hub'}/{watch.kind.qualified}"
            delays = Delays(self._entropy, purpose, *WATCH_DELAY_S)
            informer = informers[key] = Informer(self._scheduler, delays, server, watch.kind, watch.sieve)
        caches = actor.caches if owner is None else actor.hosted_caches.setdefault(server, {})
        caches[watch.kind.qualified] = informer.cache
        informer.join(Follower(watch, queue, owner))

    # -- running programs -------------------------------------------------------------------------------------------

    def _runner(self, controller: Controller, actor: Actor) -> Callable[[Key, str], None]:
        def run(key: Key, cause: str) -> None:
            queue = actor.queues[controller.name]
            self.reconciles += 1
            if self._history.wants("wake"):
                self._history.record("wake", actor=actor.name, key=str(key), cause=cause)

            def done(result: Any, error: BaseException | None) -> None:
                if error is None:
                    queue.succeeded(key)
                    if isinstance(result, Result) and result.requeue_after_s is not None:
                        queue.add_after(key, result.requeue_after_s, "requeue")
                    return
                if not isinstance(error, ApiError | ReconcileError | Unreachable):
                    self.failures.append((actor.name, f"{key}: {error!r}"))
                    log.error("reconcile failed: %s %s", actor.name, key, exc_info=error)
                self._history.record("error", actor=actor.name, key=str(key), error=str(error)[:300])
                queue.failed(key, f"error: {error}")

            self.run(controller.reconcile(key), actor, done)

        return run

    def run(self, program: Program[Any], actor: Actor, done: Done) -> None:
        """Run a program to its end; `done` hears the result or the error, perhaps at once."""
        self._step(program, actor, done, None, None)

    def _step(self, program: Program[Any], actor: Actor, done: Done, value: Any, error: BaseException | None) -> None:
        while True:
            try:
                effect = program.send(value) if error is None else program.throw(error)
            except StopIteration as stop:
                error = None  # its traceback holds this frame: together they would wait for the collector
                done(stop.value, None)
                return
            except Exception as raised:
                error = None
                done(None, raised)
                return
            value, error = None, None
            kind = type(effect)
            try:
                if kind is Read:
                    if not effect.live:
                        at_hub = effect.at is None
                        cache = actor.caches.get(effect.kind.qualified) if at_hub else self._cache(effect, actor)
                        if cache is not None:
                            value = cache.get(effect.namespace, effect.name)
                            continue
                elif kind is ReadList:
                    if not effect.live and not effect.field_selector:
                        cache = self._cache(effect, actor)
                        if cache is not None:
                            value = cache.list(effect.namespace, effect.label_selector)
                            continue
                elif kind is Now:
                    value = self._scheduler.now()
                    continue
                elif kind is Enqueue:
                    queue = actor.queues[effect.controller]
                    queue.add_after(effect.key, effect.after_s, f"{actor.name} asked")
                    continue
                elif kind is Note:
                    self._history.record("note", actor=actor.name, text=effect.text)
                    continue
                elif kind is Publish:
                    self._around.publish(effect)
                    continue
                elif kind is Withdraw:
                    self._around.withdraw(effect)
                    continue
            except Exception as raised:
                error = raised
                continue
            self._later(program, actor, done, effect)
            return

    def _cache(self, effect: Read | ReadList, actor: Actor) -> Cache | None:
        """What answers a read; None where the actor does not follow that kind there. Raises Unreachable."""
        if effect.at is None:
            return actor.caches.get(effect.kind.qualified)
        caches = actor.hosted_caches.get(self._around.server_at(effect.at, actor.name))
        return None if caches is None else caches.get(effect.kind.qualified)

    def _later(self, program: Program[Any], actor: Actor, done: Done, effect: Any) -> None:
        """Carry out an effect that takes time, then go on."""
        scheduler, kind = self._scheduler, type(effect)
        now_s = scheduler.now()
        pending = (program, actor, done, effect)
        if kind is Sleep:
            scheduler.post_at(now_s + effect.seconds, self._wake, pending)
        elif kind is Http:
            due_s = now_s + actor.delays.of(effect.request.path, now_s)
            scheduler.post_at(due_s, self._route, pending)
        elif kind is ReadList:
            scheduler.post_at(now_s + actor.delays.of(effect.kind.plural, now_s), self._ask, pending)
        elif kind is Read or kind is Write:
            scheduler.post_at(now_s + actor.delays.of(effect.name, now_s), self._ask, pending)
        else:
            raise TypeError(f"{actor.name} yielded {effect!r}, which is no effect of labsim.controllers.runtime")

    def _wake(self, pending: _Pending) -> None:
        program, actor, done, _ = pending
        self._step(program, actor, done, None, None)

    def _route(self, pending: _Pending) -> None:
        """Send an HTTP request to whoever answers it."""
        program, actor, done, effect = pending
        try:
            inner = self._around.request(effect.request)
        except Unreachable as refused:
            self._step(program, actor, done, None, refused)
            return
        self.run(inner, actor, functools.partial(self._step, program, actor, done))

    def _ask(self, pending: _Pending) -> None:
        """Ask an API server."""
        program, actor, done, effect = pending
        if self._remote is not None and effect.at is None:
            call = functools.partial(self._perform, effect, actor)
            self._remote.carry(call, functools.partial(self._step, program, actor, done), actor.name)
            return
        value, error = None, None
        acting, self.acting = self.acting, actor.name
        try:
            value = self._perform(effect, actor)
        except (ApiError, Unreachable) as refused:
            error = refused
        finally:
            self.acting = acting
        self._step(program, actor, done, value, error)
        error = None  # as in _step

    def _perform(self, effect: Read | ReadList | Write, actor: Actor) -> Any:
        server: HubServer = self._hub if effect.at is None else self._around.server_at(effect.at, actor.name)
        if isinstance(effect, Write):
            return _write(server, effect, effect.field_manager)
        if isinstance(effect, Read):
            try:
                return server.get(effect.kind, effect.namespace, effect.name)
            except ApiError as error:
                if error.code == 404:
                    return None
                raise
        objects, _ = server.list(
            effect.kind,
            effect.namespace,
            label_selector=effect.label_selector,
            field_selector=effect.field_selector,
        )
        return objects


def _write(server: HubServer, effect: Write, manager: str) -> Any:
    if effect.verb == "create":
        return server.create(effect.body, effect.kind, manager=manager)
    if effect.verb == "update":
        return server.update(effect.body, effect.kind, subresource=effect.subresource, manager=manager)
    if effect.verb == "patch":
        return server.patch(
            effect.kind,
            effect.namespace,
            effect.name,
            effect.body,
            patch_type=effect.patch_type,
            subresource=effect.subresource,
            manager=manager,
            force=effect.force,
        )
    if effect.verb == "delete":
        try:
            server.delete(effect.kind, effect.namespace, effect.name, options=effect.body)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True
    raise ValueError(f"unknown verb {effect.verb!r}")
