import io
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.history import ABSENT, History, difference, has_null, merged, rebuild

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=2), TREES, max_size=4), st.dictionaries(st.text(max_size=2), TREES, max_size=4))
def test_a_difference_leads_from_one_tree_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    if has_null(after):
        return
    patch = difference(before, after)
    assert (before if patch is ABSENT else merged(before, patch)) == after


def written(
    *writes: tuple[str, dict[str, Any] | None, dict[str, Any]], hide: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    sink = io.BytesIO()
    history = History(lambda: 10.0, sink)
    history.hide(hide)
    for number, (event, before, after) in enumerate(writes):
        history.record_write("hub", "test", event, after["kind"], "ns", "a", number, before, after)
    return [orjson.loads(line) for line in sink.getvalue().splitlines()]


def test_the_final_state_is_rebuilt_from_the_lines() -> None:
    one = {"kind": "Agent", "spec": {"approved": False, "role": ""}}
    two = {"kind": "Agent", "spec": {"approved": True}}
    lines = written(("ADDED", None, one), ("MODIFIED", one, two))
    assert lines[1]["patch"] == {"spec": {"approved": True, "role": None}}
    assert rebuild(lines) == {("hub", "Agent", "ns", "a"): two}


def test_a_history_that_was_tampered_with_is_found_out() -> None:
    lines = written(("ADDED", None, {"kind": "Agent", "spec": {"approved": False}}))
    lines[0]["object"]["spec"]["approved"] = True
    with pytest.raises(ValueError, match="line 0"):
        rebuild(lines)


def test_no_secret_value_enters_a_history() -> None:
    secret = {"kind": "Secret", "data": {"token": "c2VjcmV0LXRva2Vu"}}
    agent = {"kind": "InfraEnv", "status": {"isoDownloadURL": "https://x/byapikey/eyJhbGciOi/4.17/minimal.iso"}}
    lines = written(("ADDED", None, secret), ("ADDED", None, agent), hide=("eyJhbGciOi",))
    text = orjson.dumps(lines).decode()
    assert "c2VjcmV0LXRva2Vu" not in text
    assert "eyJhbGciOi" not in text
    assert "<secret " in text
    assert rebuild(lines)


def test_a_listener_hears_the_types_it_asked_for() -> None:
    history = History(lambda: 10.0)
    requests: list[dict[str, Any]] = []
    everything: list[dict[str, Any]] = []
    assert not history.wants("request")
    history.listen(requests.append, "request")
    assert history.wants("request")
    assert not history.wants("wake")
    history.record("wake", actor="cim/agent")
    history.listen(everything.append)
    assert history.wants("wake")
    history.record("request", path="/")
    history.record("wake", actor="cim/agent")
    assert [line["type"] for line in requests] == ["request"]
    assert [line["type"] for line in everything] == ["request", "wake"]


def test_a_file_takes_every_type() -> None:
    assert History(lambda: 10.0, io.BytesIO()).wants("wake")


def test_a_store_that_was_forgotten_is_no_part_of_the_final_state() -> None:
    lines = written(("ADDED", None, {"kind": "Agent"}))
    gone = [{**line, "store": "clusters-a/a"} for line in lines]
    assert set(rebuild([*lines, *gone, {"n": 2, "type": "forgotten", "store": "clusters-a/a"}])) == {
        ("hub", "Agent", "ns", "a")
    }
