"""AgentMachines: claims, conditions, the deletion hook, pauses; with Cluster API around them."""

from __future__ import annotations

import base64

import pytest
from capi_world import AGENTS, CapiWorld, encoded, ignition

from labsim.controllers.agent_provider.names import AGENT_MACHINE_FINALIZER, DELETION_HOOK
from labsim.model.kinds import (
    AGENT,
    AGENT_CLUSTER,
    AGENT_MACHINE,
    AGENT_MACHINE_TEMPLATE,
    CLUSTER_DEPLOYMENT,
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
    MACHINE,
    MACHINE_SET,
    NODE,
    SECRET,
)
from labsim.model.objects import annotations_of, dig, finalizers_of, labels_of, name_of


def one_claim(world: CapiWorld) -> tuple[str, str, str]:
    """A control plane with one Machine whose Agent is claimed: namespace, Machine, Agent."""
    namespace = world.control_plane()
    world.agents(1)
    world.machine_set(namespace, 1)
    world.run_until(lambda: len(world.claims) == 1, 30)
    world.run_for(0.03)
    machine = name_of(world.all(MACHINE, namespace)[0])
    return namespace, machine, world.claims[0][0]


def test_a_claim_writes_everything_with_one_put() -> None:
    world = CapiWorld()
    namespace, machine, agent_name = one_claim(world)
    agent = world.find(AGENT, AGENTS, agent_name)
    assert agent is not None
    assert labels_of(agent)["agentMachineRef"] == machine
    assert annotations_of(agent)["agentMachineRefNamespace"] == namespace
    spec = agent["spec"]
    assert spec["clusterDeploymentName"] == {"name": "example", "namespace": namespace}
    assert spec["machineConfigPool"] == "ignition"
    assert spec["ignitionEndpointTokenReference"] == {"namespace": namespace, "name": "agent-user-data-1"}
    assert spec["ignitionEndpointHTTPHeaders"] == {"NodePool": "clusters/example", "TargetConfigVersionHash": "abc"}
    token = world.find(SECRET, namespace, "agent-user-data-1")
    assert token is not None
    assert base64.b64decode(token["data"]["ignition-token"]) == b"token-1"
    assert labels_of(token)["agent-install.openshift.io/watch"] == "true"
    agent_machine = world.find(AGENT_MACHINE, namespace, machine)
    assert agent_machine is not None
    assert agent_machine["spec"]["providerID"] == f"agent://{agent_name}"
    assert finalizers_of(agent_machine) == [AGENT_MACHINE_FINALIZER]
    assert annotations_of(agent_machine)["hypershift.openshift.io/nodePool"] == "clusters/pool"
    references = agent_machine["metadata"]["ownerReferences"]
    assert [(entry["kind"], entry["controller"]) for entry in references] == [("Machine", True)]
    assert DELETION_HOOK in annotations_of(world.find(MACHINE, namespace, machine) or {"metadata": {}})


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("binding", ("False", "Binding", "Error", "2 of 5 completed")),
        ("insufficient", ("False", "ValidationsFailing", "Error", "2 of 5 completed")),
        ("installing", ("False", "InstallationNotStarted", "Info", "4 of 5 completed")),
        ("error", ("False", "InstallationFailed", "Error", "4 of 5 completed")),
        ("added-to-existing-cluster", ("True", "", "", "")),
    ],
)
def test_ready_follows_the_agent(state: str, expected: tuple[str, str, str, str]) -> None:
    world = CapiWorld()
    namespace, machine, agent_name = one_claim(world)
    world.cim_sleeps = True
    world.agent_state(agent_name, state)
    world.run_for(1)
    assert world.says(AGENT_MACHINE, namespace, machine, "Ready") == expected
    agent_machine = world.find(AGENT_MACHINE, namespace, machine)
    # The real manager's types leave out a false one.
    assert dig(agent_machine, "status", "ready") is (True if state == "added-to-existing-cluster" else None)


def test_a_ready_agent_machine_does_not_look_at_its_agent_again() -> None:
    world = CapiWorld(install_s=100)
    namespace, machine, agent_name = one_claim(world)
    world.run_until(world.running(namespace, 1), 300)
    world.agent_state(agent_name, "insufficient")
    world.run_for(30)
    assert world.says(AGENT_MACHINE, namespace, machine, "Ready")[0] == "True"


def test_without_a_running_manager_nothing_is_touched() -> None:
    world = CapiWorld()
    namespace = world.control_plane(manager_runs=False)
    world.agents(1)
    world.machine_set(namespace, 1)
    world.run_for(60)
    agent_cluster = world.find(AGENT_CLUSTER, namespace, "example")
    assert agent_cluster is not None
    assert finalizers_of(agent_cluster) == []
    assert world.claims == []
    world.manager(namespace, runs=True)
    world.run_for(10)
    assert len(world.claims) == 1, "a manager that starts looks at what is there"


def test_the_manager_that_stops_leaves_new_machines_waiting() -> None:
    world = CapiWorld()
    namespace, _, _ = one_claim(world)
    world.manager(namespace, runs=False)
    world.run_for(1)
    world.agent("second")
    world.scale(namespace, 2)
    world.run_for(60)
    assert len(world.claims) == 1
    world.hub.delete(DEPLOYMENT, namespace, "capi-provider")
    world.run_for(60)
    assert len(world.claims) == 1


def test_the_agent_namespace_is_the_flags() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    deployment = world.find(DEPLOYMENT, namespace, "capi-provider")
    assert deployment is not None
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    body = {"spec": {"template": {"spec": {"containers": [{**container, "args": ["--agent-namespace", "elsewhere"]}]}}}}
    world.patch(DEPLOYMENT, namespace, "capi-provider", body)
    world.agents(1)
    world.machine_set(namespace, 1)
    world.run_for(30)
    assert world.claims == []


def test_an_agent_with_the_label_is_adopted_as_it_is() -> None:
    world = CapiWorld()
    namespace, machine, agent_name = one_claim(world)
    # A restore loses the AgentMachine's status, and the Agent keeps its label.
    world.patch(AGENT_MACHINE, namespace, machine, {"status": None}, "status")
    world.agent("other")
    world.run_for(5)
    assert world.agent_of(namespace, machine) == agent_name


def test_the_label_selector_is_respected() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    selector = {"matchLabels": {"zone": "a"}, "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}
    world.patch(
        AGENT_MACHINE_TEMPLATE, namespace, "workers", {"spec": {"template": {"spec": {"agentLabelSelector": selector}}}}
    )
    world.agent("wrong-zone", labels={"zone": "b"})
    world.agent("old-one", labels={"zone": "a", "old": "yes"})
    world.agent("right", labels={"zone": "a"})
    world.machine_set(namespace, 2)
    world.run_for(30)
    assert [agent for agent, _ in world.claims] == ["right"]


@pytest.mark.parametrize("state", ["unbinding", "reclaiming", "reclaiming-rebooting", "installing"])
def test_a_machine_is_held_until_its_agent_is_free(state: str) -> None:
    world = CapiWorld()
    namespace, machine, agent_name = one_claim(world)
    world.cim_sleeps = True
    world.agent_state(agent_name, state)
    world.run_for(1)
    world.scale(namespace, 0)
    world.run_for(120)
    found = world.find(MACHINE, namespace, machine)
    assert found is not None
    assert DELETION_HOOK in annotations_of(found)
    assert world.says(MACHINE, namespace, machine, "PreTerminateDeleteHookSucceeded")[:2] == (
        "False",
        "WaitingExternalHook",
    )
    agent = world.find(AGENT, AGENTS, agent_name)
    assert "clusterDeploymentName" not in (agent or {})["spec"], "the Agent is given back at once, then polled"
    world.agent_state(agent_name, "unbinding-pending-user-action")
    world.run_for(7)
    assert world.find(MACHINE, namespace, machine) is None
    assert world.find(AGENT_MACHINE, namespace, machine) is None


def test_an_agent_that_another_claimed_between_two_polls_is_left_to_it() -> None:
    """Found by two-hosted-clusters-one-pool with seed 2: the hook unbound an Agent from its new cluster."""
    world = CapiWorld()
    namespace, machine, agent_name = one_claim(world)
    world.cim_sleeps = True
    world.agent_state(agent_name, "added-to-existing-cluster")
    world.run_for(10)
    world.scale(namespace, 0)
    world.run_for(2)
    world.agent_state(agent_name, "reclaiming")
    world.run_for(20)
    assert world.find(MACHINE, namespace, machine) is not None
    metadata = {"labels": {"agentMachineRef": "other"}, "annotations": {"agentMachineRefNamespace": "elsewhere"}}
    wanted = {"clusterDeploymentName": {"name": "other", "namespace": "elsewhere"}}
    world.patch(AGENT, AGENTS, agent_name, {"metadata": metadata, "spec": wanted})
    world.agent_state(agent_name, "known-unbound")
    world.run_for(20)
    agent = world.find(AGENT, AGENTS, agent_name) or {}
    assert dig(agent, "spec", "clusterDeploymentName", "name") == "other"
    assert dig(agent, "metadata", "labels", "agentMachineRef") == "other"
    assert world.find(MACHINE, namespace, machine) is None


def test_an_agent_in_error_lets_the_machine_go_at_once() -> None:
    world = CapiWorld()
    namespace, machine, agent_name = one_claim(world)
    world.cim_sleeps = True
    world.agent_state(agent_name, "error")
    world.run_for(1)
    world.scale(namespace, 0)
    world.run_for(4)
    assert world.find(MACHINE, namespace, machine) is None


def test_a_machine_without_agent_goes_at_once_and_one_whose_agent_is_gone_too() -> None:
    world = CapiWorld()
    namespace, _, agent_name = one_claim(world)
    world.scale(namespace, 2)
    world.run_for(5)
    world.hub.delete(AGENT, AGENTS, agent_name)
    world.run_for(1)
    world.scale(namespace, 0)
    world.run_for(10)
    assert world.all(MACHINE, namespace) == []
    assert world.all(AGENT_MACHINE, namespace) == []


def test_a_paused_agent_machine_is_not_unbound() -> None:
    world = CapiWorld()
    namespace, machine, agent_name = one_claim(world)
    world.patch(AGENT_MACHINE, namespace, machine, {"metadata": {"annotations": {"cluster.x-k8s.io/paused": "true"}}})
    world.run_for(1)
    world.hub.delete(MACHINE, namespace, machine)
    world.run_for(60)
    assert "agentMachineRef" in labels_of(world.find(AGENT, AGENTS, agent_name) or {})
    assert world.find(MACHINE, namespace, machine) is not None, "its hook is left alone while its AgentMachine lives"


def test_agent_machines_that_are_deleted_first_wait_for_their_machines() -> None:
    """A NodePool's deletion deletes AgentMachines before Machines: only the finalizer keeps the order."""
    world = CapiWorld(install_s=100)
    namespace, machine, agent_name = one_claim(world)
    world.run_until(world.running(namespace, 1), 300)
    world.hub.delete(AGENT_MACHINE, namespace, machine)
    world.run_for(30)
    assert world.find(AGENT_MACHINE, namespace, machine) is not None
    assert "agentMachineRef" in labels_of(world.find(AGENT, AGENTS, agent_name) or {})
    world.hub.delete(MACHINE_SET, namespace, "pool")
    world.run_for(60)
    assert world.find(MACHINE, namespace, machine) is None
    assert world.find(AGENT_MACHINE, namespace, machine) is None
    assert dig(world.find(AGENT, AGENTS, agent_name), "status", "debugInfo", "state") == "unbinding-pending-user-action"


def test_a_node_with_another_provider_id_is_left_alone() -> None:
    world = CapiWorld(install_s=100)
    namespace, machine, agent_name = one_claim(world)
    server = world.hosted["clusters-example/example"]
    world.node(server, f"host-{agent_name}")
    body = {"spec": {"providerID": "agent://another"}}
    server.patch(NODE, "", f"host-{agent_name}", body, patch_type="application/merge-patch+json")
    world.run_for(300)
    node = server.get(NODE, "", f"host-{agent_name}")
    assert node["spec"]["providerID"] == "agent://another"
    assert world.says(MACHINE, namespace, machine, "NodeHealthy")[1] == "NodeProvisioning"
    assert world.phases(namespace) == ["Provisioned"]


def test_a_new_token_reaches_agents_that_are_not_ready() -> None:
    world = CapiWorld()
    namespace, _, agent_name = one_claim(world)
    secret = {"data": {"value": encoded(ignition("token-2"))}}
    world.patch(SECRET, namespace, "user-data-1", secret)
    world.agent_state(agent_name, "insufficient")
    world.run_for(5)
    token = world.find(SECRET, namespace, "agent-user-data-1")
    assert base64.b64decode((token or {})["data"]["ignition-token"]) == b"token-2"


def test_an_agent_machine_that_came_too_early_is_tried_again() -> None:
    """Upstream's hazard H5 (nothing wakes it when its AgentCluster gets a ClusterDeployment) is not copied."""
    world = CapiWorld()
    namespace = world.control_plane()
    incomplete = {"status": {"kubeConfig": None}}
    world.patch(HOSTED_CONTROL_PLANE, namespace, "example", incomplete, "status")
    world.agents(1)
    world.machine_set(namespace, 1)
    world.run_for(30)
    machine = name_of(world.all(AGENT_MACHINE, namespace)[0])
    assert world.says(AGENT_MACHINE, namespace, machine, "AgentReserved") == (
        "False",
        "AgentNotYetFound",
        "Info",
        "no cluster deployment reference on agentCluster example",
    )
    complete = {"status": {"kubeConfig": {"name": "admin-kubeconfig", "key": "kubeconfig"}}}
    world.patch(HOSTED_CONTROL_PLANE, namespace, "example", complete, "status")
    world.run_for(60)
    assert dig(world.find(AGENT_CLUSTER, namespace, "example"), "status", "ready") is True
    assert len(world.claims) == 1
    # As the real manager writes it: its types have no way to leave this out.
    cluster_deployment = world.find(CLUSTER_DEPLOYMENT, namespace, "example")
    assert dig(cluster_deployment, "spec", "controlPlaneConfig") == {"servingCertificates": {}}
