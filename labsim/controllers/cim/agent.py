"""The Agent controller: binds and unbinds hosts, pushes specs, shows states (cim-resources section 3)."""

from __future__ import annotations

from collections.abc import Iterable

from labsim.controllers.cim import spoke
from labsim.controllers.cim.agent_creation import INFRA_ENV_LABEL
from labsim.controllers.cim.agent_deletion import AgentDeletion
from labsim.controllers.cim.agent_restore import restore_host
from labsim.controllers.cim.agent_status import (
    adopt_shown,
    desired_annotations,
    desired_labels,
    desired_status,
    status_without_host,
)
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.host_states import INSTALLING, PREPARING, UNBINDING
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.monitor import HostMonitor
from labsim.controllers.cim.patching import patch_metadata, patch_spec, patch_status
from labsim.controllers.cim.reclaim import ReclaimImpossible, prepare_reclaim
from labsim.controllers.cim.rows import KIND_DAY2, Cluster, Host, InfraEnv
from labsim.controllers.cim.spec_push import push_spec
from labsim.controllers.cim.tokens import TokenAuthority
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Note,
    Program,
    ReconcileError,
    Result,
    Unreachable,
    Watch,
    get,
    now,
)
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.kube.errors import ApiError
from labsim.model.kinds import (
    AGENT,
    AGENT_CLUSTER_INSTALL,
    CERTIFICATE_SIGNING_REQUEST,
    CLUSTER_DEPLOYMENT,
    INFRA_ENV,
    NODE,
    SECRET,
)
from labsim.model.objects import (
    Object,
    dig,
    finalizers_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)

FINALIZER = "agent.agent-install.openshift.io/ai-deprovision"
WAITING_FOR_UNBIND = "Waiting for host to unbind to do spoke cleanup"


class Agents:
    """The controller of Agents."""

    def __init__(self, lifecycle: HostLifecycle, monitor: HostMonitor, tokens: TokenAuthority) -> None:
        self._lifecycle = lifecycle
        self._database: Database = lifecycle.database
        self._settings = lifecycle.settings
        self._monitor = monitor
        self._tokens = tokens
        self._deletion = AgentDeletion(lifecycle)
        self._csrs = spoke.CsrIndex()
        self._by_token_secret: dict[tuple[str, str], dict[Key, None]] = {}
        self._own = OwnWrites()

    def controller(self) -> Controller:
        return Controller(
            name="agent",
            reconcile=self.reconcile,
            watches=(
                Watch(AGENT, when=self._seen),
                Watch(SECRET, self._of_secret),
                Watch(INFRA_ENV, None),
                Watch(CLUSTER_DEPLOYMENT, None),
                Watch(AGENT_CLUSTER_INSTALL, None),
                Watch(CERTIFICATE_SIGNING_REQUEST, None, hosted=True, when=self._csrs.seen),
            ),
            workers=self._settings.agent_workers,
        )

    def _seen(self, before: Object | None, after: Object | None) -> bool:
        if after is not None and self._own.is_echo(after):
            return False  # our own writes leave the reference to the token as it is
        for obj, present in ((before, False), (after, True)):
            reference = dig(obj, "spec", "ignitionEndpointTokenReference")
            if obj is None or not reference:
                continue
            place = (str(reference.get("namespace", "")), str(reference.get("name", "")))
            keys = self._by_token_secret.setdefault(place, {})
            key = Key(namespace_of(obj), name_of(obj))
            if present:
                keys[key] = None
            else:
                keys.pop(key, None)
        return True

    def _of_secret(self, secret: Object) -> Iterable[Key]:
        return tuple(self._by_token_secret.get((namespace_of(secret), name_of(secret)), ()))

    # -- one Agent --------------------------------------------------------------------------------------------------

    def reconcile(self, key: Key) -> Program[Result]:
        agent = self._own.fresher(key, (yield from get(AGENT, key.namespace, key.name)))
        if agent is None:
            self._own.forget(key)
            return DONE
        now_s = yield from now()
        try:
            result: Result = yield from self._reconcile(agent, now_s)
        except Exception:  # and not `finally`: a program that is dropped must not yield any more
            yield from self._wake_others(now_s)
            raise
        yield from self._wake_others(now_s)
        return result

    def _wake_others(self, now_s: float) -> Program[None]:
        yield from self._database.wakes()
        yield from self._monitor.wake(now_s)

    def _reconcile(self, agent: Object, now_s: float) -> Program[Result]:
        if is_deleting(agent):
            return (yield from self._deletion.run(agent, FINALIZER, now_s))
        host = self._database.host_of(namespace_of(agent), name_of(agent))
        if host is None:
            try:
                host = restore_host(self._lifecycle, agent, now_s)
            except ServiceError as lost:
                return (yield from self._without_host(agent, lost, now_s))
        agent = yield from self._clean_spoke(agent, host, now_s)
        status: Object = dict(agent.get("status") or {})
        error: ServiceError | None = None
        try:
            agent = yield from self._synchronise(agent, host, status, now_s)
        except ServiceError as raised:
            error = raised
        requeue_s: float | None = None
        if spoke.is_watched(host):
            yield from self._follow_node(agent, host, status, now_s)
            if spoke.is_watched(host):
                requeue_s = self._settings.timeouts.csr_requeue_s
        # The host as this pass found it: a state that passes quickly (known, before it is installed) is shown too.
        wanted = desired_status(status, self._database, self._settings, host, error, now_s)
        described = yield from self._describe(agent, host)
        shown = yield from patch_status(AGENT, described, wanted)
        self._own.wrote(described, shown)
        adopt_shown(host, shown)
        if error is not None and not error.is_input_error:
            requeue_s = self._settings.timeouts.error_requeue_s
        return Result(requeue_after_s=requeue_s)

    def _without_host(self, agent: Object, error: ServiceError, now_s: float) -> Program[Result]:
        yield from patch_status(AGENT, agent, status_without_host(agent.get("status") or {}, error, now_s))
        return Result(requeue_after_s=None if error.is_input_error else self._settings.timeouts.error_requeue_s)

    def _describe(self, agent: Object, host: Host) -> Program[Object]:
        """Finalizer, owner, labels and copies of the backend, in one write."""
        fields: Object = {}
        if FINALIZER not in finalizers_of(agent):
            fields["finalizers"] = [*finalizers_of(agent), FINALIZER]
        infra_env = self._database.infra_envs.get(host.infra_env_id)
        if infra_env is not None:
            owner = yield from get(INFRA_ENV, infra_env.namespace, infra_env.name)
            owners = agent["metadata"].get("ownerReferences") or []
            if owner is not None and not any(entry.get("uid") == uid_of(owner) for entry in owners):
                fields["ownerReferences"] = [*owners, owner_reference(owner)]
        labels = desired_labels(self._database, host)
        return (yield from patch_metadata(AGENT, agent, labels=labels, annotations=desired_annotations(host), **fields))

    # -- the spec ---------------------------------------------------------------------------------------------------

    def _synchronise(self, agent: Object, host: Host, status: Object, now_s: float) -> Program[Object]:
        """Binding before anything else; one change of binding per pass. Raises ServiceError."""
        reference = dig(agent, "spec", "clusterDeploymentName")
        if not reference:
            if host.cluster_id:
                yield from self._unbind(agent, host, status, now_s)
                return agent
        else:
            cluster = yield from self._wanted_cluster(reference)
            if not host.cluster_id:
                self._lifecycle.bind(host, cluster, now_s)
                return agent
            if host.cluster_id != cluster.id:
                yield from self._unbind(agent, host, status, now_s)
                return agent
        agent = yield from self._auto_approve(agent, host)
        yield from push_spec(self._lifecycle, host, agent["spec"], now_s)
        return agent

    def _wanted_cluster(self, reference: Object) -> Program[Cluster]:
        namespace, name = reference.get("namespace", ""), reference.get("name", "")
        cluster_deployment = yield from get(CLUSTER_DEPLOYMENT, namespace, name)
        if cluster_deployment is None:
            raise UntypedError(
                f"failed to get clusterDeployment with name {name} in namespace {namespace}: "
                f'clusterdeployments.hive.openshift.io "{name}" not found'
            )
        cluster = self._database.cluster_of(namespace, name)
        if cluster is None:
            raise UntypedError("record not found")
        return cluster

    def _auto_approve(self, agent: Object, host: Host) -> Program[Object]:
        """An InfraEnv that approves its agents does so at every pass."""
        if agent["spec"].get("approved"):
            return agent
        infra_env = self._database.infra_envs.get(host.infra_env_id)
        owner = None
        if infra_env is not None and INFRA_ENV_LABEL in labels_of(agent):
            owner = yield from get(INFRA_ENV, infra_env.namespace, infra_env.name)
        if not dig(owner, "spec", "agentApproval", "autoApprove", default=False):
            return agent
        return (yield from patch_spec(AGENT, agent, {"approved": True}))

    # -- unbinding --------------------------------------------------------------------------------------------------

    def _unbind(self, agent: Object, host: Host, status: Object, now_s: float) -> Program[None]:
        if host.kind != KIND_DAY2 and host.status in (*PREPARING, *INSTALLING):
            raise ServiceError(
                400, f"cancelling non-day-2 host [{host.id}] in the middle of installation is not allowed"
            )
        cluster = self._database.clusters.get(host.cluster_id)
        infra_env = self._database.infra_envs.get(host.infra_env_id)
        reclaim = False
        hostname = spoke_hostname(agent, host)
        if cluster is not None:
            if infra_env is not None and self._settings.reclaim == "upstream":
                reclaim = yield from self._prepare_reclaim(cluster, infra_env, host, hostname)
            if host.cluster_id != cluster.id:
                # Somebody else took the host out while the cluster was asked.
                return
        self._lifecycle.unbind(host, now_s, reclaim=reclaim)
        if cluster is not None:
            status["deprovision_info"] = {
                "cluster_name": cluster.name,
                "cluster_namespace": cluster.namespace,
                "node_name": hostname,
                "message": WAITING_FOR_UNBIND,
            }
        status.pop("csrStatus", None)

    def _prepare_reclaim(self, cluster: Cluster, infra_env: InfraEnv, host: Host, hostname: str) -> Program[bool]:
        """Whether the host can be reclaimed; every failure silently turns it off."""
        cluster_deployment = yield from get(CLUSTER_DEPLOYMENT, cluster.namespace, cluster.name)
        if cluster_deployment is None:
            return False
        token = self._tokens.sign({"infra_env_id": infra_env.id}, f"reclaim/{infra_env.id}")
        try:
            kubeconfig = yield from spoke.spoke_kubeconfig(cluster_deployment)
            yield from prepare_reclaim(self._settings, infra_env, host.id, hostname, token, kubeconfig)
        except (spoke.SpokeError, ReclaimImpossible, ApiError, Unreachable) as error:
            yield Note(f"agent {host.id} is not reclaimed: {error}")
            return False
        return True

    def _clean_spoke(self, agent: Object, host: Host, now_s: float) -> Program[Object]:
        """Once the host has left the cluster for good, its Node goes too."""
        info = dig(agent, "status", "deprovision_info")
        if not info or host.status in UNBINDING:
            return agent
        message = ""
        if not self._deletion.skips_spoke(agent):
            cluster_deployment = yield from get(
                CLUSTER_DEPLOYMENT, info.get("cluster_namespace", ""), info.get("cluster_name", "")
            )
            try:
                yield from spoke.remove_node(cluster_deployment, info.get("node_name", ""))
            except (spoke.SpokeError, ApiError, Unreachable) as error:
                message = str(error)
        status: Object = dict(agent["status"])
        if message:
            status["deprovision_info"] = {**info, "message": message}
            agent = yield from patch_status(AGENT, agent, status)
            self._own.wrote(agent)
            raise ReconcileError(message)
        status.pop("deprovision_info")
        return (yield from patch_status(AGENT, agent, status))

    # -- the node ---------------------------------------------------------------------------------------------------

    def _follow_node(self, agent: Object, host: Host, status: Object, now_s: float) -> Program[None]:
        """From the last reboot on, the spoke says how far the host is."""
        cluster = self._database.clusters[host.cluster_id]
        cluster_deployment = yield from get(CLUSTER_DEPLOYMENT, cluster.namespace, cluster.name)
        if cluster_deployment is None:
            return
        hostname = spoke_hostname(agent, host)
        try:
            kubeconfig = yield from spoke.spoke_kubeconfig(cluster_deployment)
            node = yield from get(NODE, "", hostname, at=kubeconfig)
            handled = True
            if spoke.needs_csrs(host):
                handled = yield from spoke.handle_csrs(
                    self._csrs, cluster.namespace, kubeconfig, hostname, node, status, now_s
                )
            if node is not None and spoke.node_is_ready(node) and host.node_labels:
                yield from spoke.label_node(node, dict(host.node_labels), kubeconfig)
        except (spoke.SpokeError, ApiError, Unreachable) as error:
            yield Note(f"agent {host.id}: the cluster cannot be asked: {error}")
            return
        progress = spoke.reported_progress(host, node, csrs_handled=handled)
        if progress is not None and spoke.is_watched(host) and progress[0] != host.stage:
            self._lifecycle.progress(host, *progress, now_s)


def spoke_hostname(agent: Object, host: Host) -> str:
    """The name that the host's Node has."""
    return str(
        dig(agent, "spec", "hostname", default="")
        or host.hostname
        or dig(agent, "status", "inventory", "hostname", default="")
    )
