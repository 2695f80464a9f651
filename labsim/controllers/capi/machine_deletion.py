"""How a Machine goes: hooks, drain, volumes, infrastructure, Node, finalizer, in this order."""

from __future__ import annotations

from labsim.controllers.capi import conditions, deleting
from labsim.controllers.capi.drain import drain, has_volumes
from labsim.controllers.capi.machine_node import NODE_HEALTHY, node_of
from labsim.controllers.capi.names import (
    DELETION_PASS_INTERVAL_S,
    DRAIN_RETRY_S,
    EXCLUDE_DRAINING_ANNOTATION,
    EXCLUDE_VOLUME_DETACH_ANNOTATION,
    MACHINE_FINALIZER,
    NODE_DELETION_POLL_LIMIT_S,
    NODE_DELETION_POLL_S,
    NODE_DELETION_TIMEOUT_S,
    PRE_DRAIN_HOOK_PREFIX,
    PRE_TERMINATE_HOOK_PREFIX,
)
from labsim.controllers.capi.nodes import NodeIndex
from labsim.controllers.capi.workload import UNREACHABLE_RETRY_S, kubeconfig_of
from labsim.controllers.runtime.effects import (
    DONE,
    Key,
    Note,
    Program,
    Result,
    Sleep,
    Unreachable,
    delete,
    get,
    now,
)
from labsim.kube.errors import ApiError
from labsim.model.durations import seconds
from labsim.model.kinds import AGENT_MACHINE, HOSTED_CONTROL_PLANE, NODE
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_of,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    parse_timestamp,
    timestamp,
)

DRAINING = "DrainingSucceeded"
VOLUME_DETACH = "VolumeDetachSucceeded"
PRE_DRAIN = "PreDrainDeleteHookSucceeded"
PRE_TERMINATE = "PreTerminateDeleteHookSucceeded"
WAITING_HOOK = "WaitingExternalHook"


class MachineDeletion:
    """The deletion of Machines, and when each of them may be looked at again."""

    def __init__(self, nodes: NodeIndex) -> None:
        self._nodes = nodes
        self._not_before: dict[Key, float] = {}

    def forget(self, key: Key) -> None:
        self._not_before.pop(key, None)

    def step(self, machine: Object, cluster: Object) -> Program[Result]:
        """One pass over a Machine that goes; the caller patches `machine`."""
        key = Key(namespace_of(machine), name_of(machine))
        moment = yield from now()
        wait_s = self._not_before.get(key, 0.0) - moment
        if wait_s > 0:
            return Result(wait_s)
        self._not_before[key] = moment + DELETION_PASS_INTERVAL_S
        result = yield from self._steps(machine, cluster)
        if result.requeue_after_s == DRAIN_RETRY_S:
            self._not_before[key] = moment + DRAIN_RETRY_S
        return result

    def _steps(self, machine: Object, cluster: Object) -> Program[Result]:
        with_node = yield from self._may_delete_node(machine, cluster)
        moment = yield from now()
        deleting.mark_deleting(machine, deleting.STARTED, "Deletion started", now_s=moment)
        if with_node:
            if _held_by_hook(machine, PRE_DRAIN_HOOK_PREFIX, PRE_DRAIN, moment):
                deleting.mark_held_by_hook(machine, "pre-drain", PRE_DRAIN_HOOK_PREFIX, now_s=moment)
                return DONE
            waiting = yield from self._empty_node(machine, cluster)
            if waiting is not None:
                return waiting
        if _held_by_hook(machine, PRE_TERMINATE_HOOK_PREFIX, PRE_TERMINATE, moment):
            deleting.mark_held_by_hook(machine, "pre-terminate", PRE_TERMINATE_HOOK_PREFIX, now_s=moment)
            return DONE
        name = machine["spec"]["infrastructureRef"]["name"]
        infrastructure = yield from get(AGENT_MACHINE, namespace_of(machine), name)
        if infrastructure is not None:
            if not is_deleting(infrastructure):
                yield from delete(AGENT_MACHINE, namespace_of(machine), name)
            waits = f"Waiting for {AGENT_MACHINE.kind} to be deleted"
            deleting.mark_deleting(machine, deleting.INFRASTRUCTURE_DELETION, waits, now_s=moment)
            return DONE  # its end wakes the Machine
        if with_node:
            yield from self._delete_node(machine, cluster)
        deleting.mark_deleting(machine, deleting.COMPLETED, "Deletion completed", now_s=moment)
        kept = [entry for entry in finalizers_of(machine) if entry != MACHINE_FINALIZER]
        if kept:
            machine["metadata"]["finalizers"] = kept
        else:
            machine["metadata"].pop("finalizers", None)
        return DONE

    def _may_delete_node(self, machine: Object, cluster: Object) -> Program[bool]:
        """The Node is left alone when everything goes, and where there is none."""
        if is_deleting(cluster):
            return False
        reference = dig(cluster, "spec", "controlPlaneRef")
        if reference:
            control_plane = yield from get(HOSTED_CONTROL_PLANE, namespace_of(cluster), reference["name"])
            if control_plane is None or is_deleting(control_plane):
                return False
        if dig(machine, "status", "nodeRef") is not None:
            return True
        if not dig(machine, "spec", "providerID"):
            return False
        try:
            kubeconfig = yield from kubeconfig_of(cluster)
            return (yield from node_of(machine, self._nodes, kubeconfig)) is not None
        except Unreachable:
            return False

    def _empty_node(self, machine: Object, cluster: Object) -> Program[Result | None]:
        """Drain the Node and wait for its volumes; None when that is over or not wanted."""
        try:
            kubeconfig = yield from kubeconfig_of(cluster)
            node = yield from node_of(machine, self._nodes, kubeconfig)
            if node is None:
                return None
            if not (yield from _drained(machine, name_of(node), kubeconfig)):
                return Result(DRAIN_RETRY_S)
            if not (yield from _volumes_detached(machine, name_of(node), kubeconfig)):
                return Result(DRAIN_RETRY_S)
        except Unreachable as refused:
            yield Note(f"Machine {name_of(machine)} waits: its workload cluster does not answer: {refused}")
            return Result(UNREACHABLE_RETRY_S)
        return None

    def _delete_node(self, machine: Object, cluster: Object) -> Program[None]:
        moment = yield from now()
        conditions.mark_false(machine, NODE_HEALTHY, "Deleting", conditions.INFO, now_s=moment)
        started = moment
        error: Exception | None = None
        while moment - started < NODE_DELETION_POLL_LIMIT_S:
            try:
                kubeconfig = yield from kubeconfig_of(cluster)
                node = yield from node_of(machine, self._nodes, kubeconfig)
                if node is not None:
                    yield from delete(NODE, "", name_of(node), at=kubeconfig)
                return
            except (ApiError, Unreachable) as refused:
                error = refused
            yield Sleep(NODE_DELETION_POLL_S)
            moment = yield from now()
        if _node_deletion_timed_out(machine, moment):
            yield Note(f"the Node of Machine {name_of(machine)} could not be deleted in time, and is left: {error}")
            return
        if error is not None:
            failed = "Error deleting Node, please check controller logs for errors"
            deleting.mark_deleting(machine, deleting.DELETING_NODE, failed, now_s=moment)
            raise error


def _held_by_hook(machine: Object, prefix: str, condition: str, moment: float) -> bool:
    """Whether an annotation still holds the Machine at this point; the condition says so either way."""
    if any(key.startswith(prefix) for key in annotations_of(machine)):
        conditions.mark_false(machine, condition, WAITING_HOOK, conditions.INFO, now_s=moment)
        return True
    conditions.mark_true(machine, condition, now_s=moment)
    return False


def _drained(machine: Object, node_name: str, kubeconfig: str) -> Program[bool]:
    moment = yield from now()
    if EXCLUDE_DRAINING_ANNOTATION in annotations_of(machine):
        return True
    progress = machine["status"].setdefault("deletion", {})
    started = progress.setdefault("nodeDrainStartTime", timestamp(moment))
    if _is_over(machine["spec"].get("nodeDrainTimeout"), started, moment):
        return True
    if condition_of(machine, DRAINING) is None:
        conditions.mark_false(
            machine, DRAINING, "Draining", conditions.INFO, "Draining the node before deletion", now_s=moment
        )
    try:
        waiting = yield from drain(node_name, kubeconfig, started)
    except ApiError as error:
        conditions.mark_false(machine, DRAINING, "DrainingFailed", conditions.WARNING, error.message, now_s=moment)
        failed = "Error draining Node, please check controller logs for errors"
        deleting.mark_deleting(machine, deleting.DRAINING_NODE, failed, now_s=moment)
        raise
    if waiting:
        conditions.mark_false(machine, DRAINING, "Draining", conditions.INFO, waiting, now_s=moment)
        deleting.mark_deleting(machine, deleting.DRAINING_NODE, waiting, now_s=moment)
        return False
    conditions.mark_true(machine, DRAINING, now_s=moment)
    return True


def _volumes_detached(machine: Object, node_name: str, kubeconfig: str) -> Program[bool]:
    moment = yield from now()
    if EXCLUDE_VOLUME_DETACH_ANNOTATION in annotations_of(machine):
        return True
    progress = machine["status"].setdefault("deletion", {})
    started = progress.setdefault("waitForNodeVolumeDetachStartTime", timestamp(moment))
    if _is_over(machine["spec"].get("nodeVolumeDetachTimeout"), started, moment):
        return True
    if (yield from has_volumes(node_name, kubeconfig)):
        message = "Waiting for node volumes to be detached"
        conditions.mark_false(machine, VOLUME_DETACH, "WaitingForVolumeDetach", conditions.INFO, message, now_s=moment)
        since = f"Waiting for Node volumes to be detached (started at {started})"
        deleting.mark_deleting(machine, deleting.VOLUME_DETACH, since, now_s=moment)
        return False
    conditions.mark_true(machine, VOLUME_DETACH, now_s=moment)
    return True


def _is_over(timeout: str | None, started: str, now_s: float) -> bool:
    """Whether a time-out has passed since `started`; none, or zero, waits for ever."""
    limit_s = seconds(timeout)
    return bool(limit_s) and limit_s is not None and limit_s > 0 and now_s - parse_timestamp(started) >= limit_s


def _node_deletion_timed_out(machine: Object, now_s: float) -> bool:
    limit_s = seconds(machine["spec"].get("nodeDeletionTimeout"))
    if limit_s is None:
        limit_s = NODE_DELETION_TIMEOUT_S
    if limit_s <= 0:
        return False
    return now_s - parse_timestamp(machine["metadata"]["deletionTimestamp"]) >= limit_s
