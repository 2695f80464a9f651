"""Rules that are plain functions: victims, rollout arithmetic, durations, selectors, conditions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.controllers.capi import conditions, rollout, victims
from labsim.controllers.capi.selectors import matcher, text_of
from labsim.model.durations import seconds
from labsim.model.kinds import MACHINE
from labsim.model.objects import Object, condition_of, name_of, new, parse_timestamp, timestamp

NOW_S = 1_767_225_600.0


def machine(
    name: str, *, deleting: bool = False, marked: bool = False, node: bool = True, healthy: str = "", age_s: float = 0.0
) -> Object:
    made = new(MACHINE, "n", name, spec={})
    made["metadata"]["creationTimestamp"] = timestamp(NOW_S - age_s)
    if deleting:
        made["metadata"]["deletionTimestamp"] = timestamp(NOW_S)
    if marked:
        made["metadata"]["annotations"] = {"cluster.x-k8s.io/delete-machine": ""}
    made["status"] = {"conditions": [{"type": "NodeHealthy", "status": healthy}] if healthy else []}
    if node:
        made["status"]["nodeRef"] = {"name": name}
    return made


machines = st.lists(
    st.builds(
        machine,
        st.text("abcdef", min_size=1, max_size=5),
        deleting=st.booleans(),
        marked=st.booleans(),
        node=st.booleans(),
        healthy=st.sampled_from(["", "True", "False", "Unknown"]),
        age_s=st.integers(0, 100 * 24 * 3600).map(float),
    ),
    max_size=12,
    unique_by=name_of,
)


def naive_order(entries: list[Object], policy: str) -> list[str]:
    """The sheet's text, written down once more without sharing any code."""

    def score(entry: Object) -> float:
        if "deletionTimestamp" in entry["metadata"]:
            return 100
        if "cluster.x-k8s.io/delete-machine" in entry["metadata"].get("annotations", {}):
            return 75
        sick = any(found["status"] == "False" for found in entry["status"]["conditions"])
        if "nodeRef" not in entry["status"] or sick:
            return 50
        age_days = (NOW_S - parse_timestamp(entry["metadata"]["creationTimestamp"])) / 86400
        oldest = 50 * (1 - math.exp(-age_days / 10))
        return {"Random": 20.0, "Oldest": oldest, "Newest": 50 - oldest}[policy]

    result = sorted(entries, key=name_of)
    result.sort(key=score, reverse=True)  # stable: ties stay in the order of names
    return [name_of(entry) for entry in result]


@given(machines, st.integers(0, 12), st.sampled_from(["Random", "Oldest", "Newest"]))
def test_victims_are_those_of_a_naive_sort(entries: list[Object], count: int, policy: str) -> None:
    chosen = [name_of(entry) for entry in victims.choose(entries, count, policy, NOW_S)]
    assert chosen == naive_order(entries, policy)[:count]


def test_an_unknown_health_does_not_count() -> None:
    assert not victims.is_unhealthy(machine("a", healthy="Unknown"))
    assert victims.is_unhealthy(machine("a", healthy="False"))
    assert victims.is_unhealthy(machine("a", node=False))


def deployment(replicas: int, surge: Any = 1, unavailable: Any = 0, kind: str = "RollingUpdate") -> Object:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"spec": {"replicas": replicas, "strategy": {"type": kind, "rollingUpdate": rolling}}}


def counts(name: str, wanted: int, available: int | None = None) -> rollout.Counts:
    return rollout.Counts(name, wanted, wanted, wanted if available is None else available)


def test_a_rollout_needs_a_spare_machine_first() -> None:
    asked = deployment(3)
    old = [counts("old", 3)]
    assert rollout.new_replicas(asked, counts("new", 0), old) == 1
    assert rollout.old_replicas(asked, counts("new", 1, 0), old) == {"old": 3}, "nothing available yet to replace it"
    assert rollout.old_replicas(asked, counts("new", 1, 1), old) == {"old": 2}


def test_max_unavailable_lets_an_old_machine_go_first() -> None:
    asked = deployment(3, surge=0, unavailable=1)
    assert rollout.new_replicas(asked, counts("new", 0), [counts("old", 3)]) == 0
    assert rollout.old_replicas(asked, counts("new", 0), [counts("old", 3)]) == {"old": 2}
    assert rollout.new_replicas(asked, counts("new", 0), [counts("old", 2)]) == 1


def test_unhealthy_old_replicas_go_first() -> None:
    asked = deployment(3)
    old = [counts("a", 2, 2), counts("b", 1, 0)]
    assert rollout.old_replicas(asked, counts("new", 1, 1), old) == {"a": 2, "b": 0}


def test_on_delete_replaces_only_what_somebody_deleted() -> None:
    asked = deployment(3, kind="OnDelete")
    assert rollout.new_replicas(asked, counts("new", 0), [counts("old", 3)]) == 0
    assert rollout.new_replicas(asked, counts("new", 0), [rollout.Counts("old", 3, 2, 2)]) == 1
    assert rollout.old_replicas(asked, counts("new", 0), [rollout.Counts("old", 3, 2, 2)]) == {"old": 2}


@given(st.integers(0, 10), st.integers(0, 3), st.integers(0, 3), st.integers(0, 10), st.integers(0, 10), st.data())
def test_a_rollout_never_leaves_its_fenceposts(
    replicas: int, surge: int, unavailable: int, new_wanted: int, old_wanted: int, data: st.DataObject
) -> None:
    asked = deployment(replicas, surge, unavailable)
    fresh = counts("new", new_wanted, data.draw(st.integers(0, new_wanted)))
    old = [counts("old", old_wanted, data.draw(st.integers(0, old_wanted)))]
    new_target = rollout.new_replicas(asked, fresh, old)
    max_surge, max_unavailable = rollout.fenceposts(asked)
    if new_target > new_wanted:
        assert new_target + old_wanted <= replicas + max_surge
    left = rollout.old_replicas(asked, fresh, old)["old"]
    assert 0 <= left <= old_wanted
    lost = max(0, old[0].available - left)
    if lost:
        assert fresh.available + old[0].available - lost >= replicas - max_unavailable


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("0", 0.0), ("0s", 0.0), ("20m", 1200.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("10m0s", 600.0)],
)
def test_durations(text: str | None, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "1d", "m5", "5 m"])
def test_a_duration_that_go_would_not_parse_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        seconds(text)


def test_selectors() -> None:
    selector = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [{"key": "b", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "Exists"}],
    }
    assert text_of(selector) == "a=1,b in (x,y),c"
    assert matcher(selector)({"a": "1", "b": "x", "c": ""})
    assert not matcher(selector)({"a": "1", "b": "z", "c": ""})
    assert not matcher(selector)({"a": "1", "b": "x"})
    assert matcher(None)({})


def test_conditions_are_ordered_and_keep_their_time_while_nothing_changes() -> None:
    obj: Object = {"status": {}}
    conditions.mark_false(obj, "B", "Why", conditions.INFO, now_s=NOW_S)
    conditions.mark_true(obj, "A", now_s=NOW_S)
    conditions.summarize(obj, ("A", "B"), now_s=NOW_S, count_steps=True)
    assert [entry["type"] for entry in obj["status"]["conditions"]] == ["Ready", "A", "B"]
    ready = condition_of(obj, "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "Why", "1 of 2 completed")
    assert not conditions.mark_false(obj, "B", "Why", conditions.INFO, now_s=NOW_S + 5)
    assert conditions.mark_false(obj, "B", "Why", conditions.ERROR, now_s=NOW_S + 5)
    changed = condition_of(obj, "B")
    assert changed is not None
    assert changed["lastTransitionTime"] == timestamp(NOW_S + 5)


def test_a_summary_takes_the_most_severe_reason() -> None:
    obj: Object = {"status": {}}
    conditions.mark_false(obj, "A", "Mild", conditions.INFO, now_s=NOW_S)
    conditions.mark_false(obj, "B", "Bad", conditions.ERROR, "look", now_s=NOW_S)
    conditions.mark_unknown(obj, "C", "Odd", now_s=NOW_S)
    conditions.summarize(obj, ("A", "B", "C"), now_s=NOW_S)
    ready = condition_of(obj, "Ready")
    assert ready is not None
    assert (ready["reason"], ready["severity"], ready["message"]) == ("Bad", "Error", "look")
