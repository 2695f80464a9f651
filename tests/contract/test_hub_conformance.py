"""The embedded hub against recorded answers of a kube-apiserver (v1.36.2), and a real one where one is given: that the
comparison is right shows there. tests/contract/conformance/ has the answers.

`cases.json` and `recorded.jsonl` are the given cases, `neighbours.*` others of the same areas, recorded for
labsim. What differs is listed, with its reason, in docs/reference/conformance.md, and must differ: a difference that
has gone has to leave the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from conformance_answers import Normalizer, at, differences
from conformance_replay import Client, Replay
from kubehttp_serving import SERVERS
from real_api_server import real_api_server

from labsim.hub.embedded.bare import BareHub
from labsim.kube.users import User

DATA = Path(__file__).parent / "conformance"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"
TOKENS = {
    "admin-token": User("admin", "admin-uid", ("system:masters",)),
    "user-token": User("alice", "alice-uid", ("developers",)),
}
RUN = "bcdfgh"
# A real server's own answers that are not the same each time: an apply that falls into the next second has another
# time, an age goes on, any of several role bindings is named, an operation is called after the run.
VARIES = frozenset({"ssa/status", "table/t-crd", "access/ssar", "discovery/openapi-op"})


def _cases(name: str, recorded: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    answers = {entry["id"]: entry["steps"] for entry in map(json.loads, (DATA / recorded).read_text().splitlines())}
    cases = json.loads((DATA / name).read_text())["cases"]
    return [(case, answers[case["id"]]) for case in cases if case["id"] in answers]


CASES = _cases("cases.json", "recorded.jsonl") + _cases("neighbours.json", "neighbours.jsonl")


def known_differences() -> frozenset[str]:
    """The cases that the reference page lists as different."""
    return frozenset(re.findall(r"^\| `([a-z]+/[^`]+)` \|", REFERENCE.read_text(), re.MULTILINE))


class Served(Protocol):
    @property
    def port(self) -> int: ...
    @property
    def ca_pem(self) -> str: ...


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def replay(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    if server == "kube-apiserver":
        with real_api_server(tmp_path_factory.mktemp("server"), TOKENS) as real:
            yield from _replaying(real)
        return
    hub = BareHub(TOKENS)
    try:
        yield from _replaying(hub)
    finally:
        hub.close()


def _replaying(served: Served) -> Iterator[Replay]:
    client = Client(served.port, served.ca_pem, {"admin": "admin-token", "alice": "user-token"})
    try:
        made = Replay(client, RUN)
        made.prepare(json.loads((DATA / "cases.json").read_text())["fixtures"])
        yield made
    finally:
        client.close()


@pytest.mark.parametrize(("case", "recorded"), CASES, ids=[case["id"] for case, _ in CASES])
def test_answers_are_those_of_a_real_server(
    replay: Replay, server: str, case: dict[str, Any], recorded: list[dict[str, Any]]
) -> None:
    found = replay.run(case, recorded)
    if server == "kube-apiserver" and case["id"] in VARIES:
        return
    if server == "embedded" and case["id"] in known_differences():
        assert found, "it answers as a real server now: take it off the list in docs/reference/conformance.md"
    else:
        assert not found, "\n".join(found[:20])


def test_at_least_99_of_100_given_cases_are_equal_and_the_list_names_cases() -> None:
    listed = known_differences()
    assert listed <= {case["id"] for case, _ in CASES}
    given = {case["id"] for case, _ in _cases("cases.json", "recorded.jsonl")}
    assert len(listed & given) <= len(given) // 100


def test_the_comparison_sees_differences() -> None:
    one = {"a": [1, {"b": "x"}], "c": True}
    assert list(differences(one, one)) == []
    assert list(differences({"age": "0s", "text": "a"}, {"age": "2s", "text": "b"})) == ['.text: expected "a", got "b"']
    assert len(list(differences(one, {"a": [1, {"b": "y"}], "c": 1}))) == 2
    assert len(list(differences(one, {"a": [1], "d": True}))) == 3
    names = Normalizer(RUN, "n-bcdfgh", [], 0.0)
    first = names.document(
        {"metadata": {"resourceVersion": "7", "uid": "0" * 8 + "-0000" * 3 + "-" + "0" * 12}}, managed=True
    )
    assert first == {"metadata": {"resourceVersion": "<rv1>", "uid": "<uid1>"}}
    assert (
        names.document({"metadata": {"resourceVersion": "8"}}, managed=True)["metadata"]["resourceVersion"] == "<rv2>"
    )
    assert at({"l": [{"k": "v", "x": 1}]}, "l[k=v].x") == 1
