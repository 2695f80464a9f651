"""Places the pods of a hosted cluster's Deployments and StatefulSets on ready nodes, and counts what runs."""

from __future__ import annotations

from collections.abc import Sequence

from labsim.controllers.hypershift.desired import Condition, merged_conditions
from labsim.controllers.hypershift.guest_catalog import CLUSTER_WORKLOADS, NODE_WORKLOADS, ClusterWorkload
from labsim.controllers.hypershift.guest_daemon_sets import daemon_set_status
from labsim.controllers.hypershift.guest_state import WORKLOAD_LABEL, GuestState
from labsim.controllers.hypershift.names import hash_of
from labsim.controllers.runtime.effects import Program, create, delete, get, list_all, now, patch
from labsim.kube.errors import ApiError
from labsim.model.kinds import DAEMON_SET, DEPLOYMENT, POD, STATEFUL_SET, Kind
from labsim.model.objects import Object, dig, is_deleting, labels_of, name_of, namespace_of, new, owner_reference


def place_pods(owner: str, state: GuestState, at: str) -> Program[dict[str, int]]:
    """One pass over every workload; answers the pods that run, by workload."""
    nodes = state.ready_nodes(owner)
    running: dict[str, int] = {}
    for workload in CLUSTER_WORKLOADS:
        running[workload.name] = yield from _place(workload, nodes, at)
    yield from _count_daemon_sets(owner, state, at)
    return running


def _place(workload: ClusterWorkload, nodes: Sequence[str], at: str) -> Program[int]:
    obj = yield from get(workload.kind, workload.namespace, workload.name, at=at)
    if obj is None:
        return 0
    wanted = int(dig(obj, "spec", "replicas", default=1))
    found = yield from list_all(POD, workload.namespace, labels={WORKLOAD_LABEL: workload.name}, at=at)
    pods = [pod for pod in found if not is_deleting(pod)]
    for pod in pods[wanted:]:
        yield from delete(POD, workload.namespace, name_of(pod), at=at)
    pods = pods[:wanted]
    used = [str(dig(pod, "spec", "nodeName", default="")) for pod in pods]
    for pod in pods:
        if not dig(pod, "spec", "nodeName"):
            node = _choose(nodes, used, workload.spread)
            if node:
                used.append(node)
                yield from patch(POD, workload.namespace, name_of(pod), _bound(pod, node), at=at)
    names = {name_of(pod) for pod in pods}
    for number in range(wanted):
        if len(pods) >= wanted:
            break
        if workload.kind is STATEFUL_SET and f"{workload.name}-{number}" in names:
            continue
        node = _choose(nodes, used, workload.spread)
        try:
            pod = yield from create(_pod(obj, workload, number, node), POD, at=at)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            continue  # the pod of that name is still going away
        used.append(node)
        pods.append(pod)
    ready = sum(1 for pod in pods if dig(pod, "status", "phase") == "Running" and dig(pod, "spec", "nodeName") in nodes)
    yield from _write_status(obj, workload.kind, wanted, len(pods), ready, at)
    return ready


def _choose(nodes: Sequence[str], used: Sequence[str], spread: bool) -> str:
    """The node with the fewest of these pods; "" where none takes one."""
    counts = {node: used.count(node) for node in nodes}
    free = [node for node in nodes if not spread or counts[node] == 0]
    return min(free, key=lambda node: (counts[node], node), default="")


def _bound(pod: Object, node: str) -> Object:
    return {"metadata": {"resourceVersion": pod["metadata"]["resourceVersion"]}, "spec": {"nodeName": node}}


def _pod(obj: Object, workload: ClusterWorkload, number: int, node: str) -> Object:
    template = obj["spec"]["template"]
    spec = {**template["spec"], **({"nodeName": node} if node else {})}
    pod = new(POD, workload.namespace, f"{workload.name}-{number}", spec=spec, status={"phase": "Pending"})
    if workload.kind is DEPLOYMENT:
        del pod["metadata"]["name"]
        pod["metadata"]["generateName"] = f"{workload.name}-{hash_of(template)}-"
    pod["metadata"]["labels"] = dict(labels_of(template))
    pod["metadata"]["ownerReferences"] = [owner_reference(obj, controller=True)]
    return pod


def _write_status(obj: Object, kind: Kind, wanted: int, pods: int, ready: int, at: str) -> Program[None]:
    before: Object = dig(obj, "status", default={})
    status: Object = {
        "observedGeneration": obj["metadata"].get("generation", 1),
        "replicas": pods,
        "updatedReplicas": pods,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }
    if kind is DEPLOYMENT:
        status["unavailableReplicas"] = wanted - ready
        moment_s = yield from now()
        full = ready >= wanted
        reason = "MinimumReplicasAvailable" if full else "MinimumReplicasUnavailable"
        text = f"Deployment {'has' if full else 'does not have'} minimum availability."
        available = Condition("True" if full else "False", reason, text)
        status["conditions"] = merged_conditions(before.get("conditions") or [], {"Available": available}, moment_s)
    yield from _patch_changes(obj, kind, before, status, at)


def _count_daemon_sets(owner: str, state: GuestState, at: str) -> Program[None]:
    desired = len(state.nodes.get(owner, {}))
    for workload in NODE_WORKLOADS:
        obj = yield from get(DAEMON_SET, workload.namespace, workload.name, at=at)
        if obj is None:
            continue
        ready = len(state.running.get(owner, {}).get(workload.name, ()))
        status = daemon_set_status(obj, desired, ready)
        yield from _patch_changes(obj, DAEMON_SET, dig(obj, "status", default={}), status, at)


def _patch_changes(obj: Object, kind: Kind, before: Object, status: Object, at: str) -> Program[None]:
    changes = {key: value for key, value in status.items() if before.get(key) != value}
    if changes:
        yield from patch(kind, namespace_of(obj), name_of(obj), {"status": changes}, subresource="status", at=at)
