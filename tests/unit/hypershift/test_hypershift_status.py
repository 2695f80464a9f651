"""Writing a status: nothing is asked of the server while the cache has it as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from labsim.controllers.hypershift.desired import Condition, find, write_status
from labsim.controllers.runtime.effects import Now, Program, Read, Write
from labsim.model.kinds import NODE_POOL
from labsim.model.objects import Object

WANTED = {"Ready": Condition("True", "AsExpected")}
READY = {"type": "Ready", "status": "True", "reason": "AsExpected", "message": "", "lastTransitionTime": "earlier"}


def pool(*conditions: Object, revision: str = "7", **status: Any) -> Object:
    return {
        "metadata": {"name": "example", "namespace": "clusters", "resourceVersion": revision},
        "status": {"conditions": list(conditions), **status},
    }


def asked(program: Program[Any], cached: Object | None, live: Object | None) -> tuple[Any, list[str], Sequence[Write]]:
    """The result of a program, the reads that it made ("cached", "live") and its writes."""
    reads: list[str] = []
    writes: list[Write] = []
    answer: Any = None
    while True:
        try:
            effect = program.send(answer)
        except StopIteration as stop:
            return stop.value, reads, writes
        if isinstance(effect, Now):
            answer = 1_767_225_600.0
        elif isinstance(effect, Read):
            reads.append("live" if effect.live else "cached")
            answer = live if effect.live else cached
        else:
            assert isinstance(effect, Write)
            writes.append(effect)
            answer = live


def test_a_status_that_the_cache_has_as_wanted_asks_nothing_of_the_server() -> None:
    cached = pool(READY, replicas=2)
    program = write_status(NODE_POOL, "clusters", "example", conditions=WANTED, fields={"replicas": 2})
    assert asked(program, cached, None) == (cached, ["cached"], [])


def test_a_status_is_written_from_what_the_server_has_now() -> None:
    kept = {"type": "Other", "status": "True"}
    program = write_status(NODE_POOL, "clusters", "example", conditions=WANTED, fields={"replicas": 2})
    _, reads, writes = asked(program, pool(revision="7"), pool(kept, revision="9", replicas=2))
    assert reads == ["cached", "live"]
    body = writes[0].body
    assert body["metadata"] == {"resourceVersion": "9"}
    assert [entry["type"] for entry in body["status"]["conditions"]] == ["Other", "Ready"]
    assert "replicas" not in body["status"]


def test_a_cache_that_is_behind_makes_no_second_write() -> None:
    program = write_status(NODE_POOL, "clusters", "example", conditions=WANTED)
    _, reads, writes = asked(program, pool(), pool(READY))
    assert (reads, list(writes)) == (["cached", "live"], [])


def test_nothing_is_written_where_the_object_is_gone() -> None:
    program = write_status(NODE_POOL, "clusters", "example", conditions=WANTED)
    assert asked(program, None, None) == (None, ["cached", "live"], [])


@pytest.mark.parametrize(("cached", "reads"), [(pool(), ["cached"]), (None, ["cached", "live"])])
def test_what_the_cache_does_not_have_yet_is_asked_of_the_server(cached: Object | None, reads: list[str]) -> None:
    found, seen, _ = asked(find(NODE_POOL, "clusters", "example"), cached, pool())
    assert found is not None
    assert seen == reads
