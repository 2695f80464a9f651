"""Garbage collection: absent owners, several owners, foreground and orphan deletion, hosted clusters."""

from __future__ import annotations

from typing import Any

from capi_world import CapiWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.controllers.kube import KubeControllers
from labsim.model.kinds import CONFIG_MAP, DAEMON_SET, INFRA_ENV, NAMESPACE, NODE, POD, SECRET, Kind
from labsim.model.objects import Object, name_of, new, owner_reference

PLACE = "clusters"


def gc_world() -> CapiWorld:
    return CapiWorld(components=[lambda entropy: KubeControllers()])


def make(world: CapiWorld, name: str, *owners: Object, kind: Kind = CONFIG_MAP, block: bool = False) -> Object:
    made = new(kind, PLACE, name)
    if owners:
        made["metadata"]["ownerReferences"] = [owner_reference(owner, block=block) for owner in owners]
    return world.hub.create(made, kind)


def names(world: CapiWorld, kind: Kind = CONFIG_MAP) -> list[str]:
    return [name_of(obj) for obj in world.all(kind, PLACE)]


def delete(world: CapiWorld, name: str, policy: str = "Background", kind: Kind = CONFIG_MAP) -> None:
    world.hub.delete(kind, PLACE, name, options={"propagationPolicy": policy})


def test_dependents_go_with_their_owner_through_several_levels() -> None:
    world = gc_world()
    root = make(world, "root")
    child = make(world, "child", root)
    make(world, "grandchild", child, kind=SECRET)
    make(world, "bystander")
    world.run_for(1)
    delete(world, "root")
    world.run_for(2)
    assert names(world) == ["bystander"]
    assert names(world, SECRET) == []


def test_another_owner_keeps_a_dependent_and_the_dead_reference_goes() -> None:
    world = gc_world()
    one, two = make(world, "one"), make(world, "two")
    make(world, "child", one, two)
    world.run_for(1)
    delete(world, "one")
    world.run_for(2)
    child = world.find(CONFIG_MAP, PLACE, "child")
    assert child is not None
    assert [reference["name"] for reference in child["metadata"]["ownerReferences"]] == ["two"]
    delete(world, "two")
    world.run_for(2)
    assert names(world) == []


def test_an_owner_that_never_was_is_found_by_its_uid() -> None:
    world = gc_world()
    root = make(world, "root")
    stranger = {**root, "metadata": {**root["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}}
    make(world, "child", stranger)
    world.run_for(2)
    assert names(world) == ["root"], "the same name is not the same owner"


def test_an_owner_of_an_unknown_kind_keeps_its_dependents() -> None:
    world = gc_world()
    root = make(world, "root")
    make(world, "child", {**root, "apiVersion": "example.com/v1", "kind": "Thing"})
    world.run_for(30)
    assert names(world) == ["child", "root"]
    assert world.engine.failures == []


def test_foreground_deletion_waits_for_blocking_dependents() -> None:
    world = gc_world()
    root = make(world, "root")
    child = make(world, "child", root, block=True)
    world.patch(CONFIG_MAP, PLACE, "child", {"metadata": {"finalizers": ["tests/held"]}})
    make(world, "loose", root)
    world.run_for(1)
    delete(world, "root", "Foreground")
    world.run_for(5)
    assert names(world) == ["child", "loose", "root"]
    held = world.find(CONFIG_MAP, PLACE, "child")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["uid"] == child["metadata"]["uid"]
    world.patch(CONFIG_MAP, PLACE, "child", {"metadata": {"finalizers": None}})
    world.run_for(5)
    assert names(world) == []


def test_foreground_deletion_without_dependents_ends_at_once() -> None:
    world = gc_world()
    make(world, "root")
    world.run_for(1)
    delete(world, "root", "Foreground")
    world.run_for(2)
    assert names(world) == []


def test_orphans_stay_without_their_owner() -> None:
    world = gc_world()
    root = make(world, "root")
    make(world, "child", root)
    world.run_for(1)
    delete(world, "root", "Orphan")
    world.run_for(2)
    assert names(world) == ["child"]
    assert "ownerReferences" not in world.all(CONFIG_MAP, PLACE)[0]["metadata"]


def test_what_was_there_before_the_collector_is_collected_too() -> None:
    world = CapiWorld(components=[])
    root = make(world, "root")
    make(world, "child", root)
    delete(world, "root")
    world.engine.add(KubeControllers())
    world.run_for(2)
    assert names(world) == []


def test_in_a_hosted_cluster_a_daemon_set_goes_with_its_node() -> None:
    world = CapiWorld()
    world.control_plane()
    server = world.hosted["clusters-example/example"]
    server.create(new(NAMESPACE, None, "assisted-installer"), NAMESPACE)
    world.node(server, "host-1")
    node = server.get(NODE, "", "host-1")
    labels = {"app": "reclaim"}
    spec: Any = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    }
    daemon = new(DAEMON_SET, "assisted-installer", "reclaim", spec=spec)
    daemon["metadata"]["ownerReferences"] = [owner_reference(node)]
    stored = server.create(daemon, DAEMON_SET)
    pod = new(POD, "assisted-installer", "reclaim-x", spec={"containers": [{"name": "c", "image": "x"}]})
    pod["metadata"]["ownerReferences"] = [owner_reference(stored, controller=True)]
    server.create(pod, POD)
    world.run_for(5)
    assert len(world.all(POD, "assisted-installer", server)) == 1
    server.delete(NODE, "", "host-1")
    world.run_for(5)
    assert world.all(DAEMON_SET, "assisted-installer", server) == []
    assert world.all(POD, "assisted-installer", server) == []


def test_a_namespace_is_emptied_and_goes() -> None:
    world = gc_world()
    make(world, "one")
    make(world, "held")
    world.patch(CONFIG_MAP, PLACE, "held", {"metadata": {"finalizers": ["tests/held"]}})
    make(world, "env", kind=SECRET)
    world.hub.create(new(INFRA_ENV, PLACE, "lab", spec={"pullSecretRef": {"name": "x"}}), INFRA_ENV)
    world.run_for(1)
    world.hub.delete(NAMESPACE, "", PLACE)
    world.run_for(5)
    assert names(world) == ["held"]
    assert world.all(INFRA_ENV, PLACE) == []
    namespace = world.find(NAMESPACE, "", PLACE)
    assert namespace is not None
    assert namespace["status"]["phase"] == "Terminating"
    message = world.says(NAMESPACE, "", PLACE, "NamespaceFinalizersRemaining")[3]
    assert message == "Some content in the namespace has finalizers remaining: tests/held in 1 resource instances"
    world.patch(CONFIG_MAP, PLACE, "held", {"metadata": {"finalizers": None}})
    world.run_for(20)
    assert world.find(NAMESPACE, "", PLACE) is None
    assert world.engine.failures == []


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), max_size=4),
    st.integers(0, 1000),
)
def test_what_is_left_is_what_still_has_an_owner(owners_of: list[list[int]], deleted: list[int], seed: int) -> None:
    """Against a naive fixed point: an object stays unless it was deleted or has lost every owner that it had."""
    world = CapiWorld(seed, components=[lambda entropy: KubeControllers()])
    made: list[Object] = []
    parents: list[set[int]] = []
    for number, wanted in enumerate(owners_of):
        chosen = {owner for owner in wanted if owner < number}
        parents.append(chosen)
        made.append(make(world, f"o{number}", *(made[owner] for owner in sorted(chosen))))
    world.run_for(1)
    gone = {number for number in deleted if number < len(made)}
    for number in sorted(gone):
        delete(world, f"o{number}")
    while True:
        lost = {number for number, owners in enumerate(parents) if owners and owners <= gone} - gone
        if not lost:
            break
        gone |= lost
    world.run_for(10)
    assert names(world) == [f"o{number}" for number in range(len(made)) if number not in gone]
