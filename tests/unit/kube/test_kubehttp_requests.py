"""Requests and answers of the HTTP surface: paths, forms, pages, subresources, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from kubehttp_api import ALICE_TOKEN, TABLE, Api

from labsim.kube.protobuf import decode_body
from labsim.kube.representation import negotiate
from labsim.kube.routes import Route, parse_path

MAPS = "/api/v1/namespaces/default/configmaps"
WIDGETS = "/apis/conf.test/v1/namespaces/default/widgets"
MERGE: dict[str, Any] = {"content_type": "application/merge-patch+json"}


@pytest.fixture
def api() -> Api:
    return Api()


def widget(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "conf.test/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/v1/pods", Route("", "v1", "pods")),
        ("/api/v1/namespaces", Route("", "v1", "namespaces")),
        ("/api/v1/namespaces/n", Route("", "v1", "namespaces", None, "n")),
        ("/api/v1/namespaces/n/finalize", Route("", "v1", "namespaces", None, "n", "finalize")),
        ("/api/v1/namespaces/n/pods", Route("", "v1", "pods", "n")),
        ("/api/v1/namespaces/n/pods/p/status", Route("", "v1", "pods", "n", "p", "status")),
        ("/apis/a.b/v1/namespaces/n/cs/c", Route("a.b", "v1", "cs", "n", "c")),
        ("/api/v1/watch/namespaces/n/pods/p", Route("", "v1", "pods", "n", "p", "", True)),
        ("/api/v1/namespaces/n/configmaps/a/b", Route("", "v1", "configmaps", "n", "a", "b")),
        ("/api/v1/namespaces/n/pods/p/a/b", None),
        ("/api/v1//namespaces", None),
        ("/metrics", None),
    ],
)
def test_paths(path: str, route: Route | None) -> None:
    assert parse_path(path) == route


def test_accept_picks_the_first_form_that_can_be_given() -> None:
    protobuf, partial = "application/vnd.kubernetes.protobuf", "as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    assert negotiate(f"{TABLE},application/json", protobuf=True).is_table
    assert negotiate(f"{protobuf}, */*", protobuf=True).media_type == protobuf
    assert negotiate(f"{protobuf}, */*", protobuf=False).media_type == "application/json"
    assert negotiate(f"{protobuf};{partial}", protobuf=False).media_type == protobuf
    assert negotiate("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", protobuf=True).shape == ""


def test_only_protobuf_is_refused_for_custom_resources(api: Api) -> None:
    accept = {"accept": "application/vnd.kubernetes.protobuf"}
    refused = api.ask("GET", WIDGETS, **accept)
    assert (refused.status, decode_body(refused.body)["reason"]) == (406, "NotAcceptable")


def test_lists_of_built_in_kinds_leave_kind_and_version_to_the_list(api: Api) -> None:
    api.config_map("a")
    api.document("POST", WIDGETS, widget("w", size=1), code=201)
    built_in, custom = api.document("GET", MAPS), api.document("GET", WIDGETS)
    assert built_in["kind"] == "ConfigMapList"
    assert "kind" not in built_in["items"][0]
    assert custom["items"][0]["kind"] == "Widget"
    assert custom["metadata"]["continue"] == ""
    # A list is made from shared objects and must not have changed them.
    assert api.document("GET", MAPS + "/a")["kind"] == "ConfigMap"


def test_all_pages_show_the_revision_of_the_first(api: Api) -> None:
    for name in "abcd":
        api.config_map(name)
    first = api.document("GET", MAPS + "?limit=2")
    assert first["metadata"]["remainingItemCount"] == 2
    api.config_map("aa")
    api.ask("DELETE", MAPS + "/c")
    api.ask("PATCH", MAPS + "/d", {"data": {"x": "new"}}, **MERGE)
    second = api.document("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d"]
    assert second["items"][1]["data"] == {"x": "1"}
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]


def test_a_continue_token_of_nobody_is_refused(api: Api) -> None:
    for token in ("xyz", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", "AAAA", "bnVsbA"):
        assert api.document("GET", f"{MAPS}?continue={token}", code=400)["reason"] == "BadRequest"


def test_an_exact_list_reads_the_past(api: Api) -> None:
    version = api.config_map("a")["metadata"]["resourceVersion"]
    api.config_map("b")
    past = api.document("GET", f"{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")
    assert [item["metadata"]["name"] for item in past["items"]] == ["a"]


def test_a_revision_of_the_future_is_a_timeout(api: Api) -> None:
    response = api.ask("GET", MAPS + "?resourceVersion=99999999")
    assert (response.status, response.headers["retry-after"]) == (504, "1")
    assert response.json()["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_tables_show_ages_by_the_clock_of_the_world(api: Api) -> None:
    api.config_map("a")
    api.clock.now_s += 200
    rows = api.document("GET", MAPS, accept=TABLE)["rows"]
    assert [row["cells"] for row in rows] == [["a", 1, "3m20s"]]
    assert rows[0]["object"]["kind"] == "PartialObjectMetadata"


def test_yaml_in_and_out(api: Api) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {a: b}\n"
    api.document("POST", MAPS, body, code=201, content_type="application/yaml")
    answer = api.ask("GET", MAPS + "/y", accept="application/yaml")
    assert yaml.safe_load(answer.body)["data"] == {"a": "b"}


def test_a_scale_is_read_patched_and_put(api: Api) -> None:
    api.document("POST", WIDGETS, widget("w", size=1), code=201)
    assert api.document("PATCH", WIDGETS + "/w/scale", {"spec": {"replicas": 5}}, **MERGE)["kind"] == "Scale"
    scale = api.document("GET", WIDGETS + "/w/scale")
    assert (scale["spec"], scale["status"]["replicas"]) == ({"replicas": 5}, 0)
    scale["spec"]["replicas"] = 7
    assert api.document("PUT", WIDGETS + "/w/scale", scale)["spec"]["replicas"] == 7
    assert api.document("GET", WIDGETS + "/w")["spec"]["size"] == 7


def test_status_is_written_by_its_own_path_only(api: Api) -> None:
    api.document("POST", WIDGETS, widget("w", size=1), code=201)
    api.document("PATCH", WIDGETS + "/w", {"status": {"size": 1}}, **MERGE)
    assert "status" not in api.document("GET", WIDGETS + "/w")
    api.document("PATCH", WIDGETS + "/w/status", {"status": {"size": 1}, "spec": {"size": 9}}, **MERGE)
    found = api.document("GET", WIDGETS + "/w")
    assert (found["status"], found["spec"]) == ({"size": 1}, {"size": 1})


def test_leases_are_made_by_put(api: Api) -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    url = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
    assert api.ask("PUT", url, lease).status in (200, 201)
    assert api.document("GET", url)["metadata"]["name"] == "l"


def test_a_deletion_says_what_is_gone(api: Api) -> None:
    uid = api.config_map("a")["metadata"]["uid"]
    gone = api.document("DELETE", MAPS + "/a", {"propagationPolicy": "Background"})
    assert (gone["status"], gone["details"]) == ("Success", {"name": "a", "kind": "configmaps", "uid": uid})


def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    api.config_map("a", l="1")
    api.config_map("b", l="2")
    answered = api.document("DELETE", MAPS + "?labelSelector=l%3D1")
    assert [item["metadata"]["name"] for item in answered["items"]] == ["a"]
    assert [item["metadata"]["name"] for item in api.document("GET", MAPS)["items"]] == ["b"]


def test_dry_runs_store_nothing(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dry"}}
    api.document("POST", MAPS + "?dryRun=All", body, code=201)
    assert api.ask("GET", MAPS + "/dry").status == 404
    assert api.document("POST", MAPS + "?dryRun=Maybe", body, code=422)["details"]["kind"] == "CreateOptions"
    api.config_map("kept")
    api.document("DELETE", MAPS + "/kept?dryRun=All")
    api.document("GET", MAPS + "/kept")


def test_eviction_deletes_a_pod(api: Api) -> None:
    pods = "/api/v1/namespaces/default/pods"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    pod["spec"] = {"containers": [{"name": "c", "image": "i"}]}
    api.document("POST", pods, pod, code=201)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}}
    api.document("POST", pods + "/p/eviction", eviction, code=201)
    assert api.ask("GET", pods + "/p").status == 404


@pytest.mark.parametrize(
    ("method", "url", "body", "code", "reason"),
    [
        ("POST", MAPS, b"", 400, "BadRequest"),
        ("POST", MAPS, b"{bad", 400, "BadRequest"),
        ("POST", MAPS, [1], 400, "BadRequest"),
        ("POST", MAPS, {"metadata": "x"}, 400, "BadRequest"),
        ("POST", MAPS, {"metadata": {"name": 7}}, 400, "BadRequest"),
        ("POST", MAPS, {"metadata": {"name": "a", "namespace": "other"}}, 400, "BadRequest"),
        ("POST", MAPS, {"apiVersion": "v1", "kind": "ConfigMapList", "items": []}, 400, "BadRequest"),
        ("POST", WIDGETS, {"metadata": {"name": "w"}}, 400, "BadRequest"),
        ("PUT", MAPS + "/a", {"metadata": {"name": "b"}}, 400, "BadRequest"),
        ("PUT", MAPS, {"metadata": {"name": "b"}}, 405, "MethodNotAllowed"),
        ("OPTIONS", MAPS, None, 405, "MethodNotAllowed"),
        ("GET", "/api/v1/nothing", None, 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", None, 404, "NotFound"),
        ("GET", MAPS + "/a/nothing", None, 404, "NotFound"),
        ("GET", MAPS + "?limit=x", None, 400, "BadRequest"),
        ("GET", MAPS + "?fieldSelector=data.x%3D1", None, 400, "BadRequest"),
        ("GET", MAPS + "?resourceVersionMatch=Exact", None, 422, "Invalid"),
        ("DELETE", MAPS + "/a", {"kind": "ConfigMap"}, 400, "BadRequest"),
        ("DELETE", MAPS + "/a", {"propagationPolicy": "Sideways"}, 422, "Invalid"),
        ("DELETE", "/api/v1/configmaps", None, 405, "MethodNotAllowed"),
    ],
)
def test_bad_requests_get_their_status(api: Api, method: str, url: str, body: Any, code: int, reason: str) -> None:
    status = api.document(method, url, body, code=code)
    assert (status["kind"], status["status"], status["reason"], status["code"]) == ("Status", "Failure", reason, code)


def test_unknown_groups_get_the_plain_text_of_the_mux(api: Api) -> None:
    answer = api.ask("GET", "/apis/nope.example.com/v1/things")
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_bodies_and_patches_of_other_types_are_415(api: Api) -> None:
    for method, url, kind in (
        ("POST", MAPS, "application/cbor"),
        ("PATCH", MAPS + "/a", "application/json"),
        ("PATCH", WIDGETS + "/w", "application/strategic-merge-patch+json"),
        ("POST", WIDGETS, "application/vnd.kubernetes.protobuf"),
    ):
        status = api.document(method, url, {}, code=415, content_type=kind)
        assert status["reason"] == "UnsupportedMediaType"


def test_large_bodies_are_413(api: Api) -> None:
    body = b'{"metadata":{"name":"big"},"data":{"x":"' + b"x" * 3_200_000 + b'"}}'
    assert api.document("POST", MAPS, body, code=413)["reason"] == "RequestEntityTooLarge"


def test_a_deprecated_version_warns() -> None:
    from kubehttp_api import widget_definition

    api = Api()
    definition = widget_definition(deprecated=True, deprecationWarning="use something else")
    definition["spec"].update(group="old.test")
    definition["metadata"]["name"] = "widgets.old.test"
    api.document("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition, code=201)
    assert api.ask("GET", "/apis/old.test/v1/widgets").headers["warning"] == '299 - "use something else"'


def test_curl_gets_indented_json(api: Api) -> None:
    assert b'\n  "kind"' in api.ask("GET", "/api", user_agent="curl/8.0").body
    assert b"\n" not in api.ask("GET", "/api").body


def test_alice_has_no_rights(api: Api) -> None:
    status = api.document("GET", MAPS, code=403, token=ALICE_TOKEN)
    text = 'configmaps is forbidden: User "alice" cannot list resource "configmaps" in API group "" '
    assert status["message"] == text + 'in the namespace "default"'
    assert status["details"] == {"kind": "configmaps"}


def test_what_does_not_fit_a_built_in_kind_is_told_by_field(api: Api) -> None:
    def causes(url: str, obj: dict[str, Any]) -> list[str]:
        refused = api.document("POST", url, {"metadata": {"name": "x"}, **obj}, code=422)
        return [entry["field"] for entry in refused["details"]["causes"]]

    core, rbac = "/api/v1/namespaces/default", "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    containers = [{"name": "A", "image": "i"}, {"name": "b"}, {"name": "b", "image": "i", "imagePullPolicy": "No"}]
    assert causes(f"{core}/pods", {"spec": {"containers": containers, "restartPolicy": "No"}}) == [
        "spec.containers[0].name",
        "spec.containers[1].image",
        "spec.containers[2].name",
        "spec.containers[2].imagePullPolicy",
        "spec.restartPolicy",
    ]
    assert causes(f"{core}/configmaps", {"data": {"a": "b"}, "binaryData": {"a": "Yg=="}}) == ["data[a]"]
    assert causes(f"{core}/secrets", {"type": "kubernetes.io/basic-auth"}) == ["data[username]", "data[password]"]
    assert causes(f"{rbac}/roles", {"rules": [{"apiGroups": [""], "resources": ["pods"]}]}) == ["rules[0].verbs"]
    assert causes(f"{rbac}/rolebindings", {"roleRef": {"kind": "No", "name": "x"}}) == ["roleRef.kind"]
    assert causes(leases, {"spec": {"leaseDurationSeconds": 0}}) == ["spec.leaseDurationSeconds"]
