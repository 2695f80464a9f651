"""ManagedClusters: the hub itself as `local-cluster`, and one for each hosted cluster (fact sheet, section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Handler,
    Key,
    Program,
    Result,
    Watch,
    create,
    get,
    now,
    own_key,
    patch,
)
from labsim.kube.errors import ApiError
from labsim.model.kinds import ADDON_DEPLOYMENT_CONFIG, HOSTED_CLUSTER, MANAGED_CLUSTER
from labsim.model.objects import (
    Object,
    condition_of,
    condition_status,
    dig,
    is_deleting,
    labels_of,
    name_of,
    new,
    timestamp,
)

LOCAL_CLUSTER = "local-cluster"
RETRY_S = 60.0
_ADDON_NAMESPACE = "multicluster-engine"
_ADDON_CONFIG = "hypershift-addon-deploy-config"
_IMPORT = "import.open-cluster-management.io/"
_CONDITIONS = {
    "HubAcceptedManagedCluster": ("HubClusterAdminAccepted", "Accepted by hub cluster admin"),
    "ManagedClusterJoined": ("ManagedClusterJoined", "Managed cluster joined"),
    "ManagedClusterConditionAvailable": ("ManagedClusterAvailable", "Managed cluster is available"),
}


class Importer:
    """The component `import` of a hub."""

    name = "import"

    def controllers(self) -> Sequence[Controller]:
        watches = (Watch(HOSTED_CLUSTER, own_key, when=_is_new), Watch(ADDON_DEPLOYMENT_CONFIG, None))
        return (
            Controller(name="hosted-cluster-import", reconcile=self.import_cluster, watches=watches),
            Controller(name="managed-clusters", reconcile=self.join, watches=(Watch(MANAGED_CLUSTER, own_key),)),
        )

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return (("managed-clusters", Key("", LOCAL_CLUSTER)),)

    def import_cluster(self, key: Key) -> Program[Result]:
        """Make the ManagedCluster of a HostedCluster as soon as that is available; look again each minute till then."""
        cluster = yield from get(HOSTED_CLUSTER, key.namespace, key.name)
        if cluster is None or is_deleting(cluster):
            return DONE
        if (yield from self._is_disabled()):
            return DONE
        available = condition_of(cluster, "Available")
        if available is None or available.get("status") != "True" or available.get("reason") != "AsExpected":
            return Result(RETRY_S)
        try:
            yield from create(_managed_cluster(cluster), MANAGED_CLUSTER)
        except ApiError as error:
            # A cluster of that name is there already: upstream says nothing and goes on.
            if error.reason != "AlreadyExists":
                raise
        return DONE

    def _is_disabled(self) -> Program[bool]:
        config = yield from get(ADDON_DEPLOYMENT_CONFIG, _ADDON_NAMESPACE, _ADDON_CONFIG)
        for entry in dig(config, "spec", "customizedVariables", default=()):
            if entry.get("name") == "autoImportDisabled":
                return str(entry.get("value", "")).lower() == "true"
        return False

    def join(self, key: Key) -> Program[Result]:
        """What the klusterlet reports: the cluster has joined and is available."""
        managed = yield from get(MANAGED_CLUSTER, "", key.name)
        if managed is None:
            if key.name == LOCAL_CLUSTER:
                yield from self._create_local()
            return DONE
        if is_deleting(managed) or not dig(managed, "spec", "hubAcceptsClient", default=False):
            return DONE
        if all(condition_status(managed, kind) == "True" for kind in _CONDITIONS):
            return DONE
        moment = timestamp((yield from now()))
        conditions = [
            {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": moment}
            for kind, (reason, message) in _CONDITIONS.items()
        ]
        yield from patch(MANAGED_CLUSTER, "", key.name, {"status": {"conditions": conditions}}, subresource="status")
        return DONE

    def _create_local(self) -> Program[None]:
        made = new(MANAGED_CLUSTER, None, LOCAL_CLUSTER, spec={"hubAcceptsClient": True, "leaseDurationSeconds": 60})
        made["metadata"]["labels"] = {
            "name": LOCAL_CLUSTER,
            "local-cluster": "true",
            "vendor": "OpenShift",
            "cloud": "auto-detect",
            "cluster.open-cluster-management.io/clusterset": "default",
        }
        try:
            yield from create(made, MANAGED_CLUSTER)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise


def _is_new(before: Object | None, after: Object | None) -> bool:
    return before is None and after is not None


def _managed_cluster(cluster: Object) -> Object:
    """The ManagedCluster, named as the HostedCluster whatever its namespace."""
    made = new(MANAGED_CLUSTER, None, name_of(cluster), spec={"hubAcceptsClient": True, "leaseDurationSeconds": 60})
    made["metadata"]["annotations"] = {
        f"{_IMPORT}klusterlet-deploy-mode": "Hosted",
        f"{_IMPORT}hosting-cluster-name": LOCAL_CLUSTER,
        "open-cluster-management/created-via": "hypershift",
    }
    made["metadata"]["labels"] = {
        "name": name_of(cluster),
        "vendor": "auto-detect",
        "cloud": "auto-detect",
        "cluster.open-cluster-management.io/clusterset": "default",
        **labels_of(cluster),
    }
    return made
