"""NodePools: conditions, Secrets and their rotation, Machines, the ignition server."""

from __future__ import annotations

import base64

import orjson
import pytest
from hypershift_hub import ADDRESS, OWNER, PLACE, Hub

from labsim.controllers.hypershift.machine_conditions import MESSAGE_LIMIT, all_machines_ready, all_nodes_healthy
from labsim.model.http import Request
from labsim.model.kinds import (
    AGENT_MACHINE_TEMPLATE,
    CLUSTER_OPERATOR,
    HOSTED_CLUSTER,
    MACHINE,
    MACHINE_DEPLOYMENT,
    MACHINE_HEALTH_CHECK,
    MACHINE_SET,
    NODE_POOL,
    POD,
    SECRET,
)
from labsim.model.objects import Object, annotations_of, name_of, new

NODE_POOL_MARK = "hypershift.openshift.io/nodePool"
HOUR_S = 3600.0


def started(seed: int = 1, **changes: object) -> Hub:
    hub = Hub(seed)
    hub.add_storage_class()
    hub.create_cluster(**changes)
    hub.run_for(400)
    assert hub.engine.failures == []
    return hub


def token_secret(hub: Hub) -> Object:
    found = [
        secret
        for secret in hub.server.list(SECRET, PLACE)[0]
        if name_of(secret).startswith("token-example-") and "token" in secret["data"]
    ]
    assert len(found) == 1
    return found[0]


def token_of(secret: Object, key: str = "token") -> str:
    return base64.b64decode(secret["data"][key]).decode()


def ignition_url(hub: Hub) -> str:
    cluster = hub.find(HOSTED_CLUSTER, "clusters", "example")
    assert cluster is not None
    return f"https://{cluster['status']['ignitionEndpoint']}/ignition"


def test_the_first_stop_is_the_missing_ignition_endpoint() -> None:
    hub = Hub()
    hub.create_cluster()
    hub.run_for(5)
    assert hub.says(NODE_POOL, "clusters", "example", "IgnitionEndpointAvailable") == (
        "False",
        "IgnitionEndpointMissing",
        "Ignition endpoint not available, waiting",
    )
    assert hub.says(NODE_POOL, "clusters", "example", "ValidMachineConfig")[0] == ""
    pool = hub.find(NODE_POOL, "clusters", "example") or {}
    assert pool["metadata"]["ownerReferences"][0]["kind"] == "HostedCluster"


def test_in_place_pools_become_a_machine_set() -> None:
    hub = started()
    machines = hub.find(MACHINE_SET, PLACE, "example")
    assert machines is not None
    assert hub.find(MACHINE_DEPLOYMENT, PLACE, "example") is None
    spec = machines["spec"]
    assert (spec["clusterName"], spec["replicas"]) == ("example-abcde", 2)
    assert spec["template"]["metadata"]["annotations"] == {NODE_POOL_MARK: "clusters/example"}
    template = hub.find(AGENT_MACHINE_TEMPLATE, PLACE, spec["template"]["spec"]["infrastructureRef"]["name"])
    assert template is not None
    assert template["spec"] == {"template": {"spec": {}}}
    user_data = hub.find(SECRET, PLACE, spec["template"]["spec"]["bootstrap"]["dataSecretName"])
    assert user_data is not None
    pointer = orjson.loads(base64.b64decode(user_data["data"]["value"]))
    source = pointer["ignition"]["config"]["merge"][0]
    assert source["source"] == ignition_url(hub)
    headers = {entry["name"]: entry["value"] for entry in source["httpHeaders"]}
    assert headers["NodePool"] == "clusters/example"
    assert base64.b64decode(headers["Authorization"].removeprefix("Bearer ")).decode() == token_of(token_secret(hub))
    assert hub.says(NODE_POOL, "clusters", "example", "IgnitionEndpointAvailable")[0] == ""
    assert hub.says(NODE_POOL, "clusters", "example", "AllMachinesReady") == (
        "False",
        "NotFound",
        "No Machines are created",
    )


def test_replace_pools_become_a_machine_deployment() -> None:
    hub = started(node_upgrade_type="Replace")
    machines = hub.find(MACHINE_DEPLOYMENT, PLACE, "example")
    assert machines is not None
    assert hub.find(MACHINE_SET, PLACE, "example") is None
    assert machines["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_a_selector_names_another_template() -> None:
    hub = started()
    before = (hub.find(MACHINE_SET, PLACE, "example") or {})["spec"]["template"]["spec"]["infrastructureRef"]["name"]
    selector = {"matchLabels": {"size": "large"}}
    hub.change(NODE_POOL, "clusters", "example", {"spec": {"platform": {"agent": {"agentLabelSelector": selector}}}})
    hub.run_for(10)
    after = (hub.find(MACHINE_SET, PLACE, "example") or {})["spec"]["template"]["spec"]["infrastructureRef"]["name"]
    assert after != before
    template = hub.find(AGENT_MACHINE_TEMPLATE, PLACE, after) or {}
    assert template["spec"]["template"]["spec"]["agentLabelSelector"] == selector


def test_replicas_travel_down_and_available_ones_up() -> None:
    hub = started()
    hub.change(NODE_POOL, "clusters", "example", {"spec": {"replicas": 3}})
    hub.run_for(5)
    assert (hub.find(MACHINE_SET, PLACE, "example") or {})["spec"]["replicas"] == 3
    hub.set_status(MACHINE_SET, PLACE, "example", {"replicas": 3, "readyReplicas": 2, "availableReplicas": 2})
    hub.run_for(5)
    assert (hub.find(NODE_POOL, "clusters", "example") or {})["status"]["replicas"] == 2


def test_autoscaling_only_bounds() -> None:
    hub = started()
    spec = {"replicas": None, "autoScaling": {"min": 3, "max": 5}}
    hub.change(NODE_POOL, "clusters", "example", {"spec": spec})
    hub.run_for(5)
    machines = hub.find(MACHINE_SET, PLACE, "example") or {}
    assert machines["spec"]["replicas"] == 3
    assert annotations_of(machines)["cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size"] == "5"
    assert hub.says(NODE_POOL, "clusters", "example", "AutoscalingEnabled") == (
        "True",
        "AsExpected",
        "Maximum nodes: 5, Minimum nodes: 3",
    )


def test_the_ignition_server_hands_out_what_cim_and_the_node_need() -> None:
    hub = started()
    secret = token_secret(hub)
    answer = hub.get_ignition(ignition_url(hub), token_of(secret))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document["ignition"]["version"] == "3.2.0"
    files = {entry["path"]: entry["contents"]["source"] for entry in document["storage"]["files"]}
    kubeconfig = orjson.loads(base64.b64decode(files["/etc/kubernetes/kubeconfig"].partition("base64,")[2]))
    assert len(kubeconfig["clusters"]) == 1
    assert kubeconfig["clusters"][0]["cluster"]["server"].startswith(f"https://{ADDRESS}:")
    assert "/etc/kubernetes/manifests/kube-apiserver-proxy.yaml" in files
    assert document["systemd"]["units"][0]["name"] == "kubelet.service"
    hub.run_for(5)
    assert hub.says(NODE_POOL, "clusters", "example", "ReachedIgnitionEndpoint")[0] == "True"
    assert hub.says(NODE_POOL, "clusters", "example", "ValidGeneratedPayload") == (
        "True",
        "AsExpected",
        "Payload generated successfully",
    )


@pytest.mark.parametrize(
    ("path", "authorization", "status", "body"),
    [
        ("/healthz", None, 404, None),
        ("/ignition/x", None, 404, None),
        ("/ignition", None, 401, None),
        ("/ignition", "Basic abc", 401, None),
        ("/ignition", "Bearer ***", 401, None),
        ("/ignition", "Bearer " + base64.b64encode(b"no such token").decode(), 511, b"Token not found"),
    ],
)
def test_the_ignition_server_refuses(path: str, authorization: str | None, status: int, body: bytes | None) -> None:
    hub = Hub()
    headers = {} if authorization is None else {"authorization": authorization}
    answer = hub.handle(Request(method="GET", path=path, headers=headers, host="192.0.2.10:31000"))
    assert answer.status == status
    assert body is None or answer.body == body


def test_tokens_rotate_at_half_their_life_and_end() -> None:
    hub = started()
    first = token_of(token_secret(hub))
    hub.run_for(5 * HOUR_S)
    assert token_of(token_secret(hub)) == first
    hub.run_for(0.6 * HOUR_S)
    secret = token_secret(hub)
    second = token_of(secret)
    assert second != first
    assert token_of(secret, "old_token") == first
    assert hub.get_ignition(ignition_url(hub), first).status == 200
    assert hub.get_ignition(ignition_url(hub), second).status == 200
    user_data = hub.find(SECRET, PLACE, name_of(secret).replace("token-", "user-data-")) or {}
    assert base64.b64encode(second.encode()) in base64.b64decode(user_data["data"]["value"])
    hub.run_for(5.5 * HOUR_S)
    assert hub.get_ignition(ignition_url(hub), first).status == 511
    assert hub.get_ignition(ignition_url(hub), second).status == 200


def test_a_new_configuration_retires_the_old_token() -> None:
    hub = started()
    before = token_secret(hub)
    hub.change(
        HOSTED_CLUSTER, "clusters", "example", {"spec": {"imageContentSources": [{"source": "a", "mirrors": []}]}}
    )
    hub.run_for(10)
    old = hub.find(SECRET, PLACE, name_of(before)) or {}
    assert "hypershift.openshift.io/ignition-token-expiration-timestamp" in annotations_of(old)
    assert hub.find(SECRET, PLACE, name_of(before).replace("token-", "user-data-")) is None
    assert hub.get_ignition(ignition_url(hub), token_of(before)).status == 200
    hub.run_for(6 * HOUR_S)
    assert hub.find(SECRET, PLACE, name_of(before)) is None
    assert hub.get_ignition(ignition_url(hub), token_of(before)).status == 511


def test_auto_repair_waits_until_a_node_has_fetched_its_ignition() -> None:
    hub = started(auto_repair=True)
    assert hub.find(MACHINE_HEALTH_CHECK, PLACE, "example") is None
    assert hub.says(NODE_POOL, "clusters", "example", "AutorepairEnabled")[0] == ""
    assert hub.get_ignition(ignition_url(hub), token_of(token_secret(hub))).status == 200
    hub.run_for(10)
    check = hub.find(MACHINE_HEALTH_CHECK, PLACE, "example")
    assert check is not None
    assert check["spec"]["maxUnhealthy"] == 2
    assert check["spec"]["nodeStartupTimeout"] == "20m0s"
    assert {entry["timeout"] for entry in check["spec"]["unhealthyConditions"]} == {"16m0s"}
    assert hub.says(NODE_POOL, "clusters", "example", "AutorepairEnabled")[0] == "True"


def test_deletion_waits_for_the_last_machine() -> None:
    hub = started()
    machine = new(MACHINE, PLACE, "example-aaaaa", spec={"clusterName": "x", "bootstrap": {}, "infrastructureRef": {}})
    machine["metadata"]["annotations"] = {NODE_POOL_MARK: "clusters/example"}
    hub.server.create(machine, MACHINE)
    secret = name_of(token_secret(hub))
    hub.server.delete(NODE_POOL, "clusters", "example")
    hub.run_for(60)
    assert hub.find(MACHINE_SET, PLACE, "example") is None
    assert hub.find(NODE_POOL, "clusters", "example") is not None
    assert hub.find(SECRET, PLACE, secret) is not None
    hub.server.delete(MACHINE, PLACE, "example-aaaaa")
    hub.run_for(60)
    assert hub.find(NODE_POOL, "clusters", "example") is None
    assert hub.find(SECRET, PLACE, secret) is None


def _machine(name: str, **conditions: tuple[str, str, str]) -> Object:
    entries = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    return new(MACHINE, PLACE, name, status={"conditions": entries})


def test_messages_about_machines() -> None:
    pool = {"spec": {"replicas": 3}}
    machines = [
        _machine("np-a", Ready=("True", "", ""), NodeHealthy=("True", "", "")),
        _machine("np-b", Ready=("False", "NoSuitableAgents", "0 of 5 completed")),
        _machine("np-c"),
    ]
    ready, healthy = all_machines_ready(pool, machines), all_nodes_healthy(pool, machines)
    assert ready == (
        "False",
        "NoSuitableAgents,WaitingForInfrastructure",
        "2 of 3 machines are not ready\nMachine np-b: NoSuitableAgents\nMachine np-c: WaitingForInfrastructure\n",
    )
    assert healthy.reason == "WaitingForNodeRef"
    assert healthy.message.startswith("2 of 3 machines are not healthy\n")
    assert all_machines_ready(pool, machines[:1]) == ("True", "AsExpected", "All is well")
    assert all_machines_ready({"spec": {"replicas": 0}}, []).message == "NodePool set to no replicas"
    many = all_machines_ready(pool, [_machine(f"np-{number:04d}") for number in range(500)])
    assert len(many.message) <= MESSAGE_LIMIT + 40
    assert many.message.endswith("too many similar errors\n")


def test_a_paused_pool_hands_nothing_down() -> None:
    hub = started()
    hub.change(NODE_POOL, "clusters", "example", {"spec": {"pausedUntil": "true", "replicas": 5}})
    hub.run_for(10)
    machines = hub.find(MACHINE_SET, PLACE, "example") or {}
    assert machines["spec"]["replicas"] == 2
    assert annotations_of(machines)["cluster.x-k8s.io/paused"] == "true"
    assert hub.says(NODE_POOL, "clusters", "example", "ReconciliationActive")[:2] == ("False", "ReconciliationPaused")
    hub.change(NODE_POOL, "clusters", "example", {"spec": {"pausedUntil": None}})
    hub.run_for(10)
    machines = hub.find(MACHINE_SET, PLACE, "example") or {}
    assert machines["spec"]["replicas"] == 5
    assert "cluster.x-k8s.io/paused" not in annotations_of(machines)


def test_one_seed_gives_one_history_and_another_seed_another() -> None:
    def everything(seed: int) -> list[Object]:
        hub = started(seed)
        on_hub = [obj for kind in (HOSTED_CLUSTER, NODE_POOL, SECRET, POD) for obj in hub.server.list(kind)[0]]
        return [*on_hub, *hub.hosted[OWNER].list(CLUSTER_OPERATOR)[0]]

    first = everything(7)
    assert first == everything(7)
    assert first != everything(8)
