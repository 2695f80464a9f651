"""Emptying a Node before its Machine goes: cordon, evict, wait for volumes."""

from __future__ import annotations

from labsim.controllers.capi.nodes import is_unreachable
from labsim.controllers.capi.owners import controller_of
from labsim.controllers.runtime.effects import Program, delete, get, list_all, now, patch
from labsim.model.kinds import NODE, POD
from labsim.model.objects import Object, annotations_of, is_deleting, name_of, namespace_of, parse_timestamp

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
UNREACHABLE_GRACE_S = 1


def drain(node_name: str, kubeconfig: str, started: str) -> Program[str]:
    """One attempt; "" when the Node is empty, else what it still waits for, as the Machine's condition says it."""
    node = yield from get(NODE, "", node_name, at=kubeconfig)
    if node is None:
        return ""
    if not node.get("spec", {}).get("unschedulable"):
        yield from patch(NODE, "", node_name, {"spec": {"unschedulable": True}}, at=kubeconfig)
    unreachable = is_unreachable(node)
    moment = yield from now()
    pods = yield from list_all(POD, fields=f"spec.nodeName={node_name}", at=kubeconfig)
    waiting = [pod for pod in pods if _has_to_go(pod, unreachable, moment)]
    if not waiting:
        return ""
    for pod in waiting:
        if not is_deleting(pod):
            options = {"gracePeriodSeconds": UNREACHABLE_GRACE_S} if unreachable else None
            yield from delete(POD, namespace_of(pod), name_of(pod), options=options, at=kubeconfig)
    names = [f"{namespace_of(pod)}/{name_of(pod)}" for pod in waiting]
    shown = ", ".join(names[:3]) + (f", ... ({len(names) - 3} more)" if len(names) > 3 else "")
    noun = "Pod" if len(names) == 1 else "Pods"
    return (
        f"Drain not completed yet (started at {started}):\n"
        f"* {noun} {shown}: deletionTimestamp set, but still not removed from the Node"
    )


def _has_to_go(pod: Object, unreachable: bool, now_s: float) -> bool:
    owner = controller_of(pod)
    if owner is not None and owner["kind"] == "DaemonSet":
        return False
    if MIRROR_ANNOTATION in annotations_of(pod):
        return False
    if unreachable and is_deleting(pod):
        # Nobody will confirm the end of these Pods.
        return now_s - parse_timestamp(pod["metadata"]["deletionTimestamp"]) <= UNREACHABLE_GRACE_S
    return True


def has_volumes(node_name: str, kubeconfig: str) -> Program[bool]:
    """Whether volumes are still attached to a Node that could report their end."""
    node = yield from get(NODE, "", node_name, at=kubeconfig)
    if node is None or is_unreachable(node):
        return False
    return bool((node.get("status") or {}).get("volumesAttached"))
