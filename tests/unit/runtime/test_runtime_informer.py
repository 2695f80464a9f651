"""The watches of a component: shared by its controllers, late, in order; and reads at hosted clusters from them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

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
    list_all,
)
from labsim.controllers.runtime.engine import WATCH_DELAY_S, Engine
from labsim.entropy import Entropy
from labsim.history import History
from labsim.kube.server import ApiServer
from labsim.model.http import Request, Response
from labsim.model.kinds import CONFIG_MAP, Kind
from labsim.model.objects import Object, name_of, new

OWNER = "clusters/example"


class CountingServer(ApiServer):
    """An API server that counts who follows it and who reads from it."""

    def __init__(self, name: str, queue: EventQueue) -> None:
        super().__init__(name=name, clock=queue, entropy=Entropy("1"))
        self.follows = 0
        self.reads = 0

    def follow(self, kind: Kind, callback: Callable[..., None]) -> list[Object]:
        self.follows += 1
        return super().follow(kind, callback)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        self.reads += 1
        return super().get(kind, namespace, name)


class OneHostedCluster:
    """Surroundings with one hosted cluster, whose kubeconfig is its owner."""

    def __init__(self, server: ApiServer) -> None:
        self.server: ApiServer | None = server

    def server_at(self, kubeconfig: str, caller: str) -> ApiServer:
        if self.server is None or kubeconfig != OWNER:
            raise Unreachable(kubeconfig)
        return self.server

    def hosted_servers(self) -> Mapping[str, ApiServer]:
        return {} if self.server is None else {OWNER: self.server}

    def request(self, request: Request) -> Program[Response]:
        raise Unreachable(request.host)

    def publish(self, effect: Publish) -> None: ...
    def withdraw(self, effect: Withdraw) -> None: ...


class Readers:
    """Controllers that note what they read, and when."""

    name = "readers"

    def __init__(self, *watches: Watch, at: str | None = None) -> None:
        self.watches = watches
        self.at = at
        self.seen: list[tuple[str, str, bool]] = []  # controller, key, whether the object was there
        self.listed: list[str] = []
        self.refused: list[str] = []

    def controllers(self) -> Sequence[Controller]:
        return tuple(
            Controller(f"reader-{number}", self._reader(f"reader-{number}"), (watch,))
            for number, watch in enumerate(self.watches)
        )

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()

    def _reader(self, who: str) -> Callable[[Key], Program[Result]]:
        def reconcile(key: Key) -> Program[Result]:
            try:
                found = yield from get(CONFIG_MAP, key.namespace, key.name, at=self.at)
                self.listed = [name_of(obj) for obj in (yield from list_all(CONFIG_MAP, "default", at=self.at))]
            except Unreachable as refused:
                self.refused.append(str(refused))
                return DONE
            self.seen.append((who, key.name, found is not None))
            return DONE

        return reconcile


class Bench:
    def __init__(self) -> None:
        self.queue = EventQueue()
        self.hub = CountingServer("hub", self.queue)
        self.inner = CountingServer(OWNER, self.queue)
        self.around = OneHostedCluster(self.inner)
        self.engine = Engine(
            scheduler=self.queue,
            entropy=Entropy("1"),
            history=History(self.queue.now, io.BytesIO()),
            hub=self.hub,
            around=self.around,
        )

    def settle(self, seconds: float = 10.0) -> None:
        until_s = self.queue.now() + seconds
        while self.queue.run_next(until_s):
            pass
        self.queue.advance_to(until_s)


def _keys_at(obj: Object, owner: str) -> tuple[Key, ...]:
    return (Key(obj["metadata"]["namespace"], name_of(obj)),)


def test_the_controllers_of_a_component_share_one_watch_of_a_kind() -> None:
    bench, readers = Bench(), Readers(Watch(CONFIG_MAP), Watch(CONFIG_MAP))
    bench.engine.add(readers)
    bench.hub.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
    bench.settle()
    assert bench.hub.follows == 1
    assert readers.seen == [("reader-0", "one", True), ("reader-1", "one", True)]


def test_a_second_component_has_its_own_watch() -> None:
    bench, first, second = Bench(), Readers(Watch(CONFIG_MAP)), Readers(Watch(CONFIG_MAP))
    second.name = "others"
    bench.engine.add(first)
    bench.engine.add(second)
    assert bench.hub.follows == 2


def test_events_arrive_late_and_in_order() -> None:
    bench, readers = Bench(), Readers(Watch(CONFIG_MAP))
    bench.engine.add(readers)
    heard: list[tuple[str, float]] = []
    started_s = bench.queue.now()
    names = [f"c{number:02}" for number in range(50)]
    for name in names:
        bench.hub.create(new(CONFIG_MAP, "default", name), CONFIG_MAP)
        bench.queue.run_next(bench.queue.now() + 0.0005)
        heard += [(found, bench.queue.now() - started_s) for _, found, _ in readers.seen[len(heard) :]]
    assert not heard
    while bench.queue.run_next(started_s + WATCH_DELAY_S[1]):
        heard += [(found, bench.queue.now() - started_s) for _, found, _ in readers.seen[len(heard) :]]
    assert [name for name, _ in heard] == names
    assert all(WATCH_DELAY_S[0] <= at_s < WATCH_DELAY_S[1] for _, at_s in heard)
    assert [at_s for _, at_s in heard] == sorted(at_s for _, at_s in heard)


def test_a_watch_answers_reads_at_a_hosted_cluster() -> None:
    bench, readers = Bench(), Readers(Watch(CONFIG_MAP, _keys_at, hosted=True), at=OWNER)
    bench.engine.add(readers)
    bench.inner.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
    bench.settle()
    assert readers.seen == [("reader-0", "one", True)]
    assert readers.listed == ["one"]
    assert bench.inner.reads == 0


def test_a_sieve_keeps_changes_from_a_watch_and_from_no_other() -> None:
    def never(before: Object, after: Object) -> bool:
        return False

    bench, readers = Bench(), Readers(Watch(CONFIG_MAP), Watch(CONFIG_MAP, sieve=never))
    bench.engine.add(readers)
    bench.hub.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
    bench.settle()
    bench.hub.patch(CONFIG_MAP, "default", "one", {"data": {"a": "b"}}, patch_type="application/merge-patch+json")
    bench.settle()
    bench.hub.delete(CONFIG_MAP, "default", "one")
    bench.settle()
    assert sorted(who for who, _, _ in readers.seen) == ["reader-0"] * 3 + ["reader-1"] * 2


def test_a_cache_answers_only_while_its_cluster_can_be_reached() -> None:
    bench, readers = Bench(), Readers(Watch(CONFIG_MAP, _keys_at, hosted=True), at=OWNER)
    bench.engine.add(readers)
    bench.inner.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
    bench.around.server = None
    bench.settle()
    assert readers.refused == [OWNER]


def test_a_cluster_that_comes_again_under_its_old_name_is_another_one() -> None:
    bench, readers = Bench(), Readers(Watch(CONFIG_MAP, _keys_at, hosted=True), at=OWNER)
    bench.engine.add(readers)
    bench.inner.create(new(CONFIG_MAP, "default", "old"), CONFIG_MAP)
    bench.settle()
    again = CountingServer(OWNER, bench.queue)
    bench.around.server = again
    bench.engine.hosted_cluster_started(OWNER, again)
    again.create(new(CONFIG_MAP, "default", "new"), CONFIG_MAP)
    bench.settle()
    assert readers.listed == ["new"]
