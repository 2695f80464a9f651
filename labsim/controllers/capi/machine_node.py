"""The Node of a Machine: found by provider id, referred to, labelled, and its health copied."""

from __future__ import annotations

from typing import Any

from labsim.controllers.capi import conditions
from labsim.controllers.capi.names import (
    NODE_CLUSTER_NAME_ANNOTATION,
    NODE_CLUSTER_NAMESPACE_ANNOTATION,
    NODE_LABELS_ANNOTATION,
    NODE_MACHINE_ANNOTATION,
    NODE_OWNER_KIND_ANNOTATION,
    NODE_OWNER_NAME_ANNOTATION,
    NODE_UNINITIALIZED_TAINT,
)
from labsim.controllers.capi.nodes import NodeIndex, health_of
from labsim.controllers.capi.owners import controller_of
from labsim.controllers.capi.workload import kubeconfig_of, node_with_provider_id
from labsim.controllers.runtime.effects import Program, ReconcileError, get, now, patch
from labsim.model.kinds import NODE
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_of,
    dig,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)

NODE_HEALTHY = "NodeHealthy"
_ROLE_PREFIX = "node-role.kubernetes.io/"
_MANAGED_DOMAINS = ("node-restriction.kubernetes.io", "node.cluster.x-k8s.io")


def reconcile_node(machine: Object, cluster: Object, index: NodeIndex) -> Program[None]:
    """Refer to the Node and mirror its health; raises Unreachable while the workload cluster does not answer."""
    provider_id = dig(machine, "spec", "providerID")
    moment = yield from now()
    if not provider_id:
        conditions.mark_false(machine, NODE_HEALTHY, "WaitingForNodeRef", conditions.INFO, now_s=moment)
        return
    kubeconfig = yield from kubeconfig_of(cluster)
    node = yield from node_with_provider_id(index, namespace_of(machine), provider_id, kubeconfig)
    if node is None:
        _node_missing(machine, moment)
        return
    if dig(machine, "status", "nodeRef") is None:
        machine["status"]["nodeRef"] = {
            "apiVersion": "v1",
            "kind": "Node",
            "name": name_of(node),
            "uid": uid_of(node),
        }
    machine["status"]["nodeInfo"] = dig(node, "status", "nodeInfo", default={})
    if not is_deleting(machine):
        yield from _mark_node(node, machine, kubeconfig)
    if is_deleting(machine) and _is_leaving(machine):
        return
    status, message = health_of(node)
    if status == "True":
        conditions.mark_true(machine, NODE_HEALTHY, now_s=moment)
    elif status == "False":
        conditions.mark_false(machine, NODE_HEALTHY, "NodeConditionsFailed", conditions.WARNING, message, now_s=moment)
    else:
        conditions.mark_unknown(machine, NODE_HEALTHY, "NodeConditionsFailed", message, now_s=moment)


def _is_leaving(machine: Object) -> bool:
    """The Machine's deletion has come as far as its Node, whose health nobody reports any more."""
    found = condition_of(machine, NODE_HEALTHY)
    return found is not None and found.get("reason") == "Deleting"


def _node_missing(machine: Object, moment: float) -> None:
    if is_deleting(machine):
        return
    if dig(machine, "status", "nodeRef") is not None:
        conditions.mark_false(machine, NODE_HEALTHY, "NodeNotFound", conditions.ERROR, now_s=moment)
        raise ReconcileError(
            f'no matching Node for Machine "{name_of(machine)}" in namespace "{namespace_of(machine)}": '
            "cannot find node with matching ProviderID"
        )
    message = "Waiting for a node with matching ProviderID to exist"
    conditions.mark_false(machine, NODE_HEALTHY, "NodeProvisioning", conditions.WARNING, message, now_s=moment)


def _mark_node(node: Object, machine: Object, kubeconfig: str) -> Program[None]:
    """Write the Machine's coordinates, and the labels that Cluster API manages, on the Node."""
    wanted = {
        NODE_CLUSTER_NAME_ANNOTATION: machine["spec"]["clusterName"],
        NODE_CLUSTER_NAMESPACE_ANNOTATION: namespace_of(machine),
        NODE_MACHINE_ANNOTATION: name_of(machine),
    }
    owner = controller_of(machine)
    if owner is not None:
        wanted[NODE_OWNER_KIND_ANNOTATION] = owner["kind"]
        wanted[NODE_OWNER_NAME_ANNOTATION] = owner["name"]
    labels: dict[str, Any] = {key: value for key, value in labels_of(machine).items() if is_node_label(key)}
    wanted[NODE_LABELS_ANNOTATION] = ",".join(sorted(labels))
    before, present = annotations_of(node), labels_of(node)
    former = [key for key in before.get(NODE_LABELS_ANNOTATION, "").split(",") if key]
    annotations = {**before, **wanted}
    changes: dict[str, Any] = {key: None for key in former if key in present and key not in labels}
    changes.update({key: value for key, value in labels.items() if present.get(key) != value})
    taints = dig(node, "spec", "taints", default=[])
    remaining = [taint for taint in taints if taint["key"] != NODE_UNINITIALIZED_TAINT]
    if annotations == before and not changes and remaining == taints:
        return
    body: Object = {"metadata": {"annotations": annotations, "labels": changes}}
    if remaining != taints:
        body["spec"] = {"taints": remaining}
    yield from patch(NODE, "", name_of(node), body, at=kubeconfig)


def is_node_label(key: str) -> bool:
    """Whether a label of a Machine is carried to its Node."""
    if key.startswith(_ROLE_PREFIX):
        return True
    domain = key.partition("/")[0] if "/" in key else ""
    return any(domain == managed or domain.endswith(f".{managed}") for managed in _MANAGED_DOMAINS)


def node_of(machine: Object, index: NodeIndex, kubeconfig: str) -> Program[Object | None]:
    """The Node that a Machine refers to, or else carries its provider id."""
    reference = dig(machine, "status", "nodeRef", "name")
    if reference:
        return (yield from get(NODE, "", reference, at=kubeconfig))
    provider_id = dig(machine, "spec", "providerID")
    if not provider_id:
        return None
    return (yield from node_with_provider_id(index, namespace_of(machine), provider_id, kubeconfig))
