"""The AgentCluster controller: a ClusterDeployment and an AgentClusterInstall for a control plane that exists."""

from __future__ import annotations

import urllib.parse

from labsim.controllers.agent_provider.bootstrap import ensure_backup_label
from labsim.controllers.agent_provider.deletion import is_paused
from labsim.controllers.agent_provider.managers import agent_namespace, availability_changed
from labsim.controllers.agent_provider.names import (
    AGENT_CLUSTER_FINALIZER,
    AGENT_CLUSTER_LABEL,
    BACKUP_LABEL,
    RETRY_S,
)
from labsim.controllers.capi.names import CAPI_GROUP
from labsim.controllers.capi.owners import is_owned_by, own
from labsim.controllers.capi.patching import patch_changes
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Note,
    Program,
    ReconcileError,
    Result,
    Watch,
    create,
    get,
    list_all,
    own_key,
)
from labsim.kube.errors import ApiError
from labsim.model.kinds import (
    AGENT_CLUSTER,
    AGENT_CLUSTER_INSTALL,
    CLUSTER,
    CLUSTER_DEPLOYMENT,
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
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
    new,
    owner_reference,
    thaw,
)

_AGAIN = Result(RETRY_S)
CONTROL_PLANE_AGENTS = 3


class AgentClusters:
    """Reconciles AgentClusters."""

    def __init__(self) -> None:
        self._by_namespace: dict[str, dict[Key, None]] = {}

    def controller(self) -> Controller:
        return Controller(
            "agentcluster",
            self.reconcile,
            (
                Watch(AGENT_CLUSTER, own_key, when=self._observe),
                Watch(DEPLOYMENT, self._of_deployment, when=availability_changed),
                Watch(CLUSTER, None),
                Watch(CLUSTER_DEPLOYMENT, None),
                Watch(AGENT_CLUSTER_INSTALL, None),
                Watch(HOSTED_CONTROL_PLANE, None),
                Watch(SECRET, None),
            ),
        )

    def _observe(self, before: Object | None, after: Object | None) -> bool:
        present = after if after is not None else before
        assert present is not None
        known = self._by_namespace.setdefault(namespace_of(present), {})
        key = Key(namespace_of(present), name_of(present))
        if after is None:
            known.pop(key, None)
        else:
            known[key] = None
        return True

    def _of_deployment(self, deployment: Object) -> list[Key]:
        return list(self._by_namespace.get(namespace_of(deployment), ()))

    def reconcile(self, key: Key) -> Program[Result]:
        stored = yield from get(AGENT_CLUSTER, key.namespace, key.name)
        if stored is None or (yield from agent_namespace(key.namespace)) is None:
            return DONE
        agent_cluster = thaw(stored)
        try:
            result = yield from _steps(agent_cluster)
        except (ApiError, ReconcileError):
            yield from _save(stored, agent_cluster)
            raise
        yield from _save(stored, agent_cluster)
        return result


def _save(stored: Object, changed: Object) -> Program[None]:
    """The deferred patch; an error is only noted, and the next event has to repair it."""
    try:
        yield from patch_changes(AGENT_CLUSTER, stored, changed)
    except ApiError as error:
        yield Note(f"AgentCluster {namespace_of(stored)}/{name_of(stored)} could not be patched: {error}")


def _steps(agent_cluster: Object) -> Program[Result]:
    if is_deleting(agent_cluster):
        if is_paused(agent_cluster):
            yield from _orphan_cluster_deployment(agent_cluster)
        kept = [entry for entry in finalizers_of(agent_cluster) if entry != AGENT_CLUSTER_FINALIZER]
        agent_cluster["metadata"]["finalizers"] = kept
        return DONE
    if AGENT_CLUSTER_FINALIZER not in finalizers_of(agent_cluster):
        agent_cluster["metadata"].setdefault("finalizers", []).append(AGENT_CLUSTER_FINALIZER)
    if is_paused(agent_cluster):
        yield from _orphan_cluster_deployment(agent_cluster)
        return DONE
    agent_cluster["metadata"].setdefault("labels", {})[BACKUP_LABEL] = "true"
    if not dig(agent_cluster, "status", "clusterDeploymentReference", "name"):
        return (yield from _refer_to_cluster_deployment(agent_cluster))
    yield from _ensure_install(agent_cluster)
    endpoint = dig(agent_cluster, "spec", "controlPlaneEndpoint", default={})
    if not endpoint.get("host") or not endpoint.get("port"):
        return _AGAIN
    agent_cluster.setdefault("status", {})["ready"] = True
    return DONE


def _orphan_cluster_deployment(agent_cluster: Object) -> Program[None]:
    """A paused AgentCluster does not own its ClusterDeployment, so that a restore can move it."""
    reference = dig(agent_cluster, "status", "clusterDeploymentReference")
    if not reference:
        return
    found = yield from get(CLUSTER_DEPLOYMENT, reference["namespace"], reference["name"])
    if found is None or not is_owned_by(found, agent_cluster):
        return
    orphan = thaw(found)
    mine = agent_cluster["metadata"]["uid"]
    orphan["metadata"]["ownerReferences"] = [
        entry for entry in orphan["metadata"]["ownerReferences"] if entry["uid"] != mine
    ]
    yield from patch_changes(CLUSTER_DEPLOYMENT, found, orphan)


def _refer_to_cluster_deployment(agent_cluster: Object) -> Program[Result]:
    """Set the reference: to a ClusterDeployment that carries our label, or to one made now."""
    labels = {AGENT_CLUSTER_LABEL: name_of(agent_cluster)}
    labelled = yield from list_all(CLUSTER_DEPLOYMENT, namespace_of(agent_cluster), labels=labels)
    if labelled:
        _refer(agent_cluster, labelled[0])
        return DONE
    cluster = yield from _owner_cluster(agent_cluster)
    control_plane_reference = dig(cluster, "spec", "controlPlaneRef")
    if not control_plane_reference:
        return _AGAIN
    control_plane = yield from get(HOSTED_CONTROL_PLANE, namespace_of(agent_cluster), control_plane_reference["name"])
    made = _cluster_deployment(agent_cluster, control_plane_reference["name"], control_plane)
    if made is None:
        return _AGAIN
    yield from _label_control_plane_secrets(made)
    try:
        yield from create(made, CLUSTER_DEPLOYMENT)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    _refer(agent_cluster, made)
    return DONE


def _refer(agent_cluster: Object, cluster_deployment: Object) -> None:
    agent_cluster.setdefault("status", {})["clusterDeploymentReference"] = {
        "name": name_of(cluster_deployment),
        "namespace": namespace_of(cluster_deployment),
    }


def _owner_cluster(agent_cluster: Object) -> Program[Object | None]:
    for reference in agent_cluster["metadata"].get("ownerReferences") or ():
        group, _, version = reference["apiVersion"].partition("/")
        if reference["kind"] == "Cluster" and group == CAPI_GROUP and version in ("v1beta1", "v1beta2"):
            return (yield from get(CLUSTER, namespace_of(agent_cluster), reference["name"]))
    return None


def _cluster_deployment(agent_cluster: Object, cluster_name: str, control_plane: Object | None) -> Object | None:
    """The ClusterDeployment of a control plane; None while the control plane does not say enough."""
    base_domain = dig(control_plane, "spec", "dns", "baseDomain")
    pull_secret = dig(control_plane, "spec", "pullSecret", "name")
    kubeconfig = dig(control_plane, "status", "kubeConfig", "name")
    if not base_domain or not pull_secret or not kubeconfig:
        return None
    identity = agent_cluster["metadata"]["ownerReferences"][0]["uid"]
    cluster_metadata: Object = {
        "clusterID": identity,
        "infraID": identity,
        "adminKubeconfigSecretRef": {"name": kubeconfig},
    }
    password = dig(control_plane, "status", "kubeadminPassword", "name")
    if password:
        cluster_metadata["adminPasswordSecretRef"] = {"name": password}
    made = new(
        CLUSTER_DEPLOYMENT,
        namespace_of(agent_cluster),
        name_of(agent_cluster),
        spec={
            "installed": True,
            "clusterName": cluster_name,
            "baseDomain": base_domain,
            "platform": {"agentBareMetal": {"agentSelector": {}}},
            "pullSecretRef": {"name": pull_secret},
            "clusterMetadata": cluster_metadata,
            "controlPlaneConfig": {"servingCertificates": {}},  # upstream's types never leave it out
            "clusterInstallRef": {
                "group": AGENT_CLUSTER_INSTALL.group,
                "version": AGENT_CLUSTER_INSTALL.version,
                "kind": AGENT_CLUSTER_INSTALL.kind,
                "name": name_of(agent_cluster),
            },
        },
    )
    made["metadata"]["labels"] = {AGENT_CLUSTER_LABEL: name_of(agent_cluster)}
    made["metadata"]["ownerReferences"] = [owner_reference(agent_cluster)]
    return made


def _label_control_plane_secrets(cluster_deployment: Object) -> Program[None]:
    spec = cluster_deployment["spec"]
    references = [
        spec["pullSecretRef"],
        spec["clusterMetadata"]["adminKubeconfigSecretRef"],
        spec["clusterMetadata"].get("adminPasswordSecretRef") or {},
    ]
    for reference in references:
        secret = yield from get(SECRET, namespace_of(cluster_deployment), reference.get("name", ""))
        if secret is not None:
            yield from ensure_backup_label(secret)


def _ensure_install(agent_cluster: Object) -> Program[None]:
    """The ClusterDeployment is owned and labelled, and its AgentClusterInstall exists; it is never updated."""
    reference = agent_cluster["status"]["clusterDeploymentReference"]
    found = yield from get(CLUSTER_DEPLOYMENT, reference["namespace"], reference["name"])
    if found is None:
        raise ReconcileError(f'ClusterDeployment.hive.openshift.io "{reference["name"]}" not found')
    if not is_owned_by(found, agent_cluster) or AGENT_CLUSTER_LABEL not in labels_of(found):
        owned = thaw(found)
        own(owned, agent_cluster)
        owned["metadata"].setdefault("labels", {})[AGENT_CLUSTER_LABEL] = name_of(agent_cluster)
        yield from patch_changes(CLUSTER_DEPLOYMENT, found, owned)
    install = yield from get(AGENT_CLUSTER_INSTALL, reference["namespace"], reference["name"])
    if install is not None:
        return
    try:
        yield from create(_install(agent_cluster, found), AGENT_CLUSTER_INSTALL)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


def _install(agent_cluster: Object, cluster_deployment: Object) -> Object:
    spec: Object = {
        "clusterDeploymentRef": {"name": name_of(cluster_deployment)},
        "provisionRequirements": {"controlPlaneAgents": CONTROL_PLANE_AGENTS},
        "networking": {"userManagedNetworking": True},
    }
    endpoint = dig(agent_cluster, "spec", "ignitionEndpoint")
    if endpoint:
        spec["ignitionEndpoint"] = {"url": without_path(endpoint["url"])}
        if endpoint.get("caCertificateReference"):
            spec["ignitionEndpoint"]["caCertificateReference"] = dict(endpoint["caCertificateReference"])
    return new(AGENT_CLUSTER_INSTALL, namespace_of(cluster_deployment), name_of(cluster_deployment), spec=spec)


def without_path(url: str) -> str:
    """Scheme, host and port of a URL; a bare IPv6 host gets its brackets.

    >>> without_path("https://192.0.2.1:31000/ignition")
    'https://192.0.2.1:31000'
    """
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    return f"{parts.scheme}://{host}"
