"""What a watch lets through, and what is read from the cache that it feeds, on the hub and in hosted clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from labsim.controllers.runtime.engine import Engine
from labsim.controllers.runtime.sieves import metadata_changed, owners_changed
from labsim.entropy import Entropy
from labsim.history import History
from labsim.kube.server import ApiServer
from labsim.model.http import Request, Response
from labsim.model.kinds import CONFIG_MAP, SECRET, Kind
from labsim.model.objects import Object, labels_of, name_of, new

KUBECONFIG = "how to reach the hosted cluster"
MERGE = "application/merge-patch+json"


class OneHostedCluster:
    """Surroundings with one hosted cluster, which can be cut off."""

    def __init__(self, queue: EventQueue) -> None:
        self.hosted = ApiServer(name="hosted", clock=queue, entropy=Entropy(2))
        self.reachable = True

    def server_at(self, kubeconfig: str, caller: str) -> ApiServer:
        if not self.reachable:
            raise Unreachable(kubeconfig)
        return self.hosted

    def hosted_servers(self) -> Mapping[str, ApiServer]:
        return {"place/example": self.hosted}

    def request(self, request: Request) -> Program[Response]:
        raise Unreachable(request.host)

    def publish(self, effect: Publish) -> None: ...
    def withdraw(self, effect: Withdraw) -> None: ...


class Reader:
    """Reads the hosted ConfigMap `one` whenever one of the hub changes as the sieve lets it through."""

    name = "reader"

    def __init__(self) -> None:
        self.seen: list[Object | None] = []
        self.listed: list[list[str]] = []
        self.took_s: list[float] = []
        self.refused = 0
        self.events: list[tuple[Object | None, Object | None]] = []
        self.kind: Kind = CONFIG_MAP
        self.clock: EventQueue | None = None

    def controllers(self) -> Sequence[Controller]:
        watches = (
            Watch(CONFIG_MAP, sieve=metadata_changed),
            Watch(CONFIG_MAP, None, hosted=True, when=self.note),
        )
        return (Controller("read", self.reconcile, watches),)

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()

    def note(self, before: Object | None, after: Object | None, owner: str) -> bool:
        assert owner == "place/example"
        self.events.append((before, after))
        return True

    def reconcile(self, key: Key) -> Program[Result]:
        assert self.clock is not None
        started_s = self.clock.now()
        try:
            self.seen.append((yield from get(self.kind, "default", "one", at=KUBECONFIG)))
            found = yield from list_all(self.kind, "default", at=KUBECONFIG)
            self.listed.append([name_of(obj) for obj in found])
        except Unreachable:
            self.refused += 1
        self.took_s.append(self.clock.now() - started_s)
        return DONE


class Bench:
    def __init__(self) -> None:
        self.queue = EventQueue()
        self.hub = ApiServer(name="hub", clock=self.queue, entropy=Entropy(1))
        self.around = OneHostedCluster(self.queue)
        self.reader = Reader()
        self.reader.clock = self.queue
        self.hub.create(new(CONFIG_MAP, "default", "wake", data={"n": "0"}), CONFIG_MAP)
        self.around.hosted.create(new(CONFIG_MAP, "default", "one"), CONFIG_MAP)
        self.engine = Engine(
            scheduler=self.queue,
            entropy=Entropy(1),
            history=History(self.queue.now),
            hub=self.hub,
            around=self.around,
        )
        self.engine.add(self.reader)
        self.settle()

    def settle(self) -> None:
        until_s = self.queue.now() + 5
        while self.queue.run_next(until_s):
            pass
        self.queue.advance_to(until_s)

    def change(self, body: Object, *, name: str = "wake", server: ApiServer | None = None) -> None:
        (server or self.hub).patch(CONFIG_MAP, "default", name, body, patch_type=MERGE)

    def wake(self) -> None:
        self.change({"metadata": {"labels": {"at": str(int(self.queue.now()))}}})


def test_a_change_that_the_sieve_holds_back_wakes_nobody() -> None:
    bench = Bench()
    assert len(bench.reader.took_s) == 1
    bench.change({"data": {"n": "1"}})
    bench.settle()
    assert len(bench.reader.took_s) == 1
    bench.change({"metadata": {"labels": {"a": "b"}}})
    bench.settle()
    assert len(bench.reader.took_s) == 2
    bench.hub.delete(CONFIG_MAP, "default", "wake")
    bench.settle()
    assert len(bench.reader.took_s) == 3, "an end always comes through"


def test_a_followed_kind_of_a_hosted_cluster_is_read_from_its_cache() -> None:
    bench = Bench()
    assert bench.reader.took_s == [0.0]
    assert bench.reader.listed == [["one"]]
    bench.change({"metadata": {"labels": {"new": "yes"}}}, name="one", server=bench.around.hosted)
    bench.settle()
    bench.wake()
    bench.settle()
    last = bench.reader.seen[-1]
    assert last is not None
    assert labels_of(last) == {"new": "yes"}
    assert bench.reader.took_s == [0.0, 0.0]


def test_a_predicate_is_told_the_state_before_in_a_hosted_cluster_too() -> None:
    bench = Bench()
    bench.change({"metadata": {"labels": {"new": "yes"}}}, name="one", server=bench.around.hosted)
    bench.settle()
    before, after = bench.reader.events[-1]
    assert before is not None
    assert after is not None
    assert (labels_of(before), labels_of(after)) == ({}, {"new": "yes"})


def test_a_kind_that_is_not_followed_there_is_asked_for_live() -> None:
    bench = Bench()
    bench.reader.kind = SECRET
    bench.wake()
    bench.settle()
    assert bench.reader.seen[-1] is None
    assert bench.reader.took_s[-1] > 0


def test_nothing_is_read_from_the_cache_of_a_cluster_that_cannot_be_reached() -> None:
    bench = Bench()
    bench.around.reachable = False
    bench.wake()
    bench.settle()
    assert bench.reader.refused == 1
    assert len(bench.reader.seen) == 1


def test_the_sieves_tell_parts_of_an_object_apart() -> None:
    plain: Object = {"metadata": {"name": "a", "resourceVersion": "1"}}
    later: Object = {"metadata": {"name": "a", "resourceVersion": "2"}, "status": {"ready": True}}
    assert not metadata_changed(plain, later)
    labelled: Object = {"metadata": {"name": "a", "labels": {"x": "y"}}}
    assert metadata_changed(plain, labelled)
    assert not owners_changed(plain, labelled)
    going: Object = {"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert owners_changed(plain, going)
