"""How a Machine goes: hooks, drain, volumes, an unreachable cluster; which Machine goes at all; pauses."""

from __future__ import annotations

from typing import Any

from capi_world import AGENTS, INFRA_ID, MERGE, CapiWorld

from labsim.model.kinds import AGENT, CLUSTER, DAEMON_SET, MACHINE, NAMESPACE, NODE, POD
from labsim.model.objects import dig, is_deleting, labels_of, name_of, new, timestamp

OWNER = "clusters-example/example"


def running(count: int, **template_spec: Any) -> tuple[CapiWorld, str]:
    world = CapiWorld(install_s=120)
    namespace = world.control_plane()
    world.agents(count)
    world.machine_set(namespace, count, **template_spec)
    world.run_until(world.running(namespace, count), 400)
    world.run_for(5)
    return world, namespace


def pod_on(world: CapiWorld, node: str, name: str = "web", *, daemon: bool = False) -> None:
    server = world.hosted[OWNER]
    if world.find(NAMESPACE, "", "apps", server) is None:
        server.create(new(NAMESPACE, None, "apps"), NAMESPACE)
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": 0}
    made = new(POD, "apps", name, spec=spec)
    made["metadata"]["finalizers"] = ["tests/held"]
    if daemon:
        selector = {"matchLabels": {"app": name}}
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        owner = server.create(
            new(DAEMON_SET, "apps", name, spec={"selector": selector, "template": template}), DAEMON_SET
        )
        made["metadata"]["ownerReferences"] = [
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "name": name,
                "uid": owner["metadata"]["uid"],
                "controller": True,
            }
        ]
    server.create(made, POD)


def let_pod_go(world: CapiWorld, name: str = "web") -> None:
    world.hosted[OWNER].patch(POD, "apps", name, {"metadata": {"finalizers": None}}, patch_type=MERGE)


def only(world: CapiWorld, namespace: str) -> tuple[str, str]:
    """The one Machine and its Node's name."""
    machine = world.all(MACHINE, namespace)[0]
    return name_of(machine), machine["status"]["nodeRef"]["name"]


def test_a_pod_that_stays_holds_the_machine_and_its_agent() -> None:
    world, namespace = running(1)
    machine, node = only(world, namespace)
    pod_on(world, node)
    pod_on(world, node, "agentd", daemon=True)
    world.scale(namespace, 0)
    world.run_for(300)
    status, reason, severity, message = world.says(MACHINE, namespace, machine, "DrainingSucceeded")
    assert (status, reason, severity) == ("False", "Draining", "Info")
    assert "Pod apps/web: deletionTimestamp set, but still not removed from the Node" in message
    assert "agentd" not in message
    found = world.find(NODE, "", node, world.hosted[OWNER])
    assert found is not None
    assert found["spec"]["unschedulable"] is True
    claimed = [agent for agent in world.all(AGENT, AGENTS) if "agentMachineRef" in labels_of(agent)]
    assert len(claimed) == 1, "nothing is given back before the drain is over"
    assert world.phases(namespace) == ["Deleting"]
    let_pod_go(world)
    world.run_for(60)
    assert world.all(MACHINE, namespace) == []


def test_the_drain_is_retried_every_20_seconds() -> None:
    world, namespace = running(1)
    _, node = only(world, namespace)
    pod_on(world, node)
    world.scale(namespace, 0)
    world.run_for(2)
    let_pod_go(world)
    world.run_for(15)
    agent = world.all(AGENT, AGENTS)[0]
    assert "agentMachineRef" in labels_of(agent)
    world.run_for(6)
    assert "agentMachineRef" not in labels_of(world.all(AGENT, AGENTS)[0])


def test_a_drain_time_out_ends_the_drain() -> None:
    world, namespace = running(1, nodeDrainTimeout="1m")
    _, node = only(world, namespace)
    pod_on(world, node)
    world.scale(namespace, 0)
    world.run_for(50)
    assert len(world.all(MACHINE, namespace)) == 1
    world.run_for(60)
    assert world.all(MACHINE, namespace) == []


def test_the_exclusion_annotation_skips_the_drain() -> None:
    world, namespace = running(1)
    machine, node = only(world, namespace)
    pod_on(world, node)
    annotation = {"machine.cluster.x-k8s.io/exclude-node-draining": ""}
    world.patch(MACHINE, namespace, machine, {"metadata": {"annotations": annotation}})
    world.scale(namespace, 0)
    world.run_for(30)
    assert world.all(MACHINE, namespace) == []


def test_an_unreachable_node_does_not_hold_pods_that_nobody_will_end() -> None:
    world, namespace = running(1)
    _, node = only(world, namespace)
    pod_on(world, node)
    unknown = {"type": "Ready", "status": "Unknown", "lastTransitionTime": timestamp(world.queue.now())}
    world.hosted[OWNER].patch(
        NODE, "", node, {"status": {"conditions": [unknown]}}, patch_type=MERGE, subresource="status"
    )
    world.scale(namespace, 0)
    world.run_for(60)
    assert world.all(MACHINE, namespace) == []


def test_attached_volumes_are_waited_for() -> None:
    world, namespace = running(1)
    machine, node = only(world, namespace)
    attached = {"status": {"volumesAttached": [{"name": "v", "devicePath": "/dev/x"}]}}
    world.hosted[OWNER].patch(NODE, "", node, attached, patch_type=MERGE, subresource="status")
    world.scale(namespace, 0)
    world.run_for(60)
    assert world.says(MACHINE, namespace, machine, "VolumeDetachSucceeded")[1] == "WaitingForVolumeDetach"
    detached: Any = {"status": {"volumesAttached": None}}
    world.hosted[OWNER].patch(NODE, "", node, detached, patch_type=MERGE, subresource="status")
    world.run_for(60)
    assert world.all(MACHINE, namespace) == []


def test_a_cluster_that_does_not_answer_holds_the_machine() -> None:
    world, namespace = running(1)
    world.unreachable.add(OWNER)
    world.scale(namespace, 0)
    world.run_for(600)
    assert world.phases(namespace) == ["Deleting"]
    world.unreachable.clear()
    world.run_for(120)
    assert world.all(MACHINE, namespace) == []


def test_hooks_hold_a_machine_at_their_point() -> None:
    world, namespace = running(1)
    machine, node = only(world, namespace)
    hooks = {
        "pre-drain.delete.hook.machine.cluster.x-k8s.io/mine": "",
        "pre-terminate.delete.hook.machine.cluster.x-k8s.io/mine": "",
    }
    world.patch(MACHINE, namespace, machine, {"metadata": {"annotations": hooks}})
    world.scale(namespace, 0)
    world.run_for(60)
    assert world.says(MACHINE, namespace, machine, "PreDrainDeleteHookSucceeded")[1] == "WaitingExternalHook"
    assert not dig(world.find(NODE, "", node, world.hosted[OWNER]), "spec", "unschedulable")
    first, second = hooks
    world.patch(MACHINE, namespace, machine, {"metadata": {"annotations": {first: None}}})
    world.run_for(60)
    assert world.says(MACHINE, namespace, machine, "PreDrainDeleteHookSucceeded")[0] == "True"
    assert world.says(MACHINE, namespace, machine, "PreTerminateDeleteHookSucceeded")[1] == "WaitingExternalHook"
    assert dig(world.find(NODE, "", node, world.hosted[OWNER]), "spec", "unschedulable") is True
    world.patch(MACHINE, namespace, machine, {"metadata": {"annotations": {second: None}}})
    world.run_for(10)
    assert world.all(MACHINE, namespace) == []


def test_machines_without_a_node_go_first_and_the_annotation_before_them() -> None:
    world, namespace = running(2)
    world.scale(namespace, 3)
    world.run_for(30)
    waiting = next(name_of(entry) for entry in world.all(MACHINE, namespace) if not dig(entry, "status", "nodeRef"))
    world.scale(namespace, 2)
    world.run_for(30)
    assert waiting not in world.live_machines(namespace)
    last = world.live_machines(namespace)[-1]
    annotation = {"cluster.x-k8s.io/delete-machine": ""}
    world.patch(MACHINE, namespace, last, {"metadata": {"annotations": annotation}})
    world.run_for(1)  # the watch has told the MachineSet's controller
    world.scale(namespace, 1)
    world.run_for(60)
    assert last not in world.live_machines(namespace)
    assert len(world.live_machines(namespace)) == 1


def test_machines_that_are_being_deleted_still_count() -> None:
    world, namespace = running(2)
    machine, node = only(world, namespace)
    pod_on(world, node)
    world.scale(namespace, 1)
    world.run_for(30)
    world.scale(namespace, 2)
    world.run_for(60)
    machines = world.all(MACHINE, namespace)
    assert len(machines) == 2, "no new Machine while one is stuck in its deletion"
    assert [name_of(entry) for entry in machines if is_deleting(entry)] == [machine]
    let_pod_go(world)
    world.run_for(60)
    assert len(world.live_machines(namespace)) == 2


def test_a_paused_cluster_does_nothing() -> None:
    world, namespace = running(1)
    world.patch(CLUSTER, namespace, INFRA_ID, {"spec": {"paused": True}})
    world.run_for(1)
    world.scale(namespace, 2)
    world.hub.delete(MACHINE, namespace, only(world, namespace)[0])
    world.run_for(120)
    assert len(world.all(MACHINE, namespace)) == 1
    world.patch(CLUSTER, namespace, INFRA_ID, {"spec": {"paused": False}})
    world.run_for(120)
    assert len(world.live_machines(namespace)) == 2
