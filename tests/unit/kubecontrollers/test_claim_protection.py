"""pvc-protection: a claim that is deleted waits for the scheduled pods that use it, and then goes."""

from __future__ import annotations

from capi_world import CapiWorld

from labsim.controllers.kube import KubeControllers
from labsim.controllers.kube.claims import FINALIZER
from labsim.model.kinds import PERSISTENT_VOLUME_CLAIM, POD
from labsim.model.objects import new

PLACE = "clusters"


def world_with_claim() -> CapiWorld:
    world = CapiWorld(components=[lambda entropy: KubeControllers()])
    claim = new(
        PERSISTENT_VOLUME_CLAIM,
        PLACE,
        "data-etcd-0",
        spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Gi"}}},
    )
    claim["metadata"]["finalizers"] = [FINALIZER, "somebody.else/holds"]
    world.hub.create(claim, PERSISTENT_VOLUME_CLAIM)
    return world


def finalizers(world: CapiWorld) -> list[str]:
    claim = world.find(PERSISTENT_VOLUME_CLAIM, PLACE, "data-etcd-0")
    assert claim is not None
    found: list[str] = claim["metadata"]["finalizers"]
    return found


def test_a_claim_that_nobody_uses_is_let_go_when_it_is_deleted() -> None:
    world = world_with_claim()
    world.run_for(1)
    assert finalizers(world) == [FINALIZER, "somebody.else/holds"]
    world.hub.delete(PERSISTENT_VOLUME_CLAIM, PLACE, "data-etcd-0")
    world.run_for(1)
    assert finalizers(world) == ["somebody.else/holds"]


def test_a_claim_waits_for_the_scheduled_pod_that_uses_it() -> None:
    world = world_with_claim()
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data-etcd-0"}}
    spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [volume], "nodeName": "node"}
    world.hub.create(new(POD, PLACE, "etcd-0", spec=spec), POD)
    world.run_for(1)
    world.hub.delete(PERSISTENT_VOLUME_CLAIM, PLACE, "data-etcd-0")
    world.run_for(5)
    assert FINALIZER in finalizers(world)
    world.hub.delete(POD, PLACE, "etcd-0", options={"gracePeriodSeconds": 0})
    world.run_for(1)
    assert FINALIZER not in finalizers(world)
