"""MachineDeployments and MachineHealthChecks as whole flows."""

from __future__ import annotations

from capi_world import INFRA_ID, MERGE, CapiWorld, ignition

from labsim.model.kinds import MACHINE, MACHINE_DEPLOYMENT, MACHINE_HEALTH_CHECK, MACHINE_SET, NODE
from labsim.model.objects import annotations_of, dig, labels_of, name_of, new, timestamp

OWNER = "clusters-example/example"


def deployed(agents: int, replicas: int) -> tuple[CapiWorld, str]:
    world = CapiWorld(install_s=120)
    namespace = world.control_plane()
    world.agents(agents)
    world.machine_deployment(namespace, replicas)
    world.run_until(world.running(namespace, replicas), 400)
    world.run_for(5)
    return world, namespace


def new_generation(world: CapiWorld, namespace: str) -> None:
    world.secret(namespace, "user-data-2", {"value": ignition("token-2")})
    body = {"spec": {"template": {"spec": {"bootstrap": {"dataSecretName": "user-data-2"}}}}}
    world.patch(MACHINE_DEPLOYMENT, namespace, "pool", body)


def test_a_deployment_makes_a_machine_set_with_its_name_and_a_suffix() -> None:
    world, namespace = deployed(1, 1)
    (machine_set,) = world.all(MACHINE_SET, namespace)
    assert name_of(machine_set).startswith("pool-")
    assert len(name_of(machine_set)) == len("pool-") + 5
    assert annotations_of(machine_set)["machinedeployment.clusters.x-k8s.io/revision"] == "1"
    (machine,) = world.all(MACHINE, namespace)
    assert labels_of(machine)["cluster.x-k8s.io/deployment-name"] == "pool"
    assert labels_of(machine)["machine-template-hash"] == labels_of(machine_set)["machine-template-hash"]
    found = world.find(MACHINE_DEPLOYMENT, namespace, "pool")
    assert found is not None
    assert found["status"]["phase"] == "Running"
    assert found["status"]["updatedReplicas"] == 1
    assert world.says(MACHINE_DEPLOYMENT, namespace, "pool", "Available")[0] == "True"


def test_without_a_spare_agent_a_rollout_waits_and_with_one_it_ends() -> None:
    world, namespace = deployed(2, 2)
    before = set(world.live_machines(namespace))
    new_generation(world, namespace)
    world.run_for(1800)
    assert before < set(world.live_machines(namespace)), "one more Machine, and no old one gone"
    assert len(world.all(MACHINE, namespace)) == 3
    world.agent("spare-1")
    world.run_for(400)
    assert len(before & set(world.live_machines(namespace))) == 1
    world.agent("spare-2")
    world.run_for(400)
    assert not before & set(world.live_machines(namespace))
    assert world.phases(namespace) == ["Running", "Running"]
    machines = world.all(MACHINE, namespace)
    assert {entry["spec"]["bootstrap"]["dataSecretName"] for entry in machines} == {"user-data-2"}
    assert world.engine.failures == []


def test_labels_and_timeouts_change_in_place() -> None:
    world, namespace = deployed(1, 1)
    (machine,) = world.live_machines(namespace)
    body = {
        "spec": {
            "template": {
                "metadata": {"labels": {"node.cluster.x-k8s.io/tier": "a"}},
                "spec": {"nodeDrainTimeout": "5m"},
            }
        }
    }
    world.patch(MACHINE_DEPLOYMENT, namespace, "pool", body)
    world.run_for(10)
    found = world.find(MACHINE, namespace, machine)
    assert found is not None
    assert found["spec"]["nodeDrainTimeout"] == "5m"
    node = world.find(NODE, "", dig(found, "status", "nodeRef", "name"), world.hosted[OWNER])
    assert node is not None
    assert labels_of(node)["node.cluster.x-k8s.io/tier"] == "a", "labels of this domain go on to the Node"
    assert world.live_machines(namespace) == [machine]


def test_scaling_a_deployment_down_and_deleting_it() -> None:
    world, namespace = deployed(2, 2)
    world.scale(namespace, 1, kind=MACHINE_DEPLOYMENT)
    world.run_for(60)
    assert len(world.live_machines(namespace)) == 1
    world.hub.delete(MACHINE_DEPLOYMENT, namespace, "pool")
    world.run_for(60)
    assert world.all(MACHINE, namespace) == []
    assert world.all(MACHINE_SET, namespace) == []
    assert world.find(MACHINE_DEPLOYMENT, namespace, "pool") is None


def health_check(world: CapiWorld, namespace: str, max_unhealthy: int = 2) -> None:
    spec = {
        "clusterName": INFRA_ID,
        "selector": {"matchLabels": {"pool": "pool"}},
        "maxUnhealthy": max_unhealthy,
        "nodeStartupTimeout": "20m",
        "unhealthyConditions": [
            {"type": "Ready", "status": "False", "timeout": "16m"},
            {"type": "Ready", "status": "Unknown", "timeout": "16m"},
        ],
    }
    world.hub.create(new(MACHINE_HEALTH_CHECK, namespace, "pool", spec=spec), MACHINE_HEALTH_CHECK)


def break_node(world: CapiWorld, machine: str, namespace: str) -> None:
    found = world.find(MACHINE, namespace, machine)
    unknown = {"type": "Ready", "status": "Unknown", "lastTransitionTime": timestamp(world.queue.now())}
    world.hosted[OWNER].patch(
        NODE,
        "",
        dig(found, "status", "nodeRef", "name"),
        {"status": {"conditions": [unknown]}},
        patch_type=MERGE,
        subresource="status",
    )


def test_a_node_that_is_lost_for_16_minutes_costs_its_machine() -> None:
    world, namespace = deployed(3, 2)
    health_check(world, namespace)
    victim = world.live_machines(namespace)[0]
    break_node(world, victim, namespace)
    world.run_for(15 * 60)
    assert victim in world.live_machines(namespace)
    assert world.says(MACHINE, namespace, victim, "NodeHealthy")[0] == "Unknown"
    world.run_for(120)
    assert victim not in world.live_machines(namespace)
    world.run_until(world.running(namespace, 2), 900)
    world.run_for(5)
    check = world.find(MACHINE_HEALTH_CHECK, namespace, "pool")
    assert check is not None
    assert (check["status"]["expectedMachines"], check["status"]["currentHealthy"]) == (2, 2)
    assert world.engine.failures == []


def test_a_machine_that_waits_20_minutes_for_an_agent_is_replaced() -> None:
    world, namespace = deployed(1, 1)
    health_check(world, namespace)
    world.scale(namespace, 2, kind=MACHINE_DEPLOYMENT)
    world.run_for(60)
    (waiting,) = (name_of(entry) for entry in world.all(MACHINE, namespace) if not dig(entry, "status", "nodeRef"))
    world.run_for(1100)
    assert waiting in world.live_machines(namespace)
    world.run_for(120)
    assert waiting not in world.live_machines(namespace)
    assert len(world.live_machines(namespace)) == 2


def test_more_sick_machines_than_allowed_are_left_alone() -> None:
    world, namespace = deployed(2, 2)
    health_check(world, namespace, max_unhealthy=1)
    for machine in world.live_machines(namespace):
        break_node(world, machine, namespace)
    before = world.live_machines(namespace)
    world.run_for(1800)
    assert world.live_machines(namespace) == before
    assert world.says(MACHINE_HEALTH_CHECK, namespace, "pool", "RemediationAllowed")[1] == "TooManyUnhealthy"
