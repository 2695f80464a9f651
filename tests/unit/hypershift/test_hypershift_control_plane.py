"""From `hcp create cluster agent` to a control plane that answers, and back to nothing."""

from __future__ import annotations

import base64

import orjson
import pytest
from hypershift_hub import ADDRESS, OWNER, PLACE, Hub

from labsim.controllers.hypershift import HyperShiftSettings
from labsim.model.kinds import (
    AGENT_CLUSTER,
    CLUSTER,
    DEPLOYMENT,
    HOSTED_CLUSTER,
    HOSTED_CONTROL_PLANE,
    MACHINE_SET,
    MANAGED_CLUSTER,
    NAMESPACE,
    NODE_POOL,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    STATEFUL_SET,
)
from labsim.model.objects import condition_of, dig, name_of, new, parse_timestamp


@pytest.fixture(scope="module")
def running() -> Hub:
    """A hub whose hosted cluster is available. Tests that use it change nothing."""
    hub = Hub()
    hub.add_storage_class()
    hub.create_cluster(control_plane_availability_policy="HighlyAvailable")
    hub.run_for(400)
    assert hub.engine.failures == []
    return hub


def test_the_cluster_becomes_available_in_minutes(running: Hub) -> None:
    assert running.says(HOSTED_CLUSTER, "clusters", "example", "Available") == (
        "True",
        "AsExpected",
        "The hosted control plane is available",
    )
    entry = condition_of(running.find(HOSTED_CLUSTER, "clusters", "example") or {}, "Available")
    assert entry is not None
    created = (running.find(HOSTED_CLUSTER, "clusters", "example") or {})["metadata"]["creationTimestamp"]
    assert 120 <= parse_timestamp(entry["lastTransitionTime"]) - parse_timestamp(created) <= 300


def test_status_tells_where_everything_is(running: Hub) -> None:
    status = (running.find(HOSTED_CLUSTER, "clusters", "example") or {})["status"]
    api = running.find(SERVICE, PLACE, "kube-apiserver") or {}
    ignition = running.find(SERVICE, PLACE, "ignition-server-proxy") or {}
    assert status["controlPlaneEndpoint"] == {"host": ADDRESS, "port": api["spec"]["ports"][0]["nodePort"]}
    assert status["ignitionEndpoint"] == f"{ADDRESS}:{ignition['spec']['ports'][0]['nodePort']}"
    assert status["kubeconfig"] == {"name": "example-admin-kubeconfig"}
    assert status["kubeadminPassword"] == {"name": "example-kubeadmin-password"}
    assert status["version"]["history"][0]["state"] == "Partial"
    assert status["version"]["history"][0]["completionTime"] is None  # upstream's definition requires the field
    assert running.says(HOSTED_CLUSTER, "clusters", "example", "ReconciliationSucceeded")[1] == "ReconciliatonSucceeded"
    assert running.says(HOSTED_CLUSTER, "clusters", "example", "Progressing")[:2] == ("False", "AsExpected")
    assert running.says(HOSTED_CLUSTER, "clusters", "example", "ClusterVersionAvailable")[0] == "False"


def test_the_control_plane_is_of_platform_none(running: Hub) -> None:
    plane = running.find(HOSTED_CONTROL_PLANE, PLACE, "example")
    assert plane is not None
    assert plane["spec"]["platform"] == {"type": "None"}
    assert plane["spec"]["issuerURL"] == "https://kubernetes.default.svc"  # upstream's definition requires it
    assert plane["metadata"]["annotations"]["hypershift.openshift.io/cluster"] == "clusters/example"
    assert plane["status"]["externalManagedControlPlane"] is True
    assert plane["status"]["kubeConfig"] == {"name": "admin-kubeconfig", "key": "kubeconfig"}


def test_the_capi_cluster_has_the_infra_id_for_a_name(running: Hub) -> None:
    cluster, agents = running.find(CLUSTER, PLACE, "example-abcde"), running.find(AGENT_CLUSTER, PLACE, "example")
    assert cluster is not None
    assert agents is not None
    assert cluster["spec"]["controlPlaneRef"]["kind"] == "HostedControlPlane"
    assert cluster["spec"]["infrastructureRef"]["name"] == "example"
    endpoint = (running.find(HOSTED_CLUSTER, "clusters", "example") or {})["status"]["ignitionEndpoint"]
    assert agents["spec"]["ignitionEndpoint"] == {
        "url": f"https://{endpoint}/ignition",
        "caCertificateReference": {"name": "ignition-server-ca-cert", "namespace": PLACE},
    }


def test_the_provider_may_work_on_agents(running: Hub) -> None:
    role = running.find(ROLE, "agents", f"capi-provider-role-{PLACE}")
    binding = running.find(ROLE_BINDING, "agents", f"cluster-api-agent-{PLACE}")
    assert role is not None
    assert binding is not None
    assert role["rules"][0]["verbs"] == ["get", "list", "watch", "update", "patch"]
    args = dig(running.find(DEPLOYMENT, PLACE, "capi-provider"), "spec", "template", "spec", "containers")[0]["args"]
    assert {f"--namespace={PLACE}", "--agent-namespace=agents"} <= set(args)


def test_highly_available_pods_have_the_documented_ready_counts(running: Hub) -> None:
    ready: dict[str, list[str]] = {}
    for pod in running.server.list(POD, PLACE)[0]:
        statuses = pod["status"]["containerStatuses"]
        text = f"{sum(entry['ready'] for entry in statuses)}/{len(statuses)}"
        ready.setdefault(pod["metadata"]["labels"]["app"], []).append(text)
        assert pod["spec"]["schedulerName"] == "labsim"
    assert ready["etcd"] == ["3/3"] * 3
    assert ready["kube-apiserver"] == ["4/4"] * 3
    assert ready["catalog-operator"] == ["2/2"]
    assert ready["ingress-operator"] == ["1/2"]
    assert ready["control-plane-operator"] == ["1/1"]
    assert "cluster-autoscaler" not in ready


def test_etcd_comes_before_the_api_server_and_that_before_the_rest(running: Hub) -> None:
    def first(component: str) -> str:
        pods = running.server.list(POD, PLACE, label_selector=f"app={component}")[0]
        created: list[str] = [pod["metadata"]["creationTimestamp"] for pod in pods]
        return min(created)

    order = ("control-plane-operator", "etcd", "kube-apiserver", "kube-scheduler", "oauth-openshift")
    times = [first(component) for component in order]
    assert times == sorted(times)


def test_secrets_are_where_people_and_components_look(running: Hub) -> None:
    kubeconfig = orjson.loads(_value(running, "clusters", "example-admin-kubeconfig", "kubeconfig"))
    port = (running.find(HOSTED_CLUSTER, "clusters", "example") or {})["status"]["controlPlaneEndpoint"]["port"]
    assert kubeconfig["clusters"][0]["cluster"]["server"] == f"https://{ADDRESS}:{port}"
    password = _value(running, "clusters", "example-kubeadmin-password", "password")
    assert len(password) == 23
    assert [len(part) for part in password.split("-")] == [5, 5, 5, 5]
    assert _value(running, PLACE, "example-abcde-kubeconfig", "value") == _value(
        running, PLACE, "admin-kubeconfig", "kubeconfig"
    )


def test_everything_that_a_cluster_publishes_answers(running: Hub) -> None:
    services = {service for (_, service), owner in running.published.items() if owner == OWNER}
    assert services == {"kube-apiserver", "ignition-server", "konnectivity", "oauth"}


def test_the_bootstrap_token_stands_for_the_node_bootstrapper(running: Hub) -> None:
    known = running.hypershift.hosted_authentication(OWNER)
    assert known is not None
    kubeconfig = orjson.loads(_value(running, PLACE, "bootstrap-kubeconfig", "kubeconfig"))
    user = known.tokens[kubeconfig["users"][0]["user"]["token"]]
    assert user.name == "system:serviceaccount:openshift-machine-config-operator:node-bootstrapper"
    assert user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:openshift-machine-config-operator",
        "system:authenticated",
    )


def test_a_settled_lab_stops_writing(running: Hub) -> None:
    before = running.server.revision, running.hosted[OWNER].revision
    running.run_for(3600)
    assert (running.server.revision, running.hosted[OWNER].revision) == before


def test_the_hosted_cluster_is_imported(running: Hub) -> None:
    managed = running.find(MANAGED_CLUSTER, "", "example")
    assert managed is not None
    assert managed["metadata"]["annotations"]["import.open-cluster-management.io/klusterlet-deploy-mode"] == "Hosted"


def test_without_a_storage_class_etcd_says_why_it_waits() -> None:
    hub = Hub()
    hub.create_cluster()
    hub.run_for(300)
    status, reason, message = hub.says(HOSTED_CLUSTER, "clusters", "example", "EtcdAvailable")
    assert (status, reason) == ("False", "EtcdWaitingForQuorum")
    assert message.startswith("Etcd volume claim data-etcd-0 pending: ")
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "Available") == (status, reason, message)
    assert hub.find(DEPLOYMENT, PLACE, "kube-apiserver") is None
    assert hub.find(STATEFUL_SET, PLACE, "etcd") is not None
    assert OWNER not in hub.hosted

    hub.add_storage_class()
    hub.run_for(400)
    claim = hub.find(PERSISTENT_VOLUME_CLAIM, PLACE, "data-etcd-0")
    assert claim is not None
    assert claim["spec"]["storageClassName"] == "local"
    assert hub.available()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent_namespace": "nowhere"}, 'failed to get agent namespace: namespaces "nowhere" not found'),
        (
            {"api_server_address": "172.31.0.9"},
            "Nodeport IP is within the service network range: ip is within cidr",
        ),
        (
            {"cluster_cidr": ("172.30.0.0/15",)},
            "clusterNetwork 172.30.0.0/15 overlaps with serviceNetwork 172.31.0.0/16",
        ),
    ],
)
def test_a_wrong_configuration_stops_everything(change: dict[str, object], message: str) -> None:
    hub = Hub()
    hub.create_cluster(**change)
    hub.run_for(60)
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "ValidConfiguration") == (
        "False",
        "InvalidConfiguration",
        message,
    )
    assert hub.find(NAMESPACE, "", PLACE) is None


def test_deletion_follows_the_operators_order() -> None:
    hub = Hub()
    hub.add_storage_class()
    hub.create_cluster()
    hub.run_for(400)
    capi = {"metadata": {"finalizers": ["cluster.cluster.x-k8s.io"]}}
    hub.change(CLUSTER, PLACE, "example-abcde", capi)
    hub.server.delete(HOSTED_CLUSTER, "clusters", "example")
    hub.run_for(30)
    assert hub.find(NODE_POOL, "clusters", "example") is None
    assert hub.find(MACHINE_SET, PLACE, "example") is None
    assert hub.find(SECRET, PLACE, "user-data-example-de65ed19") is None
    assert hub.find(HOSTED_CONTROL_PLANE, PLACE, "example") is not None, "the control plane outlives the CAPI Cluster"
    assert hub.find(ROLE, "agents", f"capi-provider-role-{PLACE}") is not None

    hub.change(CLUSTER, PLACE, "example-abcde", {"metadata": {"finalizers": None}})
    hub.run_for(30)
    assert hub.find(HOSTED_CONTROL_PLANE, PLACE, "example") is None
    assert hub.find(ROLE, "agents", f"capi-provider-role-{PLACE}") is None
    assert hub.hosted == {}
    assert hub.published == {}
    deployment = hub.find(DEPLOYMENT, PLACE, "cluster-api")
    assert deployment is None or "finalizers" not in deployment["metadata"]
    namespace = hub.find(NAMESPACE, "", PLACE)
    assert namespace is not None
    assert namespace["metadata"]["deletionTimestamp"]
    assert hub.find(HOSTED_CLUSTER, "clusters", "example") is not None, "it waits for its namespace"


def test_a_pause_reaches_the_control_plane_and_the_capi_cluster() -> None:
    hub = Hub()
    hub.add_storage_class()
    hub.create_cluster()
    hub.run_for(120)
    hub.change(HOSTED_CLUSTER, "clusters", "example", {"spec": {"pausedUntil": "true"}})
    hub.run_for(30)
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "ReconciliationActive") == (
        "False",
        "ReconciliationPaused",
        "Reconciliation paused until field removed",
    )
    assert dig(hub.find(CLUSTER, PLACE, "example-abcde"), "spec", "paused") is True
    hub.change(HOSTED_CLUSTER, "clusters", "example", {"spec": {"pausedUntil": None}})
    hub.run_for(30)
    assert not dig(hub.find(CLUSTER, PLACE, "example-abcde"), "spec", "paused", default=False)
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "ReconciliationActive")[0] == "True"


def _value(hub: Hub, namespace: str, name: str, key: str) -> str:
    secret = hub.find(SECRET, namespace, name)
    assert secret is not None, f"{namespace}/{name}"
    return base64.b64decode(secret["data"][key]).decode()


def test_names_of_pods_are_unique(running: Hub) -> None:
    names = [name_of(pod) for pod in running.server.list(POD, PLACE)[0]]
    assert len(names) == len(set(names)) > 40


def test_a_control_plane_without_api_server_pods_does_not_answer() -> None:
    hub = Hub()
    hub.add_storage_class()
    hub.create_cluster()
    hub.run_for(400)
    pod = hub.server.list(POD, PLACE, label_selector="app=kube-apiserver")[0][0]
    state = hub.hosted[OWNER]
    hub.server.delete(POD, PLACE, name_of(pod))
    hub.run_for(2)
    assert "kube-apiserver" not in {service for _, service in hub.published}
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "KubeAPIServerAvailable")[0] == "False"
    hub.run_for(60)
    assert "kube-apiserver" in {service for _, service in hub.published}
    assert hub.hosted[OWNER] is state, "the hosted cluster kept what it held"
    assert hub.available()


def test_on_a_hub_whose_own_controllers_make_pods_they_are_only_started() -> None:
    hub = Hub(settings=HyperShiftSettings(makes_pods=False))
    hub.create_cluster()
    hub.run_for(30)
    workload = hub.server.get(DEPLOYMENT, PLACE, "control-plane-operator")
    assert hub.server.list(POD, PLACE)[0] == []
    template = workload["spec"]["template"]
    pod = new(POD, PLACE, "made-by-others", spec=template["spec"])
    pod["metadata"]["labels"] = template["metadata"]["labels"]
    hub.server.create(pod, POD)
    hub.run_for(60)
    assert hub.server.get(POD, PLACE, "made-by-others")["status"]["phase"] == "Running"
    assert not dig(hub.server.get(DEPLOYMENT, PLACE, "control-plane-operator"), "status", "readyReplicas")
