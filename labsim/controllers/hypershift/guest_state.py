"""What the watches on hosted clusters have told: nodes and pods, kept as indexes so that no event costs a scan."""

from __future__ import annotations

import dataclasses

from labsim.controllers.hypershift.guest_catalog import KONNECTIVITY_AGENT, NODE_WORKLOADS
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_status,
    dig,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
)

WORKLOAD_LABEL = "app"  # on guest pods: the workload's name
_NODE_WORKLOAD_NAMES = frozenset(entry.name for entry in NODE_WORKLOADS)
MACHINE_ANNOTATION = "cluster.x-k8s.io/machine"


@dataclasses.dataclass(frozen=True, slots=True)
class NodeState:
    """What matters about a Node: readiness as its Ready condition says it, and whether pods may be placed on it."""

    ready: str
    unschedulable: bool
    machine: str
    tainted: tuple[str, ...]


class GuestState:
    """Nodes and running pods per hosted cluster ("<control-plane namespace>/<name>")."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, NodeState]] = {}
        self.daemon_sets: dict[str, set[tuple[str, str]]] = {}  # those that are not the platform's own
        self.tunnels: dict[str, set[str]] = {}  # nodes whose konnectivity agent has its server
        self.running: dict[str, dict[str, set[str]]] = {}  # owner, DaemonSet: nodes where its pod runs

    def note_node(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """Take in a Node's event; True where something changed that matters here."""
        nodes = self.nodes.setdefault(owner, {})
        if after is None:
            return before is not None and nodes.pop(name_of(before), None) is not None
        state = NodeState(
            ready=condition_status(after, "Ready"),
            unschedulable=bool(dig(after, "spec", "unschedulable", default=False)),
            machine=annotations_of(after).get(MACHINE_ANNOTATION, ""),
            tainted=tuple(sorted(entry.get("key", "") for entry in dig(after, "spec", "taints", default=()))),
        )
        name = name_of(after)
        changed = nodes.get(name) != state
        nodes[name] = state
        return changed

    def note_daemon_set(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """Take in the event of a DaemonSet; True for those that are not the platform's own."""
        daemon_set = after if after is not None else before
        if daemon_set is None or name_of(daemon_set) in _NODE_WORKLOAD_NAMES:
            return False
        known, place = self.daemon_sets.setdefault(owner, set()), (namespace_of(daemon_set), name_of(daemon_set))
        if after is None:
            known.discard(place)
        else:
            known.add(place)
        return True

    def note_pod(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """Take in a pod's event; True for pods of Deployments and StatefulSets, which somebody must look after."""
        pod = after if after is not None else before
        if pod is None:
            return False
        workload = labels_of(pod).get(WORKLOAD_LABEL, "")
        if workload not in _NODE_WORKLOAD_NAMES:
            return bool(workload)
        running = self.running.setdefault(owner, {}).setdefault(workload, set())
        node = dig(pod, "spec", "nodeName", default="")
        was = bool(running)
        runs = after is not None and not is_deleting(after) and dig(after, "status", "phase") == "Running"
        if runs:
            running.add(node)
        else:
            running.discard(node)
        changed = was != bool(running)
        if workload == KONNECTIVITY_AGENT:
            is_ready = runs and after is not None and condition_status(after, "Ready") == "True"
            changed |= self._note_tunnel(owner, node, is_ready)
        return changed

    def _note_tunnel(self, owner: str, node: str, is_open: bool) -> bool:
        tunnels = self.tunnels.setdefault(owner, set())
        was = bool(tunnels)
        if is_open:
            tunnels.add(node)
        else:
            tunnels.discard(node)
        return was != bool(tunnels)

    def ready_nodes(self, owner: str) -> list[str]:
        """Nodes that take pods, in order of their names."""
        nodes = self.nodes.get(owner, {})
        return sorted(name for name, state in nodes.items() if state.ready == "True" and not state.unschedulable)

    def runs_anywhere(self, owner: str, daemon_set: str) -> bool:
        return bool(self.running.get(owner, {}).get(daemon_set))

    def forget(self, owner: str) -> None:
        self.nodes.pop(owner, None)
        self.tunnels.pop(owner, None)
        self.running.pop(owner, None)
        self.daemon_sets.pop(owner, None)
