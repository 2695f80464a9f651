"""AgentClusterInstall: what it shows of its cluster, and what its deletion does (cim-resources 1.6, 3.8)."""

from __future__ import annotations

from labsim.controllers.cim import urls
from labsim.controllers.cim.errors import ServiceError
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.patching import patch_spec, with_conditions, without_finalizer
from labsim.controllers.cim.rows import Cluster
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.runtime.effects import Key, Program, delete, get, list_all
from labsim.model.kinds import AGENT, AGENT_CLUSTER_INSTALL, INFRA_ENV
from labsim.model.objects import Object, dig, is_deleting, labels_of, name_of, namespace_of

NOT_AVAILABLE = ("Unknown", "NotAvailable", "Information not available")
NEVER_PREPARED = "Cluster preparation has never been performed for this cluster"


def install_status(
    install: Object, cluster: Cluster | None, error: ServiceError | None, settings: CimSettings, now_s: float
) -> Object:
    """The whole status of an AgentClusterInstall."""
    present: Object = install.get("status") or {}
    status: Object = dict(present)
    conditions: list[Object] = present.get("conditions") or []
    status["conditions"] = with_conditions(conditions, _conditions(cluster, error), now_s, probe_time=True)
    if cluster is not None:
        debug = dict(present.get("debugInfo") or {})
        if "eventsURL" not in debug:
            debug["eventsURL"] = urls.events_url(settings, cluster.events_token, "cluster_id", cluster.id)
        debug.update(state=cluster.status, stateInfo=cluster.status_info)
        status["debugInfo"] = debug
        status["platformType"] = "BareMetal"
        status["userManagedNetworking"] = cluster.user_managed_networking
    return status


def _conditions(cluster: Cluster | None, error: ServiceError | None) -> dict[str, tuple[str, str, str]]:
    if error is None:
        synced = ("True", "SyncOK", "SyncOK")
    elif error.is_input_error:
        synced = ("False", "InputError", f"The Spec could not be synced due to an input error: {error.message}")
    else:
        synced = ("False", "BackendError", f"The Spec could not be synced due to backend error: {error.message}")
    if cluster is None:
        others = ("Validated", "RequirementsMet", "Completed", "Failed", "Stopped")
        return {"SpecSynced": synced, **dict.fromkeys(others, NOT_AVAILABLE)}
    completed = f"The installation has completed: {cluster.status_info}"
    stopped = "The installation has stopped because it completed successfully"
    return {
        "SpecSynced": synced,
        "RequirementsMet": ("True", "ClusterAlreadyInstalling", "The cluster requirements are met"),
        "Validated": ("True", "ValidationsPassing", "The cluster's validations are passing"),
        "Completed": ("True", "InstallationCompleted", completed),
        "Failed": ("False", "InstallationNotFailed", "The installation has not failed"),
        "Stopped": ("True", "InstallationCompleted", stopped),
        "LastInstallationPreparationFailed": ("False", NEVER_PREPARED, ""),
    }


class AgentClusterInstalls:
    """The deletion of AgentClusterInstalls."""

    def __init__(self, lifecycle: HostLifecycle) -> None:
        self._lifecycle = lifecycle

    def delete(
        self, install: Object, cluster_deployment: Object | None, key: Key, finalizer: str, now_s: float
    ) -> Program[None]:
        """Let go of the Agents, and forget the cluster at once: their unbinding races with that, as upstream's."""
        preserves = bool(dig(cluster_deployment, "spec", "preserveOnDelete", default=False))
        agents = yield from list_all(AGENT)
        for agent in agents:
            reference = dig(agent, "spec", "clusterDeploymentName", default={})
            if (reference.get("namespace"), reference.get("name")) == (key.namespace, key.name):
                yield from self._release(agent, key, preserves)
        cluster = self._lifecycle.database.cluster_of(key.namespace, key.name)
        if cluster is not None:
            for host in list(self._lifecycle.database.cluster_hosts(cluster)):
                self._lifecycle.database.wake_host(host)
            self._lifecycle.database.drop_cluster(cluster)
        yield from without_finalizer(AGENT_CLUSTER_INSTALL, install, finalizer)

    def _release(self, agent: Object, key: Key, preserves: bool) -> Program[None]:
        if is_deleting(agent):
            return
        infra_env_name = labels_of(agent).get("infraenvs.agent-install.openshift.io", "")
        infra_env = yield from get(INFRA_ENV, namespace_of(agent), infra_env_name)
        reference = dig(infra_env, "spec", "clusterRef", default={})
        is_own = (reference.get("namespace"), reference.get("name")) == (key.namespace, key.name)
        if is_own or preserves:
            yield from delete(AGENT, namespace_of(agent), name_of(agent))
            return
        fresh = yield from get(AGENT, namespace_of(agent), name_of(agent), live=True)
        if fresh is None:
            return
        # A conflict ends this pass; the deletion's next pass looks at the Agent again.
        yield from patch_spec(AGENT, fresh, {"clusterDeploymentName": None})
