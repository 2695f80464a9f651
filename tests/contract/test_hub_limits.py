"""What is too large, too many, too deep or malformed is answered as a real kube-apiserver answers it.

limits/recorded.json was taken from kube-apiserver v1.36.3 with etcd 3.6; a real one is held to it where one is given.
What differs is listed, with its reason, in docs/reference/limits.md, and must differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubehttp_serving import SERVERS
from limit_cases import ADMIN_TOKEN, CASES, FIRST, MAPS, USER_TOKEN, ask, request
from real_api_server import real_api_server

from labsim.edge_time import monotonic_s, wait_s
from labsim.hub.embedded.bare import BareHub
from labsim.kube.users import User

RECORDED = json.loads((Path(__file__).parent / "limits" / "recorded.json").read_text())
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "limits.md"
TOKENS = {
    ADMIN_TOKEN: User("admin", "admin-uid", ("system:masters",)),
    USER_TOKEN: User("alice", "alice-uid", ("developers",)),
}
SERVED_WITHIN_S = 10.0


def known_differences() -> frozenset[str]:
    """The cases that the reference page lists as different."""
    return frozenset(re.findall(r"^\| `([a-z]+/[^`]+)` \|", REFERENCE.read_text(), re.MULTILINE))


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def answers(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The answers of one server to all cases, in their order; at the end it still serves."""
    if server == "kube-apiserver":
        with real_api_server(tmp_path_factory.mktemp("server"), TOKENS) as real:
            yield _all_answers(real.port)
        return
    hub = BareHub(TOKENS)
    try:
        yield _all_answers(hub.port)
    finally:
        hub.close()


def _all_answers(port: int) -> dict[str, Any]:
    assert ask(port, FIRST) == {"status": 201}
    deadline_s = monotonic_s() + SERVED_WITHIN_S
    while ask(port, request("GET", "/apis/lim.test/v1/bigs"))["status"] != 200 and monotonic_s() < deadline_s:
        wait_s(0.1)
    found = {name: ask(port, sent) for name, sent in CASES.items()}
    assert ask(port, request("GET", MAPS)) == {"status": 200}
    return found


def test_every_case_is_recorded_and_every_difference_is_one() -> None:
    assert set(RECORDED) == set(CASES)
    assert known_differences() <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_that_of_a_real_server(answers: dict[str, Any], server: str, case: str) -> None:
    if server == "embedded" and case in known_differences():
        assert answers[case] != RECORDED[case], "as a real server now: take it off the list in docs/reference/limits.md"
        assert answers[case]["status"] == 400, "what we do not take is the client's to mend"
    else:
        assert answers[case] == RECORDED[case]
