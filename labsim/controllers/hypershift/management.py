"""The objects that the operator itself makes on the hub for a HostedCluster (fact sheet, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping

from labsim.controllers.hypershift.components import workload
from labsim.controllers.hypershift.desired import ensure, find
from labsim.controllers.hypershift.kubeconfigs import secret
from labsim.controllers.hypershift.names import (
    CLUSTER_ANNOTATION,
    COMPONENT_FINALIZER,
    HOSTED_NAMESPACE_LABEL,
    RBAC_LABEL,
    control_plane_key,
)
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import Key, Program, get, patch
from labsim.model.kinds import (
    AGENT_CLUSTER,
    CLUSTER,
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
)
from labsim.model.objects import Object, annotations_of, dig, name_of, namespace_of, new, owner_reference

_COPIED_FIELDS = (
    "clusterID",
    "infraID",
    "issuerURL",
    "dns",
    "networking",
    "services",
    "etcd",
    "controllerAvailabilityPolicy",
    "infrastructureAvailabilityPolicy",
    "olmCatalogPlacement",
    "fips",
    "secretEncryption",
    "autoscaling",
    "imageContentSources",
    "configuration",
    "additionalTrustBundle",
    "capabilities",
    "nodeSelector",
    "tolerations",
    "labels",
)
_CLEANUP = "hypershift.openshift.io/cleanup-cloud-resources"


def cluster_text(cluster: Object) -> str:
    return f"{namespace_of(cluster)}/{name_of(cluster)}"


def marks(cluster: Object) -> dict[str, str]:
    """The annotation that leads from an object of a control plane to its HostedCluster."""
    return {CLUSTER_ANNOTATION: cluster_text(cluster)}


def ensure_control_plane(cluster: Object, settings: HyperShiftSettings) -> Program[Object]:
    """The control-plane namespace and what the operator puts there; answers the HostedControlPlane."""
    place = control_plane_key(cluster)
    yield from ensure(_namespace(place.namespace), NAMESPACE)
    pull_secret = str(dig(cluster, "spec", "pullSecret", "name", default=""))
    yield from _copy(cluster, place, pull_secret, "pull-secret", "kubernetes.io/dockerconfigjson")
    ssh_key = str(dig(cluster, "spec", "sshKey", "name", default=""))
    if ssh_key:
        yield from _copy(cluster, place, ssh_key, "ssh-key")
    hcp = yield from ensure(_hosted_control_plane(cluster, place, bool(ssh_key)), HOSTED_CONTROL_PLANE)
    yield from _ensure_rbac(cluster, place)
    for name, image, args in _management_workloads(cluster, place, settings):
        made = workload(
            DEPLOYMENT,
            place.namespace,
            name,
            cluster=cluster_text(cluster),
            containers=1,
            replicas=1,
            image=image,
            args=args,
            finalizers=() if name == "control-plane-operator" else (COMPONENT_FINALIZER,),
        )
        yield from ensure(made, DEPLOYMENT)
    return hcp


def _namespace(name: str) -> Object:
    labels = {
        HOSTED_NAMESPACE_LABEL: "true",
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/audit": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
        "security.openshift.io/scc.podSecurityLabelSync": "false",
        "openshift.io/cluster-monitoring": "true",
    }
    made = new(NAMESPACE, None, name)
    made["metadata"]["labels"] = labels
    return made


def _copy(cluster: Object, place: Key, source: str, name: str, secret_type: str = "") -> Program[None]:
    """Copy a Secret into the control plane's namespace, with a type of its own where upstream gives it one.

    In the documentation's layout an InfraEnv's pull secret stands there already, by the same name: a Secret's type can
    not be changed, so the copy has to be of that type.
    """
    found = yield from find(SECRET, namespace_of(cluster), source)
    if found is None:
        return
    kind = secret_type or found.get("type", "Opaque")
    made = new(SECRET, place.namespace, name, data=dict(found.get("data") or {}), type=kind)
    made["metadata"]["annotations"] = marks(cluster)
    yield from ensure(made, SECRET)


def _hosted_control_plane(cluster: Object, place: Key, has_ssh_key: bool) -> Object:
    spec: Object = {key: cluster["spec"][key] for key in _COPIED_FIELDS if key in cluster["spec"]}
    spec.update(
        releaseImage=dig(cluster, "spec", "release", "image"),
        platform={"type": "None"},
        pullSecret={"name": "pull-secret"},
        sshKey={"name": "ssh-key"} if has_ssh_key else {},
        pausedUntil="",
    )
    made = new(HOSTED_CONTROL_PLANE, place.namespace, place.name, spec=spec)
    made["metadata"]["annotations"] = marks(cluster)
    return made


def _management_workloads(
    cluster: Object, place: Key, settings: HyperShiftSettings
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Name, image and arguments of the three Deployments that start without waiting for anything."""
    image = annotations_of(cluster).get(
        "hypershift.openshift.io/capi-provider-agent-image", settings.capi_provider_image
    )
    agents = dig(cluster, "spec", "platform", "agent", "agentNamespace")
    return (
        ("control-plane-operator", settings.operator_image, ("run", "--namespace", place.namespace)),
        ("cluster-api", settings.operator_image, (f"--namespace={place.namespace}", "--leader-elect=true")),
        ("capi-provider", image, (f"--namespace={place.namespace}", f"--agent-namespace={agents}", "--leader-elect")),
    )


def rbac_names(place: Key) -> tuple[str, str]:
    """The Role and the RoleBinding that let a control plane's provider work on agents."""
    return f"capi-provider-role-{place.namespace}", f"cluster-api-agent-{place.namespace}"


def _ensure_rbac(cluster: Object, place: Key) -> Program[None]:
    agents = str(dig(cluster, "spec", "platform", "agent", "agentNamespace"))
    role_name, binding_name = rbac_names(place)
    account = new(SERVICE_ACCOUNT, place.namespace, "capi-provider")
    verbs = ["get", "list", "watch", "update", "patch"]
    rules = [{"apiGroups": ["agent-install.openshift.io"], "resources": ["agents"], "verbs": verbs}]
    role = new(ROLE, agents, role_name, rules=rules)
    subject = {"kind": "ServiceAccount", "name": "capi-provider", "namespace": place.namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role_name}
    binding = new(ROLE_BINDING, agents, binding_name, subjects=[subject], roleRef=reference)
    for obj in (role, binding):
        obj["metadata"]["labels"] = {RBAC_LABEL: place.namespace}
    yield from ensure(account, SERVICE_ACCOUNT)
    yield from ensure(role, ROLE)
    yield from ensure(binding, ROLE_BINDING)


def agent_cluster(cluster: Object, ignition: str, endpoint: Object) -> Object:
    place = control_plane_key(cluster)
    reference = {"name": "ignition-server-ca-cert", "namespace": place.namespace}
    spec = {
        "ignitionEndpoint": {"url": f"https://{ignition}/ignition", "caCertificateReference": reference},
        "controlPlaneEndpoint": {"host": endpoint["host"], "port": endpoint["port"]},
    }
    made = new(AGENT_CLUSTER, place.namespace, place.name, spec=spec)
    made["metadata"]["annotations"] = marks(cluster)
    return made


def capi_cluster(cluster: Object) -> Object:
    place = control_plane_key(cluster)
    spec = {
        "controlPlaneRef": _reference(HOSTED_CONTROL_PLANE.api_version, HOSTED_CONTROL_PLANE.kind, place),
        "infrastructureRef": _reference(AGENT_CLUSTER.api_version, AGENT_CLUSTER.kind, place),
    }
    made = new(CLUSTER, place.namespace, str(dig(cluster, "spec", "infraID")), spec=spec)
    made["metadata"]["annotations"] = marks(cluster)
    return made


def _reference(api_version: str, kind: str, place: Key) -> Object:
    return {"apiVersion": api_version, "kind": kind, "namespace": place.namespace, "name": place.name}


def copied_secret(cluster: Object, name: str, values: Mapping[str, str]) -> Object:
    """A Secret in the HostedCluster's own namespace that goes with it."""

    return secret(
        namespace_of(cluster), name, values, annotations=marks(cluster), ownerReferences=[owner_reference(cluster)]
    )


def set_paused(cluster: Object, place: Key, until: str) -> Program[None]:
    """Hand a pause down to the control plane and the CAPI Cluster."""
    hcp = yield from get(HOSTED_CONTROL_PLANE, place.namespace, place.name)
    if hcp is not None and dig(hcp, "spec", "pausedUntil", default="") != until:
        yield from patch(HOSTED_CONTROL_PLANE, place.namespace, place.name, {"spec": {"pausedUntil": until}})
    infra = str(dig(cluster, "spec", "infraID", default=""))
    capi = yield from get(CLUSTER, place.namespace, infra)
    if capi is not None and not dig(capi, "spec", "paused", default=False):
        yield from patch(CLUSTER, place.namespace, infra, {"spec": {"paused": True}})


def copy_cleanup(cluster: Object, hcp: Object) -> Program[None]:
    """Tell the control plane to clean up after itself, where the HostedCluster says so."""
    wanted = annotations_of(cluster).get(_CLEANUP)
    if wanted and annotations_of(hcp).get(_CLEANUP) != wanted:
        body = {"metadata": {"annotations": {_CLEANUP: wanted}}}
        yield from patch(HOSTED_CONTROL_PLANE, namespace_of(hcp), name_of(hcp), body)
