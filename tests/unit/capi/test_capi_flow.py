"""Whole flows with the engine in virtual time."""

from __future__ import annotations

from capi_world import AGENTS, INFRA_ID, CapiWorld

from labsim.model.kinds import (
    AGENT,
    AGENT_CLUSTER,
    AGENT_CLUSTER_INSTALL,
    AGENT_MACHINE,
    AGENT_MACHINE_TEMPLATE,
    CLUSTER,
    CLUSTER_DEPLOYMENT,
    MACHINE,
    MACHINE_SET,
    NODE,
)
from labsim.model.objects import annotations_of, dig, finalizers_of, labels_of, name_of

OWNER = "clusters-example/example"


def test_machines_get_agents_install_and_run() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    world.agents(2)
    world.machine_set(namespace, 2)
    world.run_until(lambda: len(world.claims) == 2, 30)
    world.run_for(1)
    assert world.phases(namespace) == ["Provisioning", "Provisioning"]
    world.run_until(world.running(namespace, 2), 700)
    world.run_for(5)
    machine = world.all(MACHINE, namespace)[0]
    agent = world.agent_of(namespace, name_of(machine))
    assert machine["spec"]["providerID"] == f"agent://{agent}"
    assert machine["status"]["nodeRef"]["name"] == f"host-{agent}"
    assert machine["status"]["addresses"] == [
        {"type": "ExternalIP", "address": "192.0.2.77"},
        {"type": "InternalDNS", "address": f"host-{agent}"},
    ]
    node = world.find(NODE, "", f"host-{agent}", world.hosted[OWNER])
    assert node is not None
    assert node["spec"]["providerID"] == f"agent://{agent}"
    assert annotations_of(node)["cluster.x-k8s.io/machine"] == name_of(machine)
    assert annotations_of(node)["cluster.x-k8s.io/owner-name"] == "pool"
    status = world.all(MACHINE_SET, namespace)[0]["status"]
    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"]) == (2, 2, 2)
    assert world.says(MACHINE_SET, namespace, "pool", "Ready")[0] == "True"
    assert world.says(MACHINE, namespace, name_of(machine), "Ready")[0] == "True"
    assert world.engine.failures == []


def test_the_control_plane_gets_its_cluster_deployment_and_install() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    world.run_for(30)
    agent_cluster = world.find(AGENT_CLUSTER, namespace, "example")
    assert agent_cluster is not None
    assert agent_cluster["status"]["ready"] is True
    assert finalizers_of(agent_cluster) == ["agentclustercapi-provider.agent-install.openshift.io/deprovision"]
    deployment = world.find(CLUSTER_DEPLOYMENT, namespace, "example")
    assert deployment is not None
    cluster = world.find(CLUSTER, namespace, INFRA_ID)
    assert cluster is not None
    assert deployment["spec"]["installed"] is True
    assert deployment["spec"]["clusterMetadata"]["infraID"] == cluster["metadata"]["uid"]
    assert labels_of(deployment)["agentClusterRef"] == "example"
    install = world.find(AGENT_CLUSTER_INSTALL, namespace, "example")
    assert install is not None
    assert install["spec"]["ignitionEndpoint"]["url"] == "https://192.0.2.1:31000"
    assert install["spec"]["provisionRequirements"]["controlPlaneAgents"] == 3
    assert cluster["status"]["phase"] == "Provisioned"
    assert cluster["spec"]["controlPlaneEndpoint"] == {"host": "192.0.2.1", "port": 30000}
    assert world.says(CLUSTER, namespace, INFRA_ID, "ControlPlaneInitialized")[0] == "True"


def test_scale_down_gives_the_agent_back_and_leaves_the_survivor_alone() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    world.agents(2)
    world.machine_set(namespace, 2)
    world.run_until(world.running(namespace, 2), 900)
    world.run_for(60)
    victim, survivor = (name_of(machine) for machine in world.all(MACHINE, namespace))
    gone, kept = world.agent_of(namespace, victim), world.agent_of(namespace, survivor)
    before = world.find(AGENT, AGENTS, kept)
    world.scale(namespace, 1)
    world.run_until(lambda: world.find(MACHINE, namespace, victim) is None, 120)
    world.run_for(5)
    released = world.find(AGENT, AGENTS, gone)
    assert released is not None
    assert dig(released, "status", "debugInfo", "state") == "unbinding-pending-user-action"
    assert "agentMachineRef" not in labels_of(released)
    assert "agentMachineRefNamespace" not in annotations_of(released)
    for field in ("clusterDeploymentName", "machineConfigPool", "ignitionEndpointTokenReference"):
        assert field not in released["spec"]
    assert world.find(AGENT, AGENTS, kept) == before
    assert world.live_machines(namespace) == [survivor]
    assert world.find(AGENT_MACHINE, namespace, victim) is None
    assert world.find(NODE, "", f"host-{gone}", world.hosted[OWNER]) is None
    assert world.find(NODE, "", f"host-{kept}", world.hosted[OWNER]) is not None
    assert world.engine.failures == []


def test_a_settled_world_stops_writing() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    world.agents(2)
    world.machine_set(namespace, 3)
    world.run_for(1500)
    assert world.phases(namespace) == ["Provisioning", "Running", "Running"]
    revision = world.hub.revision
    world.run_for(3600)
    assert world.hub.revision == revision


def test_one_more_agent_is_taken_by_the_machine_that_waits() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    world.agents(1)
    world.machine_set(namespace, 3)
    world.run_for(900)
    waiting = [
        name_of(machine)
        for machine in world.all(AGENT_MACHINE, namespace)
        if dig(machine, "status", "agentRef") is None
    ]
    assert len(waiting) == 2
    assert world.says(AGENT_MACHINE, namespace, waiting[0], "Ready") == (
        "False",
        "NoSuitableAgents",
        "Warning",
        "0 of 5 completed",
    )
    world.agent("late-1")
    world.run_for(1)
    assert world.find(AGENT, AGENTS, "late-1")["metadata"]["labels"]["agentMachineRef"] in waiting  # type: ignore[index]
    world.agent("late-2", approved=False)
    world.run_for(1)
    assert "agentMachineRef" not in labels_of(world.find(AGENT, AGENTS, "late-2") or {})
    world.patch(AGENT, AGENTS, "late-2", {"spec": {"approved": True}})
    world.run_for(1)
    assert "agentMachineRef" in labels_of(world.find(AGENT, AGENTS, "late-2") or {})


def test_a_deleted_cluster_goes_without_drain_and_gives_its_agents_back() -> None:
    world = CapiWorld()
    namespace = world.control_plane()
    world.agents(2)
    world.machine_set(namespace, 2)
    world.run_until(world.running(namespace, 2), 900)
    world.hub.delete(CLUSTER, namespace, INFRA_ID)
    world.run_until(lambda: world.find(CLUSTER, namespace, INFRA_ID) is None, 180)
    world.run_for(10)
    assert world.all(MACHINE, namespace) == []
    assert world.all(MACHINE_SET, namespace) == []
    assert world.find(AGENT_CLUSTER, namespace, "example") is None
    assert world.find(CLUSTER_DEPLOYMENT, namespace, "example") is None, "collected with its owner"
    assert world.all(AGENT_MACHINE_TEMPLATE, namespace) == [], "so is the template"
    states = [dig(agent, "status", "debugInfo", "state") for agent in world.all(AGENT, AGENTS)]
    assert states == ["unbinding-pending-user-action"] * 2
    assert len(world.all(NODE, server=world.hosted[OWNER])) == 2, "Nodes are left when everything goes"
    assert world.engine.failures == []
