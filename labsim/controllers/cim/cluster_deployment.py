"""The ClusterDeployment controller: imports installed clusters, starts day-2 installations, deletes (cim-resources 1.6,
3.5, 3.8)."""

from __future__ import annotations

from collections.abc import Iterable

from labsim.controllers.cim.agent_cluster_install import AgentClusterInstalls, install_status
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.monitor import HostMonitor
from labsim.controllers.cim.patching import patch_metadata, patch_status, without_finalizer
from labsim.controllers.cim.rows import Cluster
from labsim.controllers.cim.secrets_access import no_such_secret, read_secret, secret_text
from labsim.controllers.cim.tokens import TokenAuthority
from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, delete, get, now
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.model.kinds import AGENT, AGENT_CLUSTER_INSTALL, CLUSTER_DEPLOYMENT, INFRA_ENV, SECRET
from labsim.model.objects import (
    Object,
    condition_of,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)

FINALIZER = "clusterdeployments.agent-install.openshift.io/ai-deprovision"
INSTALL_FINALIZER = "agentclusterinstall.agent-install.openshift.io/ai-deprovision"


class ClusterDeployments:
    """The controller of ClusterDeployments and their AgentClusterInstalls."""

    def __init__(self, lifecycle: HostLifecycle, monitor: HostMonitor, tokens: TokenAuthority) -> None:
        self._lifecycle = lifecycle
        self._database: Database = lifecycle.database
        self._settings = lifecycle.settings
        self._monitor = monitor
        self._tokens = tokens
        self._installs = AgentClusterInstalls(lifecycle)
        self._writes = OwnWrites()
        self._install_of: dict[Key, str] = {}
        self._by_secret: dict[tuple[str, str], dict[Key, None]] = {}

    def controller(self) -> Controller:
        return Controller(
            name="cluster-deployment",
            reconcile=self.reconcile,
            watches=(
                Watch(CLUSTER_DEPLOYMENT),
                Watch(AGENT_CLUSTER_INSTALL, _cluster_of_install, when=self._seen_install),
                Watch(AGENT, None),
                Watch(INFRA_ENV, None),
                Watch(SECRET, self._of_secret),
            ),
        )

    def _seen_install(self, before: Object | None, after: Object | None) -> bool:
        for obj, present in ((before, False), (after, True)):
            if obj is None:
                continue
            for key in _cluster_of_install(obj):
                if present:
                    self._install_of[key] = name_of(obj)
                elif self._install_of.get(key) == name_of(obj):
                    del self._install_of[key]
                reference = dig(obj, "spec", "ignitionEndpoint", "caCertificateReference", default={})
                place = (str(reference.get("namespace", "")), str(reference.get("name", "")))
                waiting = self._by_secret.setdefault(place, {})
                if present and reference:
                    waiting[key] = None
                else:
                    waiting.pop(key, None)
        return True

    def _of_secret(self, secret: Object) -> Iterable[Key]:
        return tuple(self._by_secret.get((namespace_of(secret), name_of(secret)), ()))

    # -- one cluster ------------------------------------------------------------------------------------------------

    def reconcile(self, key: Key) -> Program[Result]:
        now_s = yield from now()
        try:
            result: Result = yield from self._reconcile(key, now_s)
        except Exception:  # and not `finally`: a program that is dropped must not yield any more
            yield from self._wake_others(now_s)
            raise
        yield from self._wake_others(now_s)
        return result

    def _wake_others(self, now_s: float) -> Program[None]:
        yield from self._database.wakes()
        yield from self._monitor.wake(now_s)

    def _reconcile(self, key: Key, now_s: float) -> Program[Result]:
        obj = yield from get(CLUSTER_DEPLOYMENT, key.namespace, key.name)
        install_key = Key(key.namespace, self._install_of.get(key, ""))
        install = yield from get(AGENT_CLUSTER_INSTALL, install_key.namespace, install_key.name)
        install = self._writes.fresher(install_key, install)
        if install is not None and is_deleting(install):
            yield from self._installs.delete(install, obj, key, INSTALL_FINALIZER, now_s)
            return DONE
        if obj is None:
            if install is not None:
                yield from self._without_cluster_deployment(install, key, now_s)
            return DONE
        reference = dig(obj, "spec", "clusterInstallRef", default={})
        if (reference.get("group"), reference.get("kind")) != (AGENT_CLUSTER_INSTALL.group, AGENT_CLUSTER_INSTALL.kind):
            return DONE
        if is_deleting(obj):
            return (yield from self._delete(obj, install))
        if FINALIZER not in finalizers_of(obj):
            obj = yield from patch_metadata(CLUSTER_DEPLOYMENT, obj, finalizers=[*finalizers_of(obj), FINALIZER])
        if install is None or name_of(install) != reference.get("name"):
            return DONE
        install = yield from self._owned(install, obj)
        return (yield from self._serve(obj, install, now_s))

    def _serve(self, obj: Object, install: Object, now_s: float) -> Program[Result]:
        cluster = self._database.cluster_of(namespace_of(obj), name_of(obj))
        error: ServiceError | None = None
        try:
            if cluster is None:
                cluster = self._import(obj, install, now_s)
            if cluster is not None:
                yield from self._configure(cluster, obj, install)
                self._install_hosts(cluster, now_s)
        except ServiceError as raised:
            error = raised
        status = install_status(install, cluster, error, self._settings, now_s)
        self._writes.wrote(install, (yield from patch_status(AGENT_CLUSTER_INSTALL, install, status)))
        if error is not None and not error.is_input_error:
            return Result(requeue_after_s=self._settings.timeouts.error_requeue_s)
        return DONE

    def _owned(self, install: Object, obj: Object) -> Program[Object]:
        fields: Object = {}
        if INSTALL_FINALIZER not in finalizers_of(install):
            fields["finalizers"] = [*finalizers_of(install), INSTALL_FINALIZER]
        owners = install["metadata"].get("ownerReferences") or []
        if not any(entry.get("uid") == uid_of(obj) for entry in owners):
            fields["ownerReferences"] = [*owners, owner_reference(obj)]
        return (yield from patch_metadata(AGENT_CLUSTER_INSTALL, install, **fields))

    def _import(self, obj: Object, install: Object, now_s: float) -> Cluster | None:
        """An installed cluster becomes one that hosts are added to; None while it is not installed."""
        completed = condition_of(install, "Completed") or {}
        is_installed = bool(dig(obj, "spec", "installed", default=False))
        if not is_installed and completed.get("reason") != "InstallationCompleted":
            return None
        cluster = self._database.add_cluster(namespace_of(obj), name_of(obj), now_s)
        cluster.events_token = self._tokens.sign({"cluster_id": cluster.id}, f"cluster/{cluster.id}")
        return cluster

    def _configure(self, cluster: Cluster, obj: Object, install: Object) -> Program[None]:
        spec = obj["spec"]
        wanted: Object = {
            "cluster_name": spec.get("clusterName") or name_of(obj),
            "base_domain": spec.get("baseDomain") or "",
            "user_managed_networking": bool(dig(install, "spec", "networking", "userManagedNetworking", default=False)),
            "ignition_endpoint_url": dig(install, "spec", "ignitionEndpoint", "url", default=""),
        }
        reference = dig(install, "spec", "ignitionEndpoint", "caCertificateReference")
        authority = ""
        missing: ServiceError | None = None
        if reference:
            secret = yield from read_secret(reference["namespace"], reference["name"])
            found = None if secret is None else secret_text(secret, "tls.crt")
            if found is None:
                missing = UntypedError(no_such_secret(reference["name"]))
            authority = found or ""
        wanted["ignition_endpoint_ca"] = authority or cluster.ignition_endpoint_ca
        changed = {field: value for field, value in wanted.items() if getattr(cluster, field) != value}
        if changed:
            self._database.update_cluster(cluster, **changed)
            for host in self._database.cluster_hosts(cluster):
                self._database.on_host_input(host)
        if missing is not None:
            raise missing
        if not dig(spec, "pullSecretRef", "name"):
            raise UntypedError("Missing reference to pull secret")

    def _install_hosts(self, cluster: Cluster, now_s: float) -> None:
        """Every known and approved host is installed, each by itself. Raises the first error after all were tried."""
        failed: ServiceError | None = None
        for key in sorted(cluster.by_status.get("known", ())):
            host = self._database.hosts[key]
            if not host.approved:
                continue
            try:
                self._lifecycle.install(host, cluster, now_s)
            except ServiceError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    # -- the end ----------------------------------------------------------------------------------------------------

    def _delete(self, obj: Object, install: Object | None) -> Program[Result]:
        """The AgentClusterInstall goes first; while it is there, the ClusterDeployment waits."""
        if install is not None:
            yield from delete(AGENT_CLUSTER_INSTALL, namespace_of(install), name_of(install))
            return Result(requeue_after_s=self._settings.timeouts.error_requeue_s)
        yield from without_finalizer(CLUSTER_DEPLOYMENT, obj, FINALIZER)
        return DONE

    def _without_cluster_deployment(self, install: Object, key: Key, now_s: float) -> Program[None]:
        error = ServiceError(
            400,
            f"ClusterDeployment with name '{key.name}' in namespace '{key.namespace}' not found. "
            "Ensure that the CRD is already applied.",
        )
        status = install_status(install, None, error, self._settings, now_s)
        yield from patch_status(AGENT_CLUSTER_INSTALL, install, status)


def _cluster_of_install(install: Object) -> tuple[Key, ...]:
    name = dig(install, "spec", "clusterDeploymentRef", "name", default="")
    return (Key(namespace_of(install), name),) if name else ()
