"""The engine in virtual time, with a controller that labels ConfigMaps."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.clock import EventQueue
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Handler,
    Key,
    Program,
    Publish,
    Result,
    Unreachable,
    Watch,
    Withdraw,
    get,
    patch,
    update,
)
from labsim.controllers.runtime.engine import Engine
from labsim.entropy import Entropy
from labsim.history import History
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.model.http import Request, Response
from labsim.model.kinds import CONFIG_MAP
from labsim.model.objects import labels_of, name_of, new, thaw


class Nobody:
    """Surroundings with no other cluster and no service."""

    def server_at(self, kubeconfig: str, caller: str) -> ApiServer:
        raise Unreachable(kubeconfig)

    def hosted_servers(self) -> Mapping[str, ApiServer]:
        return {}

    def request(self, request: Request) -> Program[Response]:
        raise Unreachable(request.host)

    def publish(self, effect: Publish) -> None: ...
    def withdraw(self, effect: Withdraw) -> None: ...


class Labeller:
    """Puts `seen: yes` on every ConfigMap; fails as often as it is told to."""

    name = "labeller"

    def __init__(self, failures: int = 0, workers: int = 1, stale: bool = False) -> None:
        self.failures = failures
        self.workers = workers
        self.stale = stale
        self.running: set[Key] = set()
        self.most_at_once = 0
        self.attempts: list[str] = []

    def controllers(self) -> Sequence[Controller]:
        return (Controller("label", self.reconcile, (Watch(CONFIG_MAP),), workers=self.workers),)

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()

    def reconcile(self, key: Key) -> Program[Result]:
        assert key not in self.running, "one key never runs twice at once"
        self.running.add(key)
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            self.attempts.append(key.name)
            found = yield from get(CONFIG_MAP, key.namespace, key.name)
            if found is None or labels_of(found).get("seen"):
                return DONE
            if self.failures:
                self.failures -= 1
                yield from update(
                    {**thaw(found), "metadata": {**found["metadata"], "resourceVersion": "1"}}, CONFIG_MAP
                )
            yield from patch(CONFIG_MAP, key.namespace, key.name, {"metadata": {"labels": {"seen": "yes"}}})
            return DONE
        finally:
            self.running.discard(key)


class Bench:
    """A world of one hub and one engine."""

    def __init__(self, seed: str = "1") -> None:
        self.queue = EventQueue()
        self.hub = ApiServer(name="hub", clock=self.queue, entropy=Entropy(seed))
        self.sink = io.BytesIO()
        self.engine = Engine(
            scheduler=self.queue,
            entropy=Entropy(seed),
            history=History(self.queue.now, self.sink),
            hub=self.hub,
            around=Nobody(),
        )

    def settle(self, seconds: float = 60.0) -> None:
        until_s = self.queue.now() + seconds
        while self.queue.run_next(until_s):
            pass
        self.queue.advance_to(until_s)

    def labelled(self) -> list[str]:
        objects, _ = self.hub.list(CONFIG_MAP, "default")
        return [name_of(obj) for obj in objects if labels_of(obj).get("seen") == "yes"]


def test_objects_that_were_there_and_objects_that_come_are_reconciled() -> None:
    bench = Bench()
    bench.hub.create(new(CONFIG_MAP, "default", "before"), CONFIG_MAP)
    bench.engine.add(Labeller())
    bench.settle()
    bench.hub.create(new(CONFIG_MAP, "default", "after"), CONFIG_MAP)
    bench.settle()
    assert bench.labelled() == ["after", "before"]
    assert bench.engine.is_idle


def test_an_error_is_tried_again_with_back_off() -> None:
    bench, labeller = Bench(), Labeller(failures=4)
    bench.engine.add(labeller)
    bench.hub.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
    bench.settle()
    assert bench.labelled() == ["one"]
    assert len(labeller.attempts) >= 5
    assert bench.engine.failures == [], "an API error is no bug of ours"


def test_an_unexpected_exception_is_written_down_as_our_own_bug() -> None:
    class Broken(Labeller):
        def reconcile(self, key: Key) -> Program[Result]:
            yield from ()
            raise ZeroDivisionError(key.name)

    bench = Bench()
    bench.engine.add(Broken())
    bench.hub.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
    bench.settle(1)
    assert bench.engine.failures
    assert "ZeroDivisionError" in bench.engine.failures[0][1]


@pytest.mark.parametrize(("workers", "at_once"), [(1, 1), (3, 3)])
def test_keys_run_side_by_side_up_to_the_number_of_workers(workers: int, at_once: int) -> None:
    bench, labeller = Bench(), Labeller(workers=workers)
    for index in range(6):
        bench.hub.create(new(CONFIG_MAP, "default", f"c{index}"), CONFIG_MAP)
    bench.engine.add(labeller)
    bench.settle()
    assert labeller.most_at_once == at_once
    assert len(bench.labelled()) == 6


def history_of(seed: str) -> bytes:
    bench = Bench(seed)
    bench.engine.add(Labeller(workers=2))
    for index in range(5):
        bench.hub.create(new(CONFIG_MAP, "default", f"c{index}"), CONFIG_MAP)
    bench.settle()
    return bench.sink.getvalue()


def test_a_seed_is_an_interleaving() -> None:
    assert history_of("1") == history_of("1")
    assert history_of("1") != history_of("2")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["c0", "c1", "c2", "gone"]), max_size=30))
def test_lost_doubled_or_reordered_wake_ups_change_nothing(wake_ups: list[str]) -> None:
    bench, labeller = Bench(), Labeller()
    bench.engine.add(labeller)
    for index in range(3):
        bench.hub.create(new(CONFIG_MAP, "default", f"c{index}"), CONFIG_MAP)
    queue: Any = bench.engine._queues[0]
    for name in wake_ups:
        queue.add(Key("default", name), "rough")
    bench.settle()
    assert bench.labelled() == ["c0", "c1", "c2"]
    revision = bench.hub.revision
    for name in wake_ups:
        queue.add(Key("default", name), "rough")
    bench.settle()
    assert bench.hub.revision == revision, "a settled world stops writing"


def test_a_refusal_leaves_nothing_to_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals: list[weakref.ref[ApiError]] = []
    made = ApiError.__init__

    def noted(self: ApiError, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        refusals.append(weakref.ref(self))

    monkeypatch.setattr(ApiError, "__init__", noted)
    bench = Bench()
    bench.engine.add(Labeller(failures=2))
    bench.hub.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
    gc.disable()
    try:
        bench.settle()
        assert [refusal() for refusal in refusals] == [None, None]
    finally:
        gc.enable()
