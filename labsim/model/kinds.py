"""The kinds of the Agent platform's flow, by their Kubernetes names. Schemas and columns live in labsim.kube."""

from __future__ import annotations

import dataclasses
import functools


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One served kind: group ("" is core), version, Kind, plural resource name, scope."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    api_version: str = dataclasses.field(init=False, repr=False, compare=False)
    # `agents.agent-install.openshift.io`, or `secrets` for the core group.
    qualified: str = dataclasses.field(init=False, repr=False, compare=False)
    _hash: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Kinds are keys of everything that is looked up: what is derived from them is made once.
        put = functools.partial(object.__setattr__, self)
        put("api_version", f"{self.group}/{self.version}" if self.group else self.version)
        put("qualified", f"{self.plural}.{self.group}" if self.group else self.plural)
        put("_hash", hash((self.group, self.version, self.kind, self.plural, self.namespaced)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Kind) or self._hash != other._hash:
            return False
        mine = (self.group, self.version, self.kind, self.plural, self.namespaced)
        return mine == (other.group, other.version, other.kind, other.plural, other.namespaced)

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The URL path of the collection, or of one object."""
        path = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            path += f"/namespaces/{namespace}"
        path += f"/{self.plural}"
        if name:
            path += f"/{name}"
        return path + (f"/{subresource}" if subresource else "")

    def __str__(self) -> str:
        return self.kind


NAMESPACE = Kind("", "v1", "Namespace", "namespaces", False)
SECRET = Kind("", "v1", "Secret", "secrets")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
EVENT = Kind("", "v1", "Event", "events")
NODE = Kind("", "v1", "Node", "nodes", False)
POD = Kind("", "v1", "Pod", "pods")
SERVICE = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
PERSISTENT_VOLUME_CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False)
CLUSTER_ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False)
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets")
DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets")
STORAGE_CLASS = Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", False)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CERTIFICATE_SIGNING_REQUEST = Kind(
    "certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", False
)
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False
)
CLUSTER_OPERATOR = Kind("config.openshift.io", "v1", "ClusterOperator", "clusteroperators", False)
CLUSTER_VERSION = Kind("config.openshift.io", "v1", "ClusterVersion", "clusterversions", False)

INFRA_ENV = Kind("agent-install.openshift.io", "v1beta1", "InfraEnv", "infraenvs")
AGENT = Kind("agent-install.openshift.io", "v1beta1", "Agent", "agents")
NMSTATE_CONFIG = Kind("agent-install.openshift.io", "v1beta1", "NMStateConfig", "nmstateconfigs")
AGENT_CLASSIFICATION = Kind("agent-install.openshift.io", "v1beta1", "AgentClassification", "agentclassifications")
AGENT_SERVICE_CONFIG = Kind("agent-install.openshift.io", "v1beta1", "AgentServiceConfig", "agentserviceconfigs", False)
AGENT_CLUSTER_INSTALL = Kind("extensions.hive.openshift.io", "v1beta1", "AgentClusterInstall", "agentclusterinstalls")
CLUSTER_DEPLOYMENT = Kind("hive.openshift.io", "v1", "ClusterDeployment", "clusterdeployments")
CLUSTER_IMAGE_SET = Kind("hive.openshift.io", "v1", "ClusterImageSet", "clusterimagesets", False)
MANAGED_CLUSTER = Kind("cluster.open-cluster-management.io", "v1", "ManagedCluster", "managedclusters", False)
ADDON_DEPLOYMENT_CONFIG = Kind(
    "addon.open-cluster-management.io", "v1alpha1", "AddOnDeploymentConfig", "addondeploymentconfigs"
)
HOSTED_CLUSTER = Kind("hypershift.openshift.io", "v1beta1", "HostedCluster", "hostedclusters")
NODE_POOL = Kind("hypershift.openshift.io", "v1beta1", "NodePool", "nodepools")
HOSTED_CONTROL_PLANE = Kind("hypershift.openshift.io", "v1beta1", "HostedControlPlane", "hostedcontrolplanes")
CLUSTER = Kind("cluster.x-k8s.io", "v1beta1", "Cluster", "clusters")
MACHINE_DEPLOYMENT = Kind("cluster.x-k8s.io", "v1beta1", "MachineDeployment", "machinedeployments")
MACHINE_SET = Kind("cluster.x-k8s.io", "v1beta1", "MachineSet", "machinesets")
MACHINE = Kind("cluster.x-k8s.io", "v1beta1", "Machine", "machines")
MACHINE_HEALTH_CHECK = Kind("cluster.x-k8s.io", "v1beta1", "MachineHealthCheck", "machinehealthchecks")
AGENT_CLUSTER = Kind("capi-provider.agent-install.openshift.io", "v1beta1", "AgentCluster", "agentclusters")
AGENT_MACHINE = Kind("capi-provider.agent-install.openshift.io", "v1beta1", "AgentMachine", "agentmachines")
AGENT_MACHINE_TEMPLATE = Kind(
    "capi-provider.agent-install.openshift.io", "v1beta1", "AgentMachineTemplate", "agentmachinetemplates"
)

ALL_KINDS: tuple[Kind, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Kind))
_BY_API: dict[tuple[str, str], Kind] = {(kind.api_version, kind.kind): kind for kind in ALL_KINDS}


def kind_of(obj: dict[str, object]) -> Kind:
    """The Kind of an object by its apiVersion and kind; KeyError for a kind outside this module."""
    return _BY_API[str(obj["apiVersion"]), str(obj["kind"])]


def kind_named(group: str, version: str, kind: str, plural: str, namespaced: bool) -> Kind:
    """The kind of these names: the one of this module where it has it, so that look-ups find it at a glance."""
    made = Kind(group, version, kind, plural, namespaced)
    return next((known for known in ALL_KINDS if known == made), made)
