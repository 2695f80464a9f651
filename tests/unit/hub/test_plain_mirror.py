"""The mirror of a cluster: watches that go on, lists again after 410 with a gap, and times of another clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from labsim.controllers.runtime.effects import Unreachable
from labsim.hub.plain.connection import ClusterConnection
from labsim.hub.plain.in_world_time import InWorldTime, without_server_fields
from labsim.hub.plain.marks import marked
from labsim.hub.plain.mirror import Mirror
from labsim.hub.plain.scope import Scope
from labsim.kube.errors import ApiError
from labsim.kube.store import Revision
from labsim.model.kinds import AGENT, NAMESPACE, Kind
from labsim.model.objects import Object, new
from labsim.world.pace import RealPace

WITHIN_S = 10.0


def agent(name: str, version: int, *, lab: str = "one", namespace: str = "lab") -> Object:
    made = new(AGENT, namespace, name, spec={"version": version})
    made["metadata"]["resourceVersion"] = str(version)
    return marked(made, lab) if lab else made


class Cluster:
    """A cluster that says what a test wrote down: lists one after the other, and what each watch brings."""

    def __init__(self, lists: list[tuple[int, list[Object]]], watches: list[list[Object | Exception]]) -> None:
        self.lists = lists
        self.watches = watches
        self.watched_from: list[str] = []
        self.is_over = threading.Event()

    def call(self, method: str, path: str, **_: Any) -> Object:
        version, items = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        return {"metadata": {"resourceVersion": str(version)}, "items": items}

    def watch(self, path: str, query: Mapping[str, str], timeout_s: float) -> Iterator[Object]:
        self.watched_from.append(query["resourceVersion"])
        if not self.watches:
            self.is_over.wait(WITHIN_S)
            return
        for entry in self.watches.pop(0):
            if isinstance(entry, Exception):
                raise entry
            yield entry


def event(kind: str, obj: Object) -> Object:
    return {"type": kind, "object": obj}


def followed(cluster: Cluster, done: Callable[[list[str]], bool]) -> tuple[list[str], list[Kind], Mirror]:
    gaps: list[Kind] = []
    told: list[str] = []
    mirror = Mirror(
        cast(ClusterConnection, cluster),
        Scope("one"),
        post=lambda call: None,
        shown=lambda obj: obj,
        on_gap=gaps.append,
    )

    def hear(revision: Revision) -> None:
        told.append(f"{revision.type} {revision.name} {revision.revision}")

    mirror.subscribe(hear)
    mirror.follow(AGENT, lambda revision: None)
    assert mirror.wait_for(lambda: done(told), WITHIN_S), told
    mirror.close()
    cluster.is_over.set()
    mirror.join(WITHIN_S)
    return told, gaps, mirror


def test_a_watch_that_is_cut_goes_on_where_it_was() -> None:
    cluster = Cluster(
        [(5, [agent("a", 3)])],
        [
            [event("MODIFIED", agent("a", 6)), Unreachable("cut")],
            [event("BOOKMARK", agent("", 9)), event("ADDED", agent("b", 10))],
        ],
    )
    told, gaps, mirror = followed(cluster, lambda told: "ADDED b 10" in told)
    assert told == ["ADDED a 3", "MODIFIED a 6", "ADDED b 10"]
    assert cluster.watched_from[:2] == ["5", "6"]
    assert not gaps
    assert [obj["spec"]["version"] for obj in mirror.list(AGENT)] == [6, 10]


def test_a_watch_that_cannot_go_on_lists_again_and_says_that_something_was_not_seen() -> None:
    cluster = Cluster(
        [(5, [agent("a", 3), agent("b", 4)]), (20, [agent("b", 18), agent("c", 19)])],
        [[event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})]],
    )
    told, gaps, _ = followed(cluster, lambda told: len(told) == 5)
    assert told[2:] == ["MODIFIED b 18", "ADDED c 19", "DELETED a 3"]
    assert gaps == [AGENT]
    assert cluster.watched_from == ["5", "20"]


def test_a_watch_that_is_refused_with_410_lists_again_too() -> None:
    cluster = Cluster([(5, []), (9, [agent("a", 8)])], [[ApiError(410, "Expired", "too old")]])
    told, gaps, _ = followed(cluster, lambda told: bool(told))
    assert told == ["ADDED a 8"]
    assert gaps == [AGENT]


def test_what_belongs_to_others_is_not_told_and_what_becomes_theirs_is_gone() -> None:
    cluster = Cluster(
        [(5, [agent("theirs", 3, lab="two"), agent("nobodys", 4, lab="")])],
        [[event("ADDED", agent("a", 6)), event("MODIFIED", agent("a", 7, lab="two"))]],
    )
    told, _, mirror = followed(cluster, lambda told: len(told) == 2)
    assert told == ["ADDED a 6", "DELETED a 7"]
    assert mirror.list(AGENT) == []


def test_everything_in_a_labs_namespace_belongs_to_it() -> None:
    scope = Scope("one")
    assert not scope.owns(AGENT, agent("a", 1, lab=""))
    scope.saw(NAMESPACE, marked(new(NAMESPACE, None, "lab"), "one"), gone=False)
    assert scope.owns(AGENT, agent("a", 1, lab=""))
    assert not scope.owns(AGENT, agent("a", 1, lab="two"))
    scope.saw(NAMESPACE, marked(new(NAMESPACE, None, "lab"), "one"), gone=True)
    assert not scope.owns(AGENT, agent("a", 1, lab=""))


def test_times_of_the_server_are_shown_in_the_worlds_time() -> None:
    time = InWorldTime(lambda real_s: 1000 + (real_s - 1000) * 60, lambda: 1600.0)
    obj = agent("a", 1)
    obj["metadata"].update(creationTimestamp="1970-01-01T00:16:45Z", deletionTimestamp="1970-01-01T00:17:00Z")
    shown = time.shown(obj)["metadata"]
    assert shown["creationTimestamp"] == "1970-01-01T00:21:40Z"  # 1005 s: 5 s after the start, at sixty times the speed
    assert shown["deletionTimestamp"] == "1970-01-01T00:26:40Z"  # 1020 s would be 2200 s: later than now
    assert set(without_server_fields(obj)["metadata"]) == {"name", "namespace", "resourceVersion", "labels"}


def test_a_paced_world_takes_no_time_before_it_begins() -> None:
    pace = RealPace(500.0, 1000.0)
    pace.begin()
    assert 500.0 <= (pace.in_world_s() or 0.0) < 30_000.0
    assert pace.in_world_of(0.0) == 0.0
    assert pace.floor_s(300.0, 20.0) == 20_000.0
    assert pace.floor_s(30_000.0, 20.0) == 30_000.0
