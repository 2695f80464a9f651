"""Nodes of workload clusters, as the watches deliver them: what upstream's cluster cache indexes."""

from __future__ import annotations

from labsim.controllers.capi.names import NODE_MACHINE_ANNOTATION
from labsim.model.objects import Object, annotations_of, condition_of, dig, name_of, parse_timestamp

NodeKey = tuple[str, str]  # the control plane's namespace, the Node's name
_BAD_WHEN_TRUE = ("MemoryPressure", "DiskPressure", "PIDPressure")


def namespace_of_owner(owner: str) -> str:
    """The namespace of a hosted cluster's Machines, from "<namespace>/<name>" of its HostedControlPlane."""
    return owner.partition("/")[0]


def ready_since(node: Object | None) -> float | None:
    """When the Node became Ready, in epoch seconds; None while it is not."""
    found = None if node is None else condition_of(node, "Ready")
    if found is None or found["status"] != "True":
        return None
    moment = found.get("lastTransitionTime")
    return parse_timestamp(moment) if moment else 0.0


def is_unreachable(node: Object) -> bool:
    """The node's kubelet has stopped reporting."""
    found = condition_of(node, "Ready")
    return found is not None and found["status"] == "Unknown"


def health_of(node: Object) -> tuple[str, str]:
    """Status and message of a Machine's NodeHealthy condition: Ready has to be True, the pressures False."""
    bad = unknown = 0
    message = ""
    for entry in dig(node, "status", "conditions", default=()):
        wanted = "True" if entry["type"] == "Ready" else "False" if entry["type"] in _BAD_WHEN_TRUE else None
        if wanted is None or entry["status"] == wanted:
            continue
        message += f"Node condition {entry['type']} is {entry['status']}. "
        if entry["status"] == "Unknown":
            unknown += 1
        else:
            bad += 1
    if bad:
        return "False", message
    return ("Unknown", message) if unknown else ("True", "")


class NodeIndex:
    """The Nodes of every hosted cluster by name and by provider id."""

    def __init__(self) -> None:
        self._nodes: dict[NodeKey, Object] = {}
        self._by_provider_id: dict[NodeKey, dict[str, None]] = {}
        self._namespaces: set[str] = set()

    def observe(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """Take in an event; says True, for what does not matter is not let through (see `node_matters`)."""
        present = after if after is not None else before
        assert present is not None
        namespace = namespace_of_owner(owner)
        self._namespaces.add(namespace)
        key = (namespace, name_of(present))
        old = self._nodes.pop(key, None)
        if old is not None:
            self._by_provider_id.get((namespace, _provider_id(old)), {}).pop(key[1], None)
        if after is None:
            return True
        self._nodes[key] = after
        if _provider_id(after):
            self._by_provider_id.setdefault((namespace, _provider_id(after)), {})[key[1]] = None
        return True

    def knows(self, namespace: str) -> bool:
        """Whether this cluster is followed at all."""
        return namespace in self._namespaces

    def get(self, namespace: str, name: str) -> Object | None:
        return self._nodes.get((namespace, name))

    def with_provider_id(self, namespace: str, provider_id: str) -> list[str]:
        """Names of the Nodes that carry this provider id."""
        return list(self._by_provider_id.get((namespace, provider_id), ()))


def _provider_id(node: Object) -> str:
    return str(dig(node, "spec", "providerID", default=""))


def node_matters(before: Object, after: Object) -> bool:
    """Whether something changed that a controller of Machines looks at: no heartbeat."""
    return _looked_at(before) != _looked_at(after)


def _looked_at(node: Object) -> tuple[object, ...]:
    metadata, status = node["metadata"], node.get("status") or {}
    return (
        metadata.get("uid"),
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("deletionTimestamp"),
        node.get("spec"),
        status.get("nodeInfo"),
        status.get("volumesAttached"),
        [(entry["type"], entry["status"]) for entry in status.get("conditions") or ()],
    )


def machine_named_by(node: Object) -> str:
    """The Machine that a Node says it belongs to."""
    return annotations_of(node).get(NODE_MACHINE_ANNOTATION, "")
