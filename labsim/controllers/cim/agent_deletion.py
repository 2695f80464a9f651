"""Deleting an Agent: its Node first, where it has one, then its host (cim-resources 3.8)."""

from __future__ import annotations

from labsim.controllers.cim import spoke
from labsim.controllers.cim.agent_creation import INFRA_ENV_LABEL
from labsim.controllers.cim.host_states import DONE_STAGE
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.patching import patch_status, with_condition, without_finalizer
from labsim.controllers.runtime.effects import DONE, Program, Result, Unreachable, get
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT, AGENT_CLUSTER_INSTALL, CLUSTER_DEPLOYMENT, INFRA_ENV
from labsim.model.objects import (
    Object,
    annotations_of,
    dig,
    finalizers_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
)

SKIP_SPOKE_CLEANUP = "agent.agent-install.openshift.io/skip-spoke-cleanup"


class AgentDeletion:
    """The deletion path of the Agent controller."""

    def __init__(self, lifecycle: HostLifecycle) -> None:
        self._lifecycle = lifecycle

    def skips_spoke(self, agent: Object) -> bool:
        return SKIP_SPOKE_CLEANUP in annotations_of(agent)

    def run(self, agent: Object, finalizer: str, now_s: float) -> Program[Result]:
        if finalizer not in finalizers_of(agent):
            return DONE
        host = self._lifecycle.database.host_of(namespace_of(agent), name_of(agent))
        cluster_deployment = yield from self._cluster_to_clean(agent)
        if cluster_deployment is not None:
            node = dig(agent, "spec", "hostname", default="") or dig(
                agent, "status", "inventory", "hostname", default=""
            )
            try:
                yield from spoke.remove_node(cluster_deployment, node)
            except (spoke.SpokeError, ApiError, Unreachable) as error:
                yield from self._failed(agent, str(error), now_s)
                return Result(requeue_after_s=self._lifecycle.settings.timeouts.error_requeue_s)
        yield from without_finalizer(AGENT, agent, finalizer)
        if host is not None:
            self._lifecycle.deregister(host, now_s)
        return DONE

    def _cluster_to_clean(self, agent: Object) -> Program[Object | None]:
        """The ClusterDeployment whose cluster holds a Node of this Agent; None where there is nothing to clean."""
        reference = dig(agent, "spec", "clusterDeploymentName")
        has_node = dig(agent, "status", "progress", "currentStage") == DONE_STAGE or bool(
            dig(agent, "status", "csrStatus", "approvedCSRs")
        )
        if self.skips_spoke(agent) or not reference or not has_node:
            return None
        namespace, name = reference.get("namespace", ""), reference.get("name", "")
        cluster_deployment = yield from get(CLUSTER_DEPLOYMENT, namespace, name)
        install_name = dig(cluster_deployment, "spec", "clusterInstallRef", "name", default="")
        install = yield from get(AGENT_CLUSTER_INSTALL, namespace, install_name)
        infra_env_name = labels_of(agent).get(INFRA_ENV_LABEL, "")
        infra_env = yield from get(INFRA_ENV, namespace_of(agent), infra_env_name)
        for needed in (cluster_deployment, install, infra_env):
            if needed is None or is_deleting(needed):
                return None
        found: Object | None = cluster_deployment
        return found

    def _failed(self, agent: Object, message: str, now_s: float) -> Program[None]:
        status: Object = dict(agent.get("status") or {})
        conditions = status.get("conditions") or []
        status["conditions"] = with_condition(conditions, "Cleanup", "False", "CleanupFailed", message, now_s)
        yield from patch_status(AGENT, agent, status)
