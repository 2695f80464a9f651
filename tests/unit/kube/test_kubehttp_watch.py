"""What a watch promises: nothing lost, nothing twice, selectors as sets, and never in the way of a write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubehttp_api import Api, events, names, widget_definition

from labsim.kube import watch

MAPS = "/api/v1/namespaces/default/configmaps"
MERGE: dict[str, Any] = {"content_type": "application/merge-patch+json"}


@pytest.fixture
def api() -> Api:
    return Api()


def test_without_a_revision_it_begins_with_what_is_there(api: Api) -> None:
    api.config_map("b")
    api.config_map("a")
    stream = api.watch(MAPS + "?watch=true")
    assert names(stream) == [("ADDED", "a"), ("ADDED", "b")]
    api.config_map("c")
    assert names(stream) == [("ADDED", "c")]
    assert stream.read() == b""


def test_from_a_revision_it_replays_the_log_and_goes_on(api: Api) -> None:
    start = api.document("GET", MAPS)["metadata"]["resourceVersion"]
    api.config_map("a")
    api.ask("PATCH", MAPS + "/a", {"data": {"x": "2"}}, **MERGE)
    stream = api.watch(f"{MAPS}?watch=true&resourceVersion={start}")
    assert names(stream) == [("ADDED", "a"), ("MODIFIED", "a")]
    api.ask("DELETE", MAPS + "/a")
    assert names(stream) == [("DELETED", "a")]


def test_a_start_that_is_gone_is_one_error_event_and_the_end(api: Api) -> None:
    stream = api.watch(MAPS + "?watch=true&resourceVersion=1")
    [(event, status)] = events(stream)
    assert (event, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
    assert stream.read() is None


def test_what_leaves_a_selector_is_deleted_with_its_old_content_and_the_new_revision(api: Api) -> None:
    stream = api.watch(MAPS + "?watch=true&labelSelector=l%3D1")
    api.config_map("a", l="1")
    left = api.document("PATCH", MAPS + "/a", {"metadata": {"labels": {"l": "2"}}, "data": {"x": "9"}}, **MERGE)
    (_, added), (event, deleted) = events(stream)
    assert event == "DELETED"
    assert deleted["data"] == added["data"] == {"x": "1"}
    assert deleted["metadata"]["labels"] == {"l": "1"}
    assert deleted["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
    api.ask("PATCH", MAPS + "/a", {"metadata": {"labels": {"l": "1"}}}, **MERGE)
    assert names(stream) == [("ADDED", "a")]


def test_other_namespaces_and_kinds_are_not_seen(api: Api) -> None:
    stream = api.watch("/api/v1/namespaces/other/configmaps?watch=true")
    api.config_map("a")
    assert stream.read() == b""


def test_one_name_by_field_selector(api: Api) -> None:
    stream = api.watch(MAPS + "?watch=true&fieldSelector=metadata.name%3Db")
    api.config_map("a")
    api.config_map("b")
    assert names(stream) == [("ADDED", "b")]


INITIAL = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"


def test_initial_events_end_with_a_marked_bookmark(api: Api) -> None:
    api.config_map("a")
    stream = api.watch(f"{MAPS}?watch=true&allowWatchBookmarks=true{INITIAL}")
    (first, _), (second, bookmark) = events(stream)
    assert (first, second) == ("ADDED", "BOOKMARK")
    assert bookmark["kind"] == "ConfigMap"
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert bookmark["metadata"]["resourceVersion"] == str(api.server.revision)


def test_without_leave_there_are_no_bookmarks(api: Api) -> None:
    stream = api.watch(f"{MAPS}?watch=true{INITIAL}")
    stream.keep_alive()
    assert stream.read() == b""


@pytest.mark.parametrize(
    "query",
    ["watch=true&sendInitialEvents=true", "watch=true&resourceVersionMatch=NotOlderThan", "sendInitialEvents=true"],
)
def test_initial_events_have_rules(api: Api, query: str) -> None:
    assert api.document("GET", f"{MAPS}?{query}", code=422)["reason"] == "Invalid"


def test_at_its_time_it_ends_with_a_last_bookmark(api: Api) -> None:
    stream = api.watch(f"{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=7")
    assert stream.timeout_s == 7
    [(event, obj)] = events(stream)  # a watch from the start says where what was there ends
    assert (event, obj["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
    stream.expire()
    assert [event for event, _ in events(stream)] == ["BOOKMARK"]
    assert stream.read() is None
    api.config_map("a")
    assert stream.read() is None


def test_a_watcher_that_does_not_keep_up_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PENDING_EVENTS_MAX", 3)
    stream = api.watch(MAPS + "?watch=true")
    for number in range(6):
        api.config_map(f"c{number}")
    seen = events(stream)
    assert [event for event, _ in seen] == ["ADDED"] * 3 + ["ERROR"]
    assert seen[-1][1]["code"] == 410
    assert stream.read() is None


def test_closing_ends_the_subscription(api: Api) -> None:
    stream = api.watch(MAPS + "?watch=true")
    woken: list[int] = []
    stream.on_ready(lambda: woken.append(1))
    api.config_map("a")
    stream.close()
    api.config_map("b")
    assert len(woken) == 1


def test_watches_end_when_their_kind_is_removed(api: Api) -> None:
    stream = api.watch("/apis/conf.test/v1/widgets?watch=true")
    api.ask("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.conf.test")
    assert stream.read() is None
    assert api.ask("GET", "/apis/conf.test/v1/widgets").status == 404
    again = widget_definition()
    api.document("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", again, code=201)
    assert api.document("GET", "/apis/conf.test/v1/widgets")["items"] == []


def test_columns_come_with_the_first_table_event_only(api: Api) -> None:
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    stream = api.watch(MAPS + "?watch=true", **accept)
    api.config_map("a")
    api.config_map("b")
    (_, first), (_, second) = events(stream)
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert not second["columnDefinitions"]
    assert second["rows"][0]["cells"] == ["b", 1, "0s"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["create", "relabel", "touch", "delete"]), st.sampled_from("abc"), st.booleans()),
        max_size=30,
    ),
    st.integers(0, 30),
)
def test_a_watch_by_selector_always_leads_to_what_a_list_shows(
    steps: list[tuple[str, str, bool]], break_at: int
) -> None:
    """Whatever is written, and wherever the client reconnects, applying the events gives the list."""
    api = Api()
    known: dict[str, str] = {}
    selection = "labelSelector=in%3Dtrue"
    stream = api.watch(f"{MAPS}?watch=true&{selection}")
    last = str(api.server.revision)

    def drain() -> None:
        nonlocal last
        for event, obj in events(stream):
            name, last = obj["metadata"]["name"], obj["metadata"]["resourceVersion"]
            assert (name in known) == (event != "ADDED")
            if event == "DELETED":
                del known[name]
            else:
                known[name] = last

    for number, (verb, name, inside) in enumerate(steps):
        if number == break_at:
            drain()
            stream.close()
            stream = api.watch(f"{MAPS}?watch=true&{selection}&resourceVersion={last}")
        label = {"in": "true" if inside else "false"}
        if verb == "create":
            metadata = {"name": name, "labels": label}
            api.ask("POST", MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        elif verb == "delete":
            api.ask("DELETE", f"{MAPS}/{name}")
        elif verb == "touch":
            api.ask("PATCH", f"{MAPS}/{name}", {"data": {"n": str(number)}}, **MERGE)
        else:
            api.ask("PATCH", f"{MAPS}/{name}", {"metadata": {"labels": label}}, **MERGE)
    drain()
    listed = api.document("GET", f"{MAPS}?{selection}")["items"]
    assert known == {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed}
