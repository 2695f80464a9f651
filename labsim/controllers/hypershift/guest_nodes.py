"""Each Node of a hosted cluster: labels of its NodePool, DaemonSet pods, taints, and lost heartbeats."""

from __future__ import annotations

from labsim.controllers.hypershift.csr import addresses_changed
from labsim.controllers.hypershift.desired import Condition, merged_conditions
from labsim.controllers.hypershift.guest_catalog import NODE_WORKLOADS, NodeWorkload
from labsim.controllers.hypershift.guest_operators import next_look_in_s
from labsim.controllers.hypershift.guest_state import MACHINE_ANNOTATION, GuestState
from labsim.controllers.hypershift.names import NODE_POOL_ANNOTATION, NODE_POOL_LABEL, PREFIX, key_from, key_text
from labsim.controllers.hypershift.observed import Observed, admin_kubeconfig
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Enqueue,
    Key,
    Program,
    Result,
    Watch,
    delete,
    get,
    list_all,
    now,
    patch,
)
from labsim.controllers.runtime.effects import create as create_object
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import DAEMON_SET, LEASE, MACHINE, NODE, NODE_POOL, POD
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_of,
    dig,
    labels_of,
    name_of,
    namespace_of,
    new,
    owner_named,
    owner_reference,
    parse_timestamp,
    timestamp,
    uid_of,
)

_WORKER = "node-role.kubernetes.io/worker"
_SYNCED = f"{PREFIX}labelsSynced"
_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_STOPPED = "Kubelet stopped posting node status."


class GuestNodes:
    """The loops over Nodes of all hosted clusters."""

    def __init__(self, settings: HyperShiftSettings, entropy: Entropy, observed: Observed, state: GuestState) -> None:
        self._settings = settings
        self._entropy = entropy
        self._observed = observed
        self._state = state
        self._made: set[tuple[str, str, str]] = set()  # owner, namespace and name of DaemonSet pods that were made
        self._evicted: dict[tuple[str, str], float] = {}  # owner and node to the time since which it was lost

    def controllers(self) -> tuple[Controller, ...]:
        nodes = Controller(
            name="guest-nodes",
            reconcile=self.reconcile,
            watches=(
                Watch(NODE, _node_keys, hosted=True, when=self._note),
                Watch(POD, _node_of_pod, hosted=True, when=self._is_lost_node_pod),
                Watch(DAEMON_SET, None, hosted=True),
                Watch(MACHINE, None, sieve=addresses_changed),
                Watch(NODE_POOL, None),
            ),
            workers=16,
        )
        heartbeats = Controller(name="node-lifecycle", reconcile=self.check_heartbeats, watches=())
        return nodes, heartbeats

    def _note(self, before: Object | None, after: Object | None, owner: str) -> bool:
        return self._state.note_node(before, after, owner)

    def _is_lost_node_pod(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """Whether a pod of a DaemonSet is gone from a node that is there: it needs another."""
        if after is not None or before is None or owner_named(before, DAEMON_SET.kind) is None:
            return False
        self._made.discard((owner, namespace_of(before), name_of(before)))
        return dig(before, "spec", "nodeName") in self._state.nodes.get(owner, {})

    def reconcile(self, key: Key) -> Program[Result]:
        """Bring one Node up to date; clear away what a Node that is gone leaves."""
        plane = key_from(key.namespace)
        moment_s = yield from now()
        after_s = next_look_in_s(key.namespace, moment_s, self._observed, self._state)
        yield Enqueue("guest-operators", plane, after_s)
        at = yield from admin_kubeconfig(self._observed, plane)
        if at is None:
            return DONE
        node = yield from get(NODE, "", key.name, at=at)
        if node is None:
            self._observed.heard_s.get(key.namespace, {}).pop(key.name, None)
            yield from self._collect_pods(key.name, at)
            return DONE
        self._observed.heard_s.setdefault(key.namespace, {}).setdefault(key.name, moment_s)
        yield Enqueue("node-lifecycle", plane, self._settings.node_grace_s)
        yield from self._configure(node, at)
        for namespace, name in sorted(self._state.daemon_sets.get(key.namespace, ())):
            yield Enqueue("guest-daemon-sets", Key(key.namespace, f"{namespace}/{name}"))
        for workload in NODE_WORKLOADS:
            yield from self._ensure_pod(node, workload, key.namespace, at)
        return DONE

    def _collect_pods(self, name: str, at: str) -> Program[None]:
        """Pods of a Node that is gone go too."""
        for pod in (yield from list_all(POD, fields=f"spec.nodeName={name}", at=at)):
            yield from delete(POD, namespace_of(pod), name_of(pod), options={"gracePeriodSeconds": 0}, at=at)

    def _configure(self, node: Object, at: str) -> Program[None]:
        """Role label, the NodePool's label, labels and taints once, and the taints of the Ready condition."""
        labels: dict[str, str] = {}
        annotations: dict[str, str] = {}
        taints = [
            entry for entry in dig(node, "spec", "taints", default=()) if entry.get("key") not in _CONDITION_TAINTS
        ]
        if _WORKER not in labels_of(node):
            labels[_WORKER] = ""
        if NODE_POOL_LABEL not in labels_of(node) and MACHINE_ANNOTATION in annotations_of(node):
            pool = yield from self._pool_of(node)
            if pool is not None:
                labels[NODE_POOL_LABEL] = name_of(pool)
                if annotations_of(node).get(_SYNCED) != "true":
                    labels.update(dig(pool, "spec", "nodeLabels", default={}))
                    taints += dig(pool, "spec", "taints", default=[])
                    annotations[_SYNCED] = "true"
        taints += yield from _condition_taints(node)
        body: Object = {}
        if labels or annotations:
            body["metadata"] = {"labels": labels, "annotations": annotations}
        if not _same_taints(taints, dig(node, "spec", "taints", default=[])):
            body["spec"] = {"taints": taints or None}
        if body:
            body.setdefault("metadata", {})["resourceVersion"] = node["metadata"]["resourceVersion"]
            yield from patch(NODE, "", name_of(node), body, at=at)

    def _pool_of(self, node: Object) -> Program[Object | None]:
        """The NodePool of a Node, by the Machine that CAPI wrote on it."""
        marks = annotations_of(node)
        place = marks.get("cluster.x-k8s.io/cluster-namespace", "")
        machine = yield from get(MACHINE, place, marks[MACHINE_ANNOTATION])
        text = annotations_of(machine).get(NODE_POOL_ANNOTATION, "") if machine is not None else ""
        if not text:
            return None
        key = key_from(text)
        return (yield from get(NODE_POOL, key.namespace, key.name))

    def _ensure_pod(self, node: Object, workload: NodeWorkload, owner: str, at: str) -> Program[None]:
        suffix = self._entropy.text(f"pod/{owner}/{workload.name}/{uid_of(node)}")
        name = f"{workload.name}-{suffix}"
        place = (owner, workload.namespace, name)
        if place in self._made or (yield from get(POD, workload.namespace, name, at=at)) is not None:
            return
        daemon_set = yield from get(DAEMON_SET, workload.namespace, workload.name, at=at)
        if daemon_set is None:
            return
        template = daemon_set["spec"]["template"]
        spec = {**template["spec"], "nodeName": name_of(node)}
        pod = new(POD, workload.namespace, name, spec=spec, status={"phase": "Pending"})
        pod["metadata"]["labels"] = dict(labels_of(template))
        pod["metadata"]["ownerReferences"] = [owner_reference(daemon_set, controller=True)]
        self._made.add(place)  # the watch may deliver it after the next event of the node
        try:
            yield from create_object(pod, POD, at=at)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                self._made.discard(place)
                raise

    def check_heartbeats(self, key: Key) -> Program[Result]:
        """Say Unknown about every Node whose Lease nobody renewed for the grace period; ask again when one may end.

        Upstream's loop follows the Leases. Nothing but this check looks at them, so it reads them when it is due.
        """
        owner = key_text(key)
        nodes = self._state.nodes.get(owner, {})
        at = yield from admin_kubeconfig(self._observed, key)
        if at is None or not nodes:
            return DONE
        moment_s = yield from now()
        heard = self._observed.heard_s.setdefault(owner, {})
        for lease in (yield from list_all(LEASE, "kube-node-lease", at=at)):
            renewed = dig(lease, "spec", "renewTime")
            if renewed and name_of(lease) in nodes:  # a Lease may be that of a Node of the same name before
                heard[name_of(lease)] = max(heard.get(name_of(lease), 0.0), parse_timestamp(renewed))
        next_s: float | None = None
        for name in sorted(nodes):
            lost_s = heard.setdefault(name, moment_s) + self._settings.node_grace_s
            due_s = lost_s
            if nodes[name].ready == "Unknown":
                due_s = lost_s + self._settings.node_eviction_s
                if due_s <= moment_s:
                    yield from self._evict(owner, name, lost_s, at)
                    continue
            elif lost_s <= moment_s:
                yield from self._lost(name, moment_s, at)
                due_s = lost_s + self._settings.node_eviction_s
            next_s = due_s if next_s is None else min(next_s, due_s)
        return Result(None if next_s is None else max(1.0, next_s - moment_s + 0.1))

    def _evict(self, owner: str, name: str, lost_s: float, at: str) -> Program[None]:
        """Pods that tolerate a lost node for five minutes only are deleted, once for each time the node is lost."""
        if self._evicted.get((owner, name)) == lost_s:
            return
        self._evicted[owner, name] = lost_s
        for pod in (yield from list_all(POD, fields=f"spec.nodeName={name}", at=at)):
            if owner_named(pod, DAEMON_SET.kind) is None:
                yield from delete(POD, namespace_of(pod), name_of(pod), options={"gracePeriodSeconds": 0}, at=at)

    def _lost(self, name: str, moment_s: float, at: str) -> Program[None]:
        node = yield from get(NODE, "", name, at=at)
        ready = None if node is None else condition_of(node, "Ready")
        if node is None or (ready is not None and ready.get("status") == "Unknown"):
            return
        kinds = [entry["type"] for entry in dig(node, "status", "conditions", default=())] or ["Ready"]
        unknown: dict[str, Condition | None] = {
            kind: Condition("Unknown", "NodeStatusUnknown", _STOPPED) for kind in kinds
        }
        conditions = merged_conditions(dig(node, "status", "conditions", default=[]), unknown, moment_s)
        body = {
            "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            "status": {"conditions": conditions},
        }
        yield from patch(NODE, "", name, body, subresource="status", at=at)


_CONDITION_TAINTS = (_NOT_READY, _UNREACHABLE)


def _condition_taints(node: Object) -> Program[list[Object]]:
    """The taints that follow from the Ready condition; those that are there already keep their time."""
    ready = condition_of(node, "Ready")
    status = "False" if ready is None else ready.get("status", "Unknown")
    if status == "True":
        return []
    key = _UNREACHABLE if status == "Unknown" else _NOT_READY
    present = {(entry.get("key"), entry.get("effect")): entry for entry in dig(node, "spec", "taints", default=())}
    moment_s = yield from now()
    taints = []
    for effect in ("NoSchedule", "NoExecute"):
        made = {"key": key, "effect": effect, "timeAdded": timestamp(moment_s)}
        taints.append(present.get((key, effect), made))
    return taints


def _same_taints(left: list[Object], right: list[Object]) -> bool:
    def shape(taints: list[Object]) -> set[tuple[str, str, str]]:
        return {(entry.get("key", ""), entry.get("value", ""), entry.get("effect", "")) for entry in taints}

    return shape(left) == shape(right)


def _node_of_pod(pod: Object, owner: str) -> tuple[Key, ...]:
    node = dig(pod, "spec", "nodeName", default="")
    return (Key(owner, node),) if node else ()


def _node_keys(node: Object, owner: str) -> tuple[Key, ...]:
    return (Key(owner, name_of(node)),)
