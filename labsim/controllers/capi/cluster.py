"""The Cluster controller: takes over infrastructure and control plane, and deletes everything in order."""

from __future__ import annotations

from labsim.controllers.capi import conditions
from labsim.controllers.capi.names import CLUSTER_DELETION_POLL_S, CLUSTER_FINALIZER, CLUSTER_NAME_LABEL
from labsim.controllers.capi.owners import controller_of, is_owned_by, is_paused, own
from labsim.controllers.capi.patching import patch_changes
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    ReconcileError,
    Result,
    Watch,
    delete,
    get,
    list_all,
    now,
    own_key,
)
from labsim.kube.errors import ApiError
from labsim.model.kinds import (
    AGENT_CLUSTER,
    CLUSTER,
    HOSTED_CONTROL_PLANE,
    MACHINE,
    MACHINE_DEPLOYMENT,
    MACHINE_SET,
    Kind,
)
from labsim.model.objects import (
    Object,
    condition_of,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    owner_named,
    thaw,
    uid_of,
)

INFRASTRUCTURE_READY = "InfrastructureReady"
CONTROL_PLANE_READY = "ControlPlaneReady"
CONTROL_PLANE_INITIALIZED = "ControlPlaneInitialized"
_MISSING_POLL_S = 30.0


def _owning_cluster(obj: Object) -> list[Key]:
    owner = owner_named(obj, "Cluster")
    return [] if owner is None else [Key(namespace_of(obj), owner["name"])]


def controller() -> Controller:
    return Controller(
        "cluster",
        reconcile,
        (
            Watch(CLUSTER, own_key),
            Watch(AGENT_CLUSTER, _owning_cluster),
            Watch(HOSTED_CONTROL_PLANE, _owning_cluster, when=_control_plane_changed),
            Watch(MACHINE_DEPLOYMENT, None),
            Watch(MACHINE_SET, None),
            Watch(MACHINE, None),
        ),
        workers=10,
    )


def _control_plane_changed(before: Object | None, after: Object | None) -> bool:
    return _of_control_plane(before) != _of_control_plane(after)


def _of_control_plane(control_plane: Object | None) -> tuple[object, ...]:
    if control_plane is None:
        return ()
    status = control_plane.get("status") or {}
    return (
        status.get("ready"),
        status.get("initialized"),
        is_deleting(control_plane),
        control_plane["metadata"].get("ownerReferences"),
    )


def reconcile(key: Key) -> Program[Result]:
    stored = yield from get(CLUSTER, key.namespace, key.name)
    if stored is None or is_paused(stored, stored):
        return DONE
    cluster = thaw(stored)
    result, error = DONE, None
    try:
        result = yield from (_delete(cluster) if is_deleting(cluster) else _steps(cluster))
    except (ApiError, ReconcileError) as raised:
        error = raised
    moment = yield from now()
    _sum_up(cluster, moment)
    yield from patch_changes(CLUSTER, stored, cluster)
    if error is not None:
        raise error
    return result


def _steps(cluster: Object) -> Program[Result]:
    if CLUSTER_FINALIZER not in finalizers_of(cluster):
        cluster["metadata"].setdefault("finalizers", []).append(CLUSTER_FINALIZER)
    waits = [(yield from _infrastructure(cluster)), (yield from _control_plane(cluster))]
    delays = [wait.requeue_after_s for wait in waits if wait.requeue_after_s is not None]
    return Result(min(delays)) if delays else DONE


def _infrastructure(cluster: Object) -> Program[Result]:
    status = cluster.setdefault("status", {})
    status.setdefault("infrastructureReady", False)
    reference = dig(cluster, "spec", "infrastructureRef")
    if not reference:
        status["infrastructureReady"] = True
        return DONE
    infrastructure = yield from get(AGENT_CLUSTER, namespace_of(cluster), reference["name"])
    if infrastructure is None:
        return Result(_MISSING_POLL_S)
    infrastructure = yield from _take_over(AGENT_CLUSTER, infrastructure, cluster)
    ready = bool(dig(infrastructure, "status", "ready"))
    moment = yield from now()
    conditions.mirror(
        cluster,
        INFRASTRUCTURE_READY,
        infrastructure,
        ready=ready,
        fallback_reason="WaitingForInfrastructure",
        now_s=moment,
    )
    if not ready:
        return DONE
    status["infrastructureReady"] = True
    endpoint = dig(infrastructure, "spec", "controlPlaneEndpoint", default={})
    if not dig(cluster, "spec", "controlPlaneEndpoint", "host") and endpoint.get("host"):
        cluster["spec"]["controlPlaneEndpoint"] = {"host": endpoint["host"], "port": endpoint["port"]}
    return DONE


def _control_plane(cluster: Object) -> Program[Result]:
    status = cluster["status"]
    status.setdefault("controlPlaneReady", False)
    reference = dig(cluster, "spec", "controlPlaneRef")
    if not reference:
        return DONE
    control_plane = yield from get(HOSTED_CONTROL_PLANE, namespace_of(cluster), reference["name"])
    if control_plane is None:
        return Result(_MISSING_POLL_S)
    control_plane = yield from _take_over(HOSTED_CONTROL_PLANE, control_plane, cluster)
    moment = yield from now()
    ready = bool(dig(control_plane, "status", "ready"))
    status["controlPlaneReady"] = ready
    conditions.mirror(
        cluster,
        CONTROL_PLANE_READY,
        control_plane,
        ready=ready,
        fallback_reason="WaitingForControlPlane",
        now_s=moment,
    )
    if dig(control_plane, "status", "initialized"):
        conditions.mark_true(cluster, CONTROL_PLANE_INITIALIZED, now_s=moment)
    elif condition_of(cluster, CONTROL_PLANE_INITIALIZED) is None:
        message = "Waiting for control plane provider to indicate the control plane has been initialized"
        conditions.mark_false(
            cluster,
            CONTROL_PLANE_INITIALIZED,
            "WaitingForControlPlaneProviderInitialized",
            conditions.INFO,
            message,
            now_s=moment,
        )
    return DONE


def _take_over(kind: Kind, obj: Object, cluster: Object) -> Program[Object]:
    """The Cluster becomes the controller of what it refers to."""
    if is_deleting(obj):
        return obj
    present = controller_of(obj)
    if present is not None and present["uid"] != uid_of(cluster):
        raise ReconcileError(f"{kind.kind} {name_of(obj)} is already owned by another {present['kind']} controller")
    taken = thaw(obj)
    own(taken, cluster, controller=True)
    taken["metadata"].setdefault("labels", {})[CLUSTER_NAME_LABEL] = name_of(cluster)
    return (yield from patch_changes(kind, obj, taken))


def _delete(cluster: Object) -> Program[Result]:
    """Children first, then the control plane, then the infrastructure, then the Cluster itself."""
    children = yield from _children(cluster)
    for kind, child in children:
        # A child that somebody else owns is deleted by its owner; here it is only waited for.
        if is_owned_by(child, cluster) and not is_deleting(child):
            yield from delete(kind, namespace_of(child), name_of(child))
    if children:
        return Result(CLUSTER_DELETION_POLL_S)
    for kind, field in ((HOSTED_CONTROL_PLANE, "controlPlaneRef"), (AGENT_CLUSTER, "infrastructureRef")):
        reference = dig(cluster, "spec", field)
        if not reference:
            continue
        found = yield from get(kind, namespace_of(cluster), reference["name"])
        if found is not None:
            if not is_deleting(found):
                yield from delete(kind, namespace_of(cluster), reference["name"])
            return DONE  # its end wakes the Cluster
    kept = [entry for entry in finalizers_of(cluster) if entry != CLUSTER_FINALIZER]
    cluster["metadata"]["finalizers"] = kept
    return DONE


def _children(cluster: Object) -> Program[list[tuple[Kind, Object]]]:
    """Every MachineDeployment, MachineSet and Machine of the Cluster."""
    found: list[tuple[Kind, Object]] = []
    labels = {CLUSTER_NAME_LABEL: name_of(cluster)}
    for kind in (MACHINE_DEPLOYMENT, MACHINE_SET, MACHINE):
        children = yield from list_all(kind, namespace_of(cluster), labels=labels)
        found += [(kind, child) for child in children]
    return found


def _sum_up(cluster: Object, moment: float) -> None:
    conditions.summarize(cluster, (CONTROL_PLANE_READY, INFRASTRUCTURE_READY), now_s=moment)
    status = cluster.setdefault("status", {})
    status["phase"] = phase_of(cluster)
    status["observedGeneration"] = cluster["metadata"].get("generation", 0)


def phase_of(cluster: Object) -> str:
    """The phase that a person sees; later rules overrule earlier ones."""
    phase = "Pending"
    if dig(cluster, "spec", "infrastructureRef") or dig(cluster, "spec", "controlPlaneRef"):
        phase = "Provisioning"
    endpoint = dig(cluster, "spec", "controlPlaneEndpoint", default={})
    if dig(cluster, "status", "infrastructureReady") and endpoint.get("host") and endpoint.get("port"):
        phase = "Provisioned"
    if dig(cluster, "status", "failureReason"):
        phase = "Failed"
    return "Deleting" if is_deleting(cluster) else phase
