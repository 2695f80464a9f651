"""Bodies that are too large, too deep or no text, and what is kept of what clients send. Each was a bug once."""

from __future__ import annotations

from typing import Any

import pytest
from kubehttp_api import ADMIN_TOKEN, ALICE_TOKEN, WIDGET_GROUP, Api, events

from labsim.kube import body_limits, go_json, label_syntax, routes, selectors, watch
from labsim.kube.body_limits import MAX_BODY_BYTES, MAX_DEPTH
from labsim.kube.short_texts import SHORT, cached_if_short

MAPS = "/api/v1/namespaces/default/configmaps"
WIDGETS = f"/apis/{WIDGET_GROUP}/v1/namespaces/default/widgets"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
APPLY, YAML = "application/apply-patch+yaml", "application/yaml"


@pytest.fixture
def api() -> Api:
    made = Api()
    made.config_map("c")
    widget = {"apiVersion": f"{WIDGET_GROUP}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
    made.document("POST", WIDGETS, widget, code=201)
    return made


def refusal(api: Api, method: str, url: str, body: Any = None, **more: Any) -> tuple[int, str]:
    answer = api.ask(method, url, body, **more)
    return answer.status, answer.json()["message"]


def nested(depth: int) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = {"a": made}
    return made


def patched(api: Api, body: Any, kind: str, url: str = f"{WIDGETS}/w") -> int:
    return api.ask("PATCH", url, body, content_type=kind).status


def test_size_is_judged_once_it_is_known_who_may(api: Api) -> None:
    large = b" " * (MAX_BODY_BYTES + 1)
    assert refusal(api, "POST", MAPS, large)[0] == 413
    assert api.ask("POST", MAPS, large, token=ALICE_TOKEN).status == 403
    assert api.ask("POST", MAPS, large, token="").status == 403
    assert api.ask("GET", MAPS, large).status == 200


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 900, 1200])
def test_what_is_too_deep_is_refused_however_it_comes(api: Api, depth: int) -> None:
    """Found: a merge patch of 300 levels was stored, and no list of its kind could be written any more."""
    deep = b'{"status":' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)
    for url in (f"{WIDGETS}/w/status", f"{WIDGETS}/w", f"{MAPS}/c"):
        assert patched(api, deep, MERGE, url) == 400
    whole = b'{"apiVersion":"conf.test/v1","kind":"Widget","metadata":{"name":"w"},' + deep[1:]
    assert patched(api, whole, APPLY, f"{WIDGETS}/w/status?fieldManager=x") == 400
    assert patched(api, b"a: 1\n" + b"b: " + b"[" * depth + b"]" * depth, APPLY, f"{MAPS}/c?fieldManager=x") == 400
    assert api.ask("POST", WIDGETS, whole).status == 400
    assert api.ask("POST", WIDGETS, b"a: " + whole, content_type=YAML).status == 400
    add = b'[{"op":"add","path":"","value":' + deep + b"}]"
    assert patched(api, add, JSON_PATCH, f"{WIDGETS}/w/status") == 400
    assert len(api.document("GET", WIDGETS)["items"]) == 1


def test_a_patch_cannot_build_depth_step_by_step(api: Api) -> None:
    half = nested(MAX_DEPTH // 2)
    path = "/status" + "/a" * (MAX_DEPTH // 2)
    steps = [{"op": "add", "path": "/status", "value": half}, {"op": "add", "path": path, "value": half}]
    assert patched(api, steps, JSON_PATCH, f"{WIDGETS}/w/status") == 400
    assert patched(api, {"status": nested(MAX_DEPTH - 10)}, MERGE, f"{WIDGETS}/w/status") == 200
    assert api.ask("GET", WIDGETS).status == 200


def test_yaml_that_would_end_the_process_is_refused(api: Api) -> None:
    """Found: a hundred thousand brackets ended it, aliases of aliases took all memory, an alias of itself was 500."""
    for text in (b"[" * 100_000, b"{a: " * 100_000, b"- " * 5000):
        assert api.ask("POST", MAPS, text, content_type=YAML).status == 400
    bomb = b'a: &a ["x","x","x","x","x","x","x","x","x"]\n'
    for before, name in zip(b"abcdef", b"bcdefg", strict=True):
        bomb += b"%c: &%c [%b]\n" % (name, name, b",".join([b"*%c" % before] * 9))
    assert "excessive aliasing" in refusal(api, "POST", MAPS, bomb, content_type=YAML)[1]
    assert "excessive aliasing" in refusal(api, "PATCH", f"{MAPS}/c?fieldManager=x", bomb, content_type=APPLY)[1]
    itself = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\na: &a [*a]\n"
    for method, url, kind in (("POST", MAPS, YAML), ("PATCH", f"{MAPS}/c?fieldManager=x", APPLY)):
        code, message = refusal(api, method, url, itself, content_type=kind)
        assert (code, "anchor 'a' value contains itself" in message) == (400, True)


def test_types_that_only_yaml_has_become_those_of_json(api: Api) -> None:
    """Found: a key that is a number, a date or bytes in an apply were 500."""
    start = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n"
    text = start + b"data: {2: a, true: b, d: 2020-01-01, e: !!binary aGk=}\n"
    assert patched(api, text, APPLY, f"{MAPS}/y?fieldManager=x") == 201
    assert api.document("GET", f"{MAPS}/y")["data"] == {"2": "a", "true": "b", "d": "2020-01-01", "e": "hi"}
    for wrong in (b"data: {null: a}", b"data: {a: .inf}", b"data: {[a]: b}", b"data: {a: !!int x}"):
        assert patched(api, start + wrong, APPLY, f"{MAPS}/y?fieldManager=x") == 400, wrong


def test_json_that_is_no_utf8_is_read_as_go_reads_it(api: Api) -> None:
    body = b'{"metadata":{"name":"u"},"data":{"a":"\xff\xfe","b":"\\ud800x","c":"\\ud83d\\ude00","d":"\\\\ud800"}}'
    made = api.document("POST", MAPS, body, code=201)["data"]
    assert made == {"a": "\ufffd\ufffd", "b": "\ufffdx", "c": "\U0001f600", "d": "\\ud800"}
    assert go_json.syntax_problem(b"\xef\xbb\xbf{}") == "invalid character 'ï' looking for beginning of value"
    assert go_json.syntax_problem("[٣]".encode()).startswith("invalid character 'Ù'")


def test_fields_given_twice_in_text_that_is_no_utf8_are_told_too(api: Api) -> None:
    """Found: 500, from the slow reader that looks for them."""
    body = b'{"metadata":{"name":"u"},"data":{"a":"\xff","a":"b"}}'
    assert api.ask("POST", MAPS, body).headers["warning"] == '299 - "duplicate field \\"data.a\\""'


def test_an_object_that_etcd_would_not_take_is_refused_as_by_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "LOOKED_AT_FROM_BYTES", 10_000)
    monkeypatch.setattr(body_limits, "MAX_STORED_BYTES", 20_000)
    monkeypatch.setattr(body_limits, "MAX_MESSAGE_BYTES", 30_000)
    before = api.server.revision
    color = {"spec": {"color": "x" * 15_000}}
    assert refusal(api, "PATCH", f"{WIDGETS}/w", {"spec": {"color": "x" * 25_000}}, content_type=MERGE) == (
        500,
        "etcdserver: request is too large",
    )
    assert (
        "ResourceExhausted" in refusal(api, "POST", MAPS, {"metadata": {"name": "m"}, "data": {"a": "x" * 35_000}})[1]
    )
    assert api.server.revision == before
    assert patched(api, color, MERGE) == 200
    assert patched(api, {"metadata": {"annotations": {"a": "x" * 6_000}}}, MERGE) == 500, (
        "it grows by small patches too"
    )
    copy = [{"op": "add", "path": "/status", "value": {}}, {"op": "copy", "from": "/spec", "path": "/status/a"}]
    assert patched(api, copy, JSON_PATCH, f"{WIDGETS}/w/status") == 500


def test_a_dry_run_for_size_does_not_tell_warnings_twice(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "LOOKED_AT_FROM_BYTES", 10)
    answer = api.ask("POST", MAPS, {"metadata": {"name": "n"}, "other": 1})
    assert (answer.status, answer.headers["warning"]) == (201, '299 - "unknown field \\"other\\""')


def test_numbers_of_parameters_are_those_of_go(api: Api) -> None:
    for text in ("", "1_0", "+ 5", "\u0661", "9" * 5000, "0x1", " 1"):
        assert api.ask("GET", f"{MAPS}?limit={text}").status == 400, text
    assert api.ask("GET", f"{MAPS}?limit=%2B5").status == 200
    assert api.ask("DELETE", f"{MAPS}/c?gracePeriodSeconds={'9' * 5000}").status == 400
    assert api.ask("GET", f"{MAPS}?resourceVersion={'9' * 5000}").status == 400


def test_a_long_text_is_not_kept() -> None:
    """Found: each of a megabyte, eight thousand paths stayed in memory, without a token."""
    calls = []

    @cached_if_short(10)
    def length(text: str) -> int:
        calls.append(text)
        return len(text)

    for _ in range(2):
        assert (length("short"), length("x" * (SHORT + 1))) == (5, SHORT + 1)
    assert [len(text) for text in calls] == [5, SHORT + 1, SHORT + 1]
    for function in (
        routes.parse_path,
        selectors.parse_label_selector,
        selectors.parse_field_selector,
        label_syntax.label_value_problems,
    ):
        assert not hasattr(function, "cache_info"), function


def test_paths_are_decoded_before_they_are_read(api: Api) -> None:
    assert api.ask("GET", "/%61pi/v1/namespaces/default/configmaps/c").status == 200
    assert refusal(api, "GET", f"{MAPS}/a%2Fb") == (404, "the server could not find the requested resource")
    assert api.ask("GET", "*").body == api.ask("GET", "host:1").body == b"404 page not found\n"
    assert api.ask("POST", "/version").status == 405
    assert api.ask("GET", f"{MAPS}/c", token=ADMIN_TOKEN).status == 200


def test_a_watcher_that_falls_behind_by_too_much_text_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PENDING_BYTES_MAX", 20_000)
    slow, quick = (api.watch(f"{MAPS}?watch=true") for _ in range(2))
    for number in range(8):
        api.config_map(f"m{number}", **{f"l{key}": "x" * 60 for key in range(60)})
        events(quick)
    assert [event for event, _ in events(slow)][-1] == "ERROR"
    assert slow.read() is None
    api.config_map("last")
    assert [event for event, _ in events(quick)] == ["ADDED"]
