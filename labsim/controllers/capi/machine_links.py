"""Which Machines an event of a Cluster, a Node or an infrastructure object is about."""

from __future__ import annotations

from labsim.controllers.capi.conditions import READY
from labsim.controllers.capi.names import CAPI_GROUP
from labsim.controllers.capi.nodes import machine_named_by, namespace_of_owner
from labsim.controllers.capi.owners import controller_of, group_of
from labsim.controllers.runtime.effects import Key
from labsim.controllers.runtime.sieves import conditions_changed, metadata_changed
from labsim.model.objects import Object, dig, is_deleting, name_of, namespace_of

_Coordinates = tuple[str, str]


class MachineLinks:
    """Machines by their cluster and by their provider id."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[str, str]] = {}
        self._by_cluster: dict[_Coordinates, dict[Key, None]] = {}
        self._by_provider_id: dict[_Coordinates, dict[Key, None]] = {}

    def observe(self, before: Object | None, after: Object | None) -> bool:
        present = after if after is not None else before
        assert present is not None
        key = Key(namespace_of(present), name_of(present))
        old, new = self._known.get(key), None
        if after is not None:
            new = (
                str(dig(after, "spec", "clusterName", default="")),
                str(dig(after, "spec", "providerID", default="")),
            )
        if old == new:
            return True
        if old is not None:
            del self._known[key]
            self._by_cluster[key.namespace, old[0]].pop(key, None)
            self._by_provider_id.get((key.namespace, old[1]), {}).pop(key, None)
        if new is not None:
            self._known[key] = new
            self._by_cluster.setdefault((key.namespace, new[0]), {})[key] = None
            if new[1]:
                self._by_provider_id.setdefault((key.namespace, new[1]), {})[key] = None
        return True

    def of_cluster(self, cluster: Object) -> list[Key]:
        return list(self._by_cluster.get((namespace_of(cluster), name_of(cluster)), ()))

    def of_node(self, node: Object, owner: str) -> list[Key]:
        namespace = namespace_of_owner(owner)
        named = machine_named_by(node)
        if named:
            return [Key(namespace, named)]
        provider_id = str(dig(node, "spec", "providerID", default=""))
        return list(self._by_provider_id.get((namespace, provider_id), ()))


def cluster_matters(before: Object | None, after: Object | None) -> bool:
    """Whether something changed on a Cluster that its Machines look at."""
    return _of_cluster(before) != _of_cluster(after)


def _of_cluster(cluster: Object | None) -> tuple[object, ...]:
    return (
        cluster is None,
        bool(dig(cluster, "spec", "paused")),
        bool(dig(cluster, "status", "infrastructureReady")),
        bool(dig(cluster, "status", "controlPlaneReady")),
        cluster is not None and is_deleting(cluster),
    )


def infrastructure_matters(before: Object, after: Object) -> bool:
    """Whether something changed on an infrastructure object that its Machine looks at."""
    return (
        metadata_changed(before, after)
        or dig(before, "spec", "providerID") != dig(after, "spec", "providerID")
        or any(dig(before, "status", field) != dig(after, "status", field) for field in ("ready", "addresses"))
        or conditions_changed(before, after, READY)
    )


def owning_machine_keys(obj: Object) -> list[Key]:
    """The Machine that controls an infrastructure object."""
    owner = controller_of(obj)
    if owner is None or owner["kind"] != "Machine" or group_of(owner["apiVersion"]) != CAPI_GROUP:
        return []
    return [Key(namespace_of(obj), owner["name"])]
