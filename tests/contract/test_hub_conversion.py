"""Two versions of one kind: the embedded hub, and a real kube-apiserver whose conversion webhook is our conversion.

What a version shows, who owns which fields, what counts as a change, and what a watch tells is the same for both.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from kubehttp_serving import SERVERS
from real_api_server import real_api_server

from labsim.edge_time import monotonic_s, wait_s
from labsim.hub.embedded.bare import BareHub
from labsim.hub.embedded.edge import HttpsEdge
from labsim.hub.embedded.identity import HubAuthority
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.kube.crds import hub_conversions, hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.patches import APPLY_PATCH, JSON_PATCH, MERGE_PATCH
from labsim.kube.users import ADMIN
from labsim.model.http import Request, Response
from labsim.model.kinds import AGENT_MACHINE, CUSTOM_RESOURCE_DEFINITION, MACHINE, MACHINE_SET, NAMESPACE
from labsim.model.objects import Object, new, thaw

PLACE = "versions"
NEWER = dataclasses.replace(MACHINE, version="v1beta2")
NEWER_SET = dataclasses.replace(MACHINE_SET, version="v1beta2")
SERVED_WITHIN_S = 30.0
SETTLES_S = 2.0  # a real server takes a changed definition up after about a second
DATA = "cluster.x-k8s.io/conversion-data"
# What differs from server to server, and from run to run.
OWN = ("uid", "creationTimestamp", "deletionTimestamp", "resourceVersion", "time", "lastTransitionTime")


def definition_of(group: str, kind: str) -> Object | None:
    found = (crd for crd in hub_crds() if (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, kind))
    return next(found, None)


def answer(request: Request) -> Response:
    """What HyperShift's operator answers to a ConversionReview."""
    review = request.json()
    wanted, objects = review["request"]["desiredAPIVersion"], review["request"]["objects"]
    made: Object = {"uid": review["request"]["uid"], "result": {"status": "Success"}}
    try:
        made["convertedObjects"] = [
            hub_conversions()[f"{obj['kind'].lower()}s.cluster.x-k8s.io"](obj, wanted, definition_of) for obj in objects
        ]
    except ValueError as problem:
        made["result"] = {"status": "Failure", "message": str(problem)}
    document = {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": made}
    return Response(status=200, headers={"content-type": "application/json"}, body=json.dumps(document).encode())


def at_once(call: Any, /) -> Future[Any]:
    done: Future[Any] = Future()
    done.set_result(call())
    return done


@contextlib.contextmanager
def webhook() -> Iterator[Object]:
    """Our conversions behind HTTPS; yields the clientConfig of who calls them."""
    authority = HubAuthority()
    edge = HttpsEdge(submit=at_once)
    try:
        port = edge.listen("127.0.0.1", 0, answer, tls=authority.serving(["localhost", "127.0.0.1"]))
        ca = base64.b64encode(authority.ca_pem.encode()).decode()
        yield {"url": f"https://127.0.0.1:{port}/convert", "caBundle": ca}
    finally:
        edge.close()


@pytest.fixture(scope="module", params=SERVERS)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterConnection]:
    folder = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as ends:
        if request.param == "kube-apiserver":
            real = ends.enter_context(real_api_server(folder))
            kubeconfig, client_config = real.kubeconfig, ends.enter_context(webhook())
        else:
            hub = BareHub({"the-token": ADMIN})
            ends.callback(hub.close)
            kubeconfig, client_config = folder / "kubeconfig", {}
            hub.write_kubeconfig(kubeconfig, "the-token", "admin")
        connection = connected(kubeconfig)
        ends.callback(connection.close)
        install(connection, client_config)
        connection.call("POST", NAMESPACE.path(), body=new(NAMESPACE, None, PLACE))
        yield connection


def connected(kubeconfig: Path) -> ClusterConnection:
    return ClusterConnection(ClusterAccess(kubeconfig=kubeconfig))


def install(api: ClusterConnection, client_config: Object) -> None:
    kinds = {kind.qualified for kind in (MACHINE, MACHINE_SET, AGENT_MACHINE)}
    for crd in hub_crds():
        if crd["metadata"]["name"] in kinds:
            definition = thaw(crd)
            if client_config and definition["spec"]["conversion"]["strategy"] == "Webhook":
                definition["spec"]["conversion"]["webhook"]["clientConfig"] = client_config
            api.call("POST", CUSTOM_RESOURCE_DEFINITION.path(), body=definition)
    deadline_s = monotonic_s() + SERVED_WITHIN_S
    for kind in (MACHINE, NEWER, MACHINE_SET, NEWER_SET):
        while True:
            try:
                api.call("GET", kind.path(PLACE), is_patient=False)
                break
            except ApiError:
                assert monotonic_s() < deadline_s
            wait_s(0.1)


def machine(name: str, **spec: Any) -> Object:
    reference = {
        "apiVersion": AGENT_MACHINE.api_version,
        "kind": AGENT_MACHINE.kind,
        "name": name,
        "namespace": PLACE,
    }
    spec = {"clusterName": "c", "bootstrap": {"dataSecretName": "d"}, "infrastructureRef": reference, **spec}
    return new(MACHINE, PLACE, name, spec=spec)


def bare(value: Any) -> Any:
    """An answer without what is each server's own."""
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if key not in OWN}
    return [bare(item) for item in value] if isinstance(value, list) else value


def owners(obj: Object) -> dict[tuple[str, str, str], Any]:
    """Who owns which fields: by manager, operation and version."""
    entries = obj["metadata"].get("managedFields") or ()
    return {(e["manager"], e["operation"], e["apiVersion"].rpartition("/")[2]): e["fieldsV1"] for e in entries}


def as_manager(name: str, **more: str) -> dict[str, str]:
    return {"fieldManager": name, **more}


def test_both_versions_are_discovered_and_the_newer_one_is_preferred(api: ClusterConnection) -> None:
    group = api.call("GET", "/apis/cluster.x-k8s.io")
    assert [entry["version"] for entry in group["versions"]] == ["v1beta2", "v1beta1"]
    assert group["preferredVersion"]["version"] == "v1beta2"
    hashes = {
        resource["storageVersionHash"]
        for version in ("v1beta1", "v1beta2")
        for resource in api.call("GET", f"/apis/cluster.x-k8s.io/{version}")["resources"]
        if resource["name"] == "machines"
    }
    assert len(hashes) == 1  # of the version that is stored


def test_what_is_written_in_one_version_is_read_in_the_other(api: ClusterConnection) -> None:
    api.call("POST", MACHINE.path(PLACE), body=machine("read", nodeDrainTimeout="1h30m"), query=as_manager("old"))
    shown = api.call("GET", NEWER.path(PLACE, "read"))
    assert shown["apiVersion"] == "cluster.x-k8s.io/v1beta2"
    assert shown["spec"] == {
        "clusterName": "c",
        "bootstrap": {"dataSecretName": "d"},
        "infrastructureRef": {"apiGroup": AGENT_MACHINE.group, "kind": "AgentMachine", "name": "read"},
        "deletion": {"nodeDrainTimeoutSeconds": 5400},
    }
    assert "status" not in shown
    assert "annotations" not in shown["metadata"]
    listed = api.call("GET", NEWER.path(PLACE))
    assert [item for item in listed["items"] if item["metadata"]["name"] == "read"] == [shown]


def test_a_put_of_the_newer_version_is_stored_in_the_older_one(api: ClusterConnection) -> None:
    api.call("POST", MACHINE.path(PLACE), body=machine("put"), query=as_manager("old"))
    newer = api.call("GET", NEWER.path(PLACE, "put"))
    newer["metadata"]["annotations"] = {"hook": ""}
    newer["spec"]["minReadySeconds"] = 7
    made = api.call("PUT", NEWER.path(PLACE, "put"), body=newer, query=as_manager("new"))
    assert made["spec"]["minReadySeconds"] == 7
    assert made["metadata"]["annotations"] == {"hook": ""}
    assert made["metadata"]["generation"] == 2
    stored = api.call("GET", MACHINE.path(PLACE, "put"))
    assert stored["spec"] == machine("put")["spec"]
    assert stored["status"] == {"bootstrapReady": False, "infrastructureReady": False}
    assert json.loads(stored["metadata"]["annotations"][DATA])["spec"]["minReadySeconds"] == 7
    assert owners(stored) == {
        ("old", "Update", "v1beta1"): {
            "f:spec": {
                ".": {},
                "f:bootstrap": {".": {}, "f:dataSecretName": {}},
                "f:clusterName": {},
                "f:infrastructureRef": {},
            }
        },
        ("new", "Update", "v1beta2"): {
            "f:metadata": {"f:annotations": {".": {}, "f:hook": {}}},
            "f:spec": {"f:minReadySeconds": {}},
        },
    }


def test_a_field_that_moved_changes_hands_in_each_managers_own_version(api: ClusterConnection) -> None:
    api.call("POST", MACHINE.path(PLACE), body=machine("moved", nodeDrainTimeout="10m"), query=as_manager("old"))
    patch = {"spec": {"deletion": {"nodeDrainTimeoutSeconds": 60}}}
    path = NEWER.path(PLACE, "moved")
    made = api.call("PATCH", path, body=patch, content_type=MERGE_PATCH, query=as_manager("new"))
    found = owners(made)
    assert "f:nodeDrainTimeout" not in found["old", "Update", "v1beta1"]["f:spec"]
    assert found["new", "Update", "v1beta2"] == {"f:spec": {"f:deletion": {"f:nodeDrainTimeoutSeconds": {}}}}
    assert api.call("GET", MACHINE.path(PLACE, "moved"))["spec"]["nodeDrainTimeout"] == "1m0s"


def test_the_first_write_of_the_newer_version_changes_what_is_stored_and_the_second_does_not(
    api: ClusterConnection,
) -> None:
    api.call("POST", MACHINE.path(PLACE), body=machine("same"), query=as_manager("old"))
    versions = []
    for _ in range(3):
        newer = api.call("GET", NEWER.path(PLACE, "same"))
        versions.append(newer["metadata"]["resourceVersion"])
        api.call("PUT", NEWER.path(PLACE, "same"), body=newer, query=as_manager("new"))
    assert versions[0] != versions[1]  # the annotation is new
    assert versions[1] == versions[2]


def test_an_apply_in_the_newer_version_meets_owners_in_the_older_one(api: ClusterConnection) -> None:
    older, newer = MACHINE.path(PLACE, "applied"), NEWER.path(PLACE, "applied")
    body = machine("applied", nodeDrainTimeout="10m", version="v1.30.0")
    api.call("PATCH", older, body=body, content_type=APPLY_PATCH, query=as_manager("old"))
    spec = {
        "clusterName": "c",
        "bootstrap": {"dataSecretName": "d"},
        "infrastructureRef": {"apiGroup": AGENT_MACHINE.group, "kind": "AgentMachine", "name": "applied"},
        "deletion": {"nodeDrainTimeoutSeconds": 60},
    }
    wanted = {**new(NEWER, PLACE, "applied"), "spec": spec}
    with pytest.raises(ApiError) as refused:
        api.call("PATCH", newer, body=wanted, content_type=APPLY_PATCH, query=as_manager("new"))
    assert refused.value.code == 409
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "old": .spec.nodeDrainTimeout'
    made = api.call("PATCH", newer, body=wanted, content_type=APPLY_PATCH, query=as_manager("new", force="true"))
    assert made["spec"] == {**spec, "version": "v1.30.0"}
    found = owners(made)
    assert "f:nodeDrainTimeout" not in found["old", "Apply", "v1beta1"]["f:spec"]
    assert found["new", "Apply", "v1beta2"]["f:spec"]["f:deletion"] == {"f:nodeDrainTimeoutSeconds": {}}


def test_who_applies_in_the_other_version_gives_up_what_was_said_in_the_first(api: ClusterConnection) -> None:
    older, newer = MACHINE.path(PLACE, "turned"), NEWER.path(PLACE, "turned")
    body = machine("turned", nodeDrainTimeout="10m", version="v1.30.0")
    api.call("PATCH", older, body=body, content_type=APPLY_PATCH, query=as_manager("me"))
    spec = {
        "clusterName": "c",
        "bootstrap": {"dataSecretName": "d"},
        "infrastructureRef": {"apiGroup": AGENT_MACHINE.group, "kind": "AgentMachine", "name": "turned"},
        "version": "v1.31.0",
    }
    wanted = {**new(NEWER, PLACE, "turned"), "spec": spec}
    made = api.call("PATCH", newer, body=wanted, content_type=APPLY_PATCH, query=as_manager("me"))
    assert made["spec"] == spec
    assert list(owners(made)) == [("me", "Apply", "v1beta2")]


def test_a_json_patch_and_a_dry_run_speak_the_version_of_the_request(api: ClusterConnection) -> None:
    api.call("POST", MACHINE.path(PLACE), body=machine("patched"), query=as_manager("old"))
    path = NEWER.path(PLACE, "patched")
    steps = [{"op": "add", "path": "/spec/deletion", "value": {"nodeDeletionTimeoutSeconds": 0}}]
    dry = api.call("PATCH", path, body=steps, content_type=JSON_PATCH, query=as_manager("new", dryRun="All"))
    assert dry["spec"]["deletion"] == {"nodeDeletionTimeoutSeconds": 0}
    assert "deletion" not in api.call("GET", path)["spec"]
    made = api.call("PATCH", path, body=steps, content_type=JSON_PATCH, query=as_manager("new"))
    assert bare(made) == bare(dry)
    assert api.call("GET", MACHINE.path(PLACE, "patched"))["spec"]["nodeDeletionTimeout"] == "0s"


def test_each_version_is_checked_by_its_own_schema(api: ClusterConnection) -> None:
    api.call("POST", MACHINE.path(PLACE), body=machine("checked"), query=as_manager("old"))
    body = {"spec": {"deletion": {"nodeDrainTimeoutSeconds": -1}}}
    with pytest.raises(ApiError) as refused:
        api.call("PATCH", NEWER.path(PLACE, "checked"), body=body, content_type=MERGE_PATCH)
    assert refused.value.code == 422
    assert "spec.deletion.nodeDrainTimeoutSeconds" in refused.value.message
    old = {"spec": {"nodeDrainTimeout": "5m", "deletion": {"nodeDrainTimeoutSeconds": 5}}}
    made = api.call("PATCH", MACHINE.path(PLACE, "checked"), body=old, content_type=MERGE_PATCH)
    assert made["spec"]["nodeDrainTimeout"] == "5m"
    assert "deletion" not in made["spec"]  # what only the other version knows is pruned


def test_the_status_has_its_conditions_apart(api: ClusterConnection) -> None:
    api.call("POST", MACHINE.path(PLACE), body=machine("status"), query=as_manager("old"))
    since = "2026-01-02T03:04:05Z"
    old = {"type": "Ready", "status": "True", "lastTransitionTime": since}
    status = {"conditions": [old], "infrastructureReady": True, "phase": "Provisioned"}
    api.call("PATCH", MACHINE.path(PLACE, "status") + "/status", body={"status": status}, content_type=MERGE_PATCH)
    shown = api.call("GET", NEWER.path(PLACE, "status"))["status"]
    assert shown["deprecated"] == {"v1beta1": {"conditions": [old]}}
    assert shown["initialization"] == {"infrastructureProvisioned": True}
    assert "conditions" not in shown
    new_one = {**old, "type": "Deleting", "status": "False", "reason": "NotDeleting", "message": ""}
    path = NEWER.path(PLACE, "status") + "/status"
    body = {"status": {"conditions": [new_one]}}
    made = api.call("PATCH", path, body=body, content_type=MERGE_PATCH, query=as_manager("new"))
    assert made["status"]["conditions"] == [new_one]
    stored = api.call("GET", MACHINE.path(PLACE, "status"))["status"]
    assert stored["conditions"] == [old]
    assert stored["v1beta2"] == {"conditions": [new_one]}
    assert stored["phase"] == "Provisioned"


def test_a_watch_tells_every_change_in_its_own_version(api: ClusterConnection) -> None:
    made = api.call("POST", MACHINE.path(PLACE), body=machine("watched"), query=as_manager("old"))
    body: Object = {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeDrainTimeout": "2m"}}
    api.call("PATCH", MACHINE.path(PLACE, "watched"), body=body, content_type=MERGE_PATCH)
    body = {"metadata": {"labels": None}}
    api.call("PATCH", NEWER.path(PLACE, "watched"), body=body, content_type=MERGE_PATCH)
    api.call("DELETE", MACHINE.path(PLACE, "watched"))
    query = {
        "resourceVersion": made["metadata"]["resourceVersion"],
        "fieldSelector": "metadata.name=watched",
        "timeoutSeconds": "3",
    }
    found = {}
    for kind in (MACHINE, NEWER):
        events = list(api.watch(kind.path(PLACE), query, 10.0))
        found[kind.version] = [(event["type"], bare(event["object"]["spec"])) for event in events]
        assert {event["object"]["apiVersion"] for event in events} == {kind.api_version}
    assert [event for event, _ in found["v1beta1"]] == ["MODIFIED", "MODIFIED", "DELETED"]
    assert [event for event, _ in found["v1beta2"]] == ["MODIFIED", "MODIFIED", "DELETED"]
    assert [spec["deletion"] for _, spec in found["v1beta2"]] == [{"nodeDrainTimeoutSeconds": 120}] * 3
    query["labelSelector"] = "a=b"
    events = list(api.watch(NEWER.path(PLACE), query, 10.0))
    assert [event["type"] for event in events] == ["ADDED", "DELETED"]
    assert events[1]["object"]["spec"]["deletion"] == {"nodeDrainTimeoutSeconds": 120}


def test_a_scale_is_the_same_in_both_versions(api: ClusterConnection) -> None:
    template = {"spec": machine("t")["spec"]}
    selector = {"matchLabels": {"a": "b"}}
    spec = {"clusterName": "c", "replicas": 2, "selector": selector, "template": template, "minReadySeconds": 5}
    api.call("POST", MACHINE_SET.path(PLACE), body=new(MACHINE_SET, PLACE, "scaled", spec=spec))
    path = NEWER_SET.path(PLACE, "scaled")
    assert api.call("GET", path)["spec"]["template"]["spec"]["minReadySeconds"] == 5
    assert api.call("GET", f"{path}/scale")["spec"] == {"replicas": 2}
    body = {"spec": {"replicas": 3}}
    api.call("PATCH", f"{path}/scale", body=body, content_type=MERGE_PATCH, query=as_manager("scaler"))
    stored = api.call("GET", MACHINE_SET.path(PLACE, "scaled"))
    assert stored["spec"]["replicas"] == 3
    assert stored["spec"]["minReadySeconds"] == 5


def test_another_version_is_stored_from_now_on(api: ClusterConnection) -> None:
    """As with upstream's own definitions, which store v1beta2."""
    template = {"spec": machine("t", nodeDrainTimeout="3m")["spec"]}
    spec = {"clusterName": "c", "replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    api.call("POST", MACHINE_SET.path(PLACE), body=new(MACHINE_SET, PLACE, "before", spec=spec))
    path = CUSTOM_RESOURCE_DEFINITION.path(None, MACHINE_SET.qualified)
    definition = api.call("GET", path)
    for version in definition["spec"]["versions"]:
        version["storage"] = version["name"] == "v1beta2"
    stored = api.call("PUT", path, body=definition)["status"]["storedVersions"]
    assert stored == ["v1beta1", "v1beta2"]
    wait_s(SETTLES_S)
    api.call("POST", MACHINE_SET.path(PLACE), body=new(MACHINE_SET, PLACE, "after", spec=spec))
    listed = {item["metadata"]["name"]: item for item in api.call("GET", NEWER_SET.path(PLACE))["items"]}
    assert listed["before"]["spec"] == listed["after"]["spec"]
    assert {"before", "after"} <= {
        item["metadata"]["name"] for item in api.call("GET", MACHINE_SET.path(PLACE))["items"]
    }
    body: Object = {"spec": {"template": {"spec": {"deletion": {"nodeDrainTimeoutSeconds": 60}}}}}
    api.call("PATCH", NEWER_SET.path(PLACE, "before"), body=body, content_type=MERGE_PATCH)
    changed = api.call("GET", MACHINE_SET.path(PLACE, "before"))
    assert changed["spec"]["template"]["spec"]["nodeDrainTimeout"] == "1m0s"


def test_an_object_that_cannot_be_converted_is_an_error_where_it_is_shown(api: ClusterConnection) -> None:
    made = api.call("POST", MACHINE.path(PLACE), body=machine("bad"), query=as_manager("old"))
    body: Object = {"metadata": {"labels": {"a": "b"}}}
    api.call("PATCH", NEWER.path(PLACE, "bad"), body=body, content_type=MERGE_PATCH, query=as_manager("new"))
    body = {"spec": {"nodeDrainTimeout": "soon"}}
    spoilt = api.call("PATCH", MACHINE.path(PLACE, "bad"), body=body, content_type=MERGE_PATCH, query=as_manager("old"))
    assert spoilt["spec"]["nodeDrainTimeout"] == "soon"
    assert "managedFields" not in spoilt["metadata"]
    query = {
        "resourceVersion": made["metadata"]["resourceVersion"],
        "fieldSelector": "metadata.name=bad",
        "timeoutSeconds": "3",
    }
    with pytest.raises(ApiError) as refused:
        api.call("GET", NEWER.path(PLACE, "bad"))
    assert refused.value.code == 500
    assert [event["type"] for event in api.watch(MACHINE.path(PLACE), query, 10.0)] == ["MODIFIED", "MODIFIED"]
    assert [event["type"] for event in api.watch(NEWER.path(PLACE), query, 10.0)] == ["MODIFIED"]
    api.call("DELETE", MACHINE.path(PLACE, "bad"))


def test_what_cannot_be_converted_is_an_error_of_the_server(api: ClusterConnection) -> None:
    spec = {
        "clusterName": "c",
        "bootstrap": {"dataSecretName": "d"},
        "infrastructureRef": {"apiGroup": "nobody.example.com", "kind": "Thing", "name": "x"},
    }
    with pytest.raises(ApiError) as refused:
        api.call("POST", NEWER.path(PLACE), body={**new(NEWER, PLACE, "unknown"), "spec": spec})
    assert refused.value.code == 500
    said = "conversion webhook for cluster.x-k8s.io/v1beta2, Kind=Machine failed: failed to convert object: "
    assert refused.value.message.startswith(said)
