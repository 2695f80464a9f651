"""Built-in kinds: defaults, addresses and ports, checks, requests for certificates."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from kube_lab import MERGE, STRATEGIC, server

from labsim.kube.errors import ApiError
from labsim.kube.registry import PERSISTENT_VOLUME, PRIORITY_CLASS, REPLICA_SET
from labsim.kube.users import User
from labsim.model.kinds import (
    CERTIFICATE_SIGNING_REQUEST,
    CONFIG_MAP,
    DEPLOYMENT,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    STORAGE_CLASS,
)
from labsim.model.objects import new, thaw


def _causes(call: Any, *args: Any, **kwargs: Any) -> Any:
    with pytest.raises(ApiError) as refused:
        call(*args, **kwargs)
    assert refused.value.code == 422
    return {cause["field"]: cause["message"] for cause in refused.value.details["causes"]}


def _service(name: Any, **spec: Any) -> Any:
    return new(SERVICE, "n", name, spec=spec)


def test_a_service_gets_an_address_and_ports_that_stay() -> None:
    hub = server()
    made = hub.create(_service("s", type="NodePort", ports=[{"port": 80}]), SERVICE)
    port = made["spec"]["ports"][0]
    assert made["spec"]["clusterIP"].startswith("172.30.")
    assert made["spec"]["clusterIPs"] == [made["spec"]["clusterIP"]]
    assert 30000 <= port["nodePort"] <= 32767
    assert (port["protocol"], port["targetPort"]) == ("TCP", 80)
    changed = hub.update(_service("s", type="NodePort", ports=[{"port": 80}], selector={"a": "b"}), SERVICE)
    assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert changed["spec"]["ports"][0]["nodePort"] == port["nodePort"]
    assert server().create(_service("s", type="NodePort", ports=[{"port": 80}]), SERVICE)["spec"] == made["spec"]


def test_node_ports_that_are_taken_are_not_handed_out() -> None:
    asked = []

    def port_is_free(port: Any) -> Any:
        asked.append(port)
        return len(asked) > 3

    hub = server(port_is_free=port_is_free)
    first = hub.create(_service("a", type="NodePort", ports=[{"port": 80}]), SERVICE)["spec"]["ports"][0]["nodePort"]
    assert first == asked[-1]
    assert len(asked) == 4
    taken = _causes(hub.create, _service("b", type="NodePort", ports=[{"port": 80, "nodePort": first}]), SERVICE)
    assert taken == {"spec.ports[0].nodePort": f"Invalid value: {first}: provided port is already allocated"}
    hub.delete(SERVICE, "n", "a")
    hub.create(_service("b", type="NodePort", ports=[{"port": 80, "nodePort": first}]), SERVICE)
    assert (
        "valid range"
        in _causes(hub.create, _service("c", type="NodePort", ports=[{"port": 80, "nodePort": 80}]), SERVICE)[
            "spec.ports[0].nodePort"
        ]
    )


def test_a_headless_service_and_one_that_changes_its_type() -> None:
    hub = server()
    assert hub.create(_service("h", clusterIP="None", selector={"a": "b"}), SERVICE)["spec"]["clusterIPs"] == ["None"]
    hub.create(_service("s", type="NodePort", ports=[{"port": 80}]), SERVICE)
    changed = hub.patch(SERVICE, "n", "s", {"spec": {"type": "ClusterIP"}}, patch_type=STRATEGIC)
    assert "nodePort" not in changed["spec"]["ports"][0]
    other = {"spec": {"clusterIP": "172.30.9.9", "clusterIPs": ["172.30.9.9"]}}
    assert "may not change once set" in str(_causes(hub.patch, SERVICE, "n", "s", other, patch_type=MERGE))


def test_services_that_make_no_sense() -> None:
    found = _causes(server().create, _service("1s", ports=[{"port": 0}, {"port": 80}]), SERVICE)
    assert set(found) == {
        "spec.ports[0].name",
        "spec.ports[1].name",
        "spec.ports[0].port",
        "spec.ports[0].targetPort",
    }


def test_pods_are_completed_and_then_fixed() -> None:
    hub = server()
    pod = hub.create(new(POD, "n", "p", spec={"containers": [{"name": "c", "image": "i:1"}]}), POD)
    assert (pod["status"]["phase"], pod["spec"]["restartPolicy"]) == ("Pending", "Always")
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    image = {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}
    assert hub.patch(POD, "n", "p", image, patch_type=STRATEGIC, manager="m")["metadata"]["generation"] == 2
    node = {"spec": {"nodeName": "x"}}
    assert "spec" in _causes(hub.patch, POD, "n", "p", node, patch_type=STRATEGIC, manager="m")
    bound = hub.patch(POD, "n", "p", node, patch_type=MERGE, subresource="binding", manager="m")
    assert bound["spec"]["nodeName"] == "x"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    assert hub.list(POD, field_selector="spec.nodeName=x")[0] == [bound]
    assert "spec.containers" in _causes(hub.create, new(POD, "n", "q", spec={}), POD)


def test_deployments() -> None:
    hub = server()
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = hub.create(new(DEPLOYMENT, "n", "d", spec=spec), DEPLOYMENT)
    assert (made["spec"]["replicas"], made["status"]) == (1, {})
    scaled = hub.patch(DEPLOYMENT, "n", "d", {"spec": {"replicas": 3}}, patch_type=MERGE, subresource="scale")
    assert scaled["status"] == {"replicas": 0, "selector": "a=b"}
    other = {"spec": {"selector": {"matchLabels": {"a": "c"}}}}
    assert "spec.selector" in _causes(hub.patch, DEPLOYMENT, "n", "d", other, patch_type=MERGE)
    wrong = {**spec, "selector": {"matchLabels": {"a": "x"}}}
    assert "spec.template.metadata.labels" in _causes(hub.create, new(DEPLOYMENT, "n", "e", spec=wrong), DEPLOYMENT)


def test_who_asks_for_a_certificate_is_known_by_authentication() -> None:
    hub = server()
    node = User("system:node:w", "uid-w", ("system:nodes",))
    spec = {
        "request": "YQ==",
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["server auth"],
        "username": "me",
    }
    asked = hub.create(new(CERTIFICATE_SIGNING_REQUEST, None, "c", spec=spec), CERTIFICATE_SIGNING_REQUEST, user=node)
    assert (asked["spec"]["username"], asked["spec"]["groups"]) == ("system:node:w", ["system:nodes"])
    approved = thaw(asked)
    approved["status"] = {"conditions": [{"type": "Approved", "status": "True"}], "certificate": "Yg=="}
    result = hub.update(approved, CERTIFICATE_SIGNING_REQUEST, subresource="approval")
    assert result["status"] == {"conditions": [{"type": "Approved", "status": "True"}]}
    signed = hub.patch(
        CERTIFICATE_SIGNING_REQUEST,
        "",
        "c",
        {"status": {"certificate": "Yg=="}},
        patch_type=MERGE,
        subresource="status",
    )
    assert signed["status"]["certificate"] == "Yg=="
    assert signed["spec"] == asked["spec"]


def test_secrets_are_checked_by_their_type() -> None:
    hub = server()
    tls = new(SECRET, "n", "t", type="kubernetes.io/tls", data={"tls.crt": "YQ=="})
    assert _causes(hub.create, tls, SECRET) == {"data[tls.key]": "Required value"}
    docker = new(SECRET, "n", "d", type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "{bad"})
    assert "invalid character 'b'" in _causes(hub.create, docker, SECRET)["data[.dockerconfigjson]"]
    hub.create(new(SECRET, "n", "s", data={"a": "YQ=="}, immutable=True), SECRET)
    change = {"data": {"a": base64.b64encode(b"other").decode()}}
    assert "immutable" in _causes(hub.patch, SECRET, "n", "s", change, patch_type=MERGE)["data"]


def test_keys_of_config_maps() -> None:
    found = _causes(server().create, new(CONFIG_MAP, "n", "c", data={"..": "1", "bad key": "2"}), CONFIG_MAP)
    assert set(found) == {"data[..]", "data[bad key]"}


def test_namespaces_carry_their_name() -> None:
    hub = server()
    changed = hub.patch(
        NAMESPACE, "", "n", {"metadata": {"labels": {"kubernetes.io/metadata.name": "x"}}}, patch_type=MERGE
    )
    assert changed["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert "must not contain dots" in str(_causes(hub.create, new(NAMESPACE, None, "a.b"), NAMESPACE))


def test_nodes_keep_their_provider_id() -> None:
    hub = server()
    hub.create(new(NODE, None, "w", spec={"providerID": "agent://1"}), NODE)
    change = {"spec": {"providerID": "agent://2"}}
    assert "spec.providerID" in _causes(hub.patch, NODE, "", "w", change, patch_type=MERGE)
    status = {"status": {"capacity": {"cpu": "4"}}}
    patched = hub.patch(NODE, "", "w", status, patch_type=STRATEGIC, subresource="status")
    assert patched["status"]["allocatable"] == {"cpu": "4"}


def test_other_kinds() -> None:
    hub = server()
    assert "provisioner" in _causes(hub.create, new(STORAGE_CLASS, None, "s"), STORAGE_CLASS)
    claim = _causes(hub.create, new(PERSISTENT_VOLUME_CLAIM, "n", "c", spec={}), PERSISTENT_VOLUME_CLAIM)
    assert set(claim) == {"spec.accessModes", "spec.resources[storage]"}
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "Role", "name": "r"}
    subjects = [{"kind": "User", "name": "alice"}]
    made = hub.create(new(ROLE_BINDING, "n", "b:with:colons", roleRef=role, subjects=subjects), ROLE_BINDING)
    assert made["subjects"][0]["apiGroup"] == group
    change = {"roleRef": {"name": "other"}}
    assert (
        "cannot change roleRef"
        in _causes(hub.patch, ROLE_BINDING, "n", "b:with:colons", change, patch_type=MERGE)["roleRef"]
    )
    for kind in (PERSISTENT_VOLUME, PRIORITY_CLASS, REPLICA_SET):
        assert hub.kind_for(kind.group, kind.version, kind.plural) == kind


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"labels": {"bad key": "x"}}, "metadata.labels"),
        ({"labels": {"a": "bad value!"}}, "metadata.labels"),
        ({"annotations": {"bad key": "x"}}, "metadata.annotations"),
        ({"annotations": {"a": "x" * 262_145}}, "metadata.annotations"),
        ({"finalizers": ["nodomain"]}, "metadata.finalizers[0]"),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "", "name": "x", "uid": "u"}]},
            "metadata.ownerReferences.kind",
        ),
        ({"name": "Bad"}, "metadata.name"),
    ],
)
def test_metadata_that_is_wrong(metadata: Any, field: Any) -> None:
    obj = new(CONFIG_MAP, "n", "c")
    obj["metadata"].update(metadata)
    assert field in _causes(server().create, obj, CONFIG_MAP)
