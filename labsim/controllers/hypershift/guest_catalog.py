"""What runs in a hosted cluster: namespaces, workloads and cluster operators (fact sheet, section 9)."""

from __future__ import annotations

import dataclasses

from labsim.model.kinds import DEPLOYMENT, STATEFUL_SET, Kind

NAMESPACES = (
    "default",
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "openshift",
    "openshift-cluster-samples-operator",
    "openshift-cluster-version",
    "openshift-config",
    "openshift-config-managed",
    "openshift-console",
    "openshift-dns",
    "openshift-image-registry",
    "openshift-ingress",
    "openshift-insights",
    "openshift-kube-storage-version-migrator",
    "openshift-machine-config-operator",
    "openshift-monitoring",
    "openshift-multus",
    "openshift-ovn-kubernetes",
    "openshift-service-ca",
)


@dataclasses.dataclass(frozen=True, slots=True)
class NodeWorkload:
    """A DaemonSet: one pod on every node, from the node's registration on."""

    namespace: str
    name: str
    containers: int = 1
    host_network: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterWorkload:
    """A Deployment or StatefulSet that needs worker nodes. `spread` allows one pod per node only; `replicas_ha`
    counts with infrastructureAvailabilityPolicy HighlyAvailable."""

    operator: str
    namespace: str
    name: str
    containers: int = 1
    replicas_ha: int = 1
    kind: Kind = DEPLOYMENT
    spread: bool = False


KONNECTIVITY_AGENT = "konnectivity-agent"
NODE_WORKLOADS = (
    NodeWorkload("openshift-ovn-kubernetes", "ovnkube-node", 8),
    NodeWorkload("openshift-multus", "multus"),
    NodeWorkload("kube-system", KONNECTIVITY_AGENT),
    NodeWorkload("openshift-dns", "dns-default", 2, host_network=False),
)
CLUSTER_WORKLOADS = (
    ClusterWorkload("ingress", "openshift-ingress", "router-default", 1, 2, spread=True),
    ClusterWorkload("console", "openshift-console", "console", 1, 2),
    ClusterWorkload("console", "openshift-console", "downloads", 1, 2),
    ClusterWorkload("image-registry", "openshift-image-registry", "image-registry", 1, 2),
    ClusterWorkload("insights", "openshift-insights", "insights-operator"),
    ClusterWorkload("kube-storage-version-migrator", "openshift-kube-storage-version-migrator", "migrator"),
    ClusterWorkload("monitoring", "openshift-monitoring", "alertmanager-main", 6, 2, STATEFUL_SET),
    ClusterWorkload("monitoring", "openshift-monitoring", "prometheus-k8s", 6, 2, STATEFUL_SET),
    ClusterWorkload("openshift-samples", "openshift-cluster-samples-operator", "cluster-samples-operator", 2),
    ClusterWorkload("service-ca", "openshift-service-ca", "service-ca"),
)

# Operators whose operand runs in the control-plane namespace: available when that workload is.
CONTROL_PLANE_OPERATORS = {
    "csi-snapshot-controller": "csi-snapshot-controller",
    "kube-apiserver": "kube-apiserver",
    "kube-controller-manager": "kube-controller-manager",
    "kube-scheduler": "kube-scheduler",
    "network": "ovnkube-control-plane",
    "node-tuning": "cluster-node-tuning-operator",
    "openshift-apiserver": "openshift-apiserver",
    "openshift-controller-manager": "openshift-controller-manager",
    "operator-lifecycle-manager": "olm-operator",
    "operator-lifecycle-manager-catalog": "catalog-operator",
    "operator-lifecycle-manager-packageserver": "packageserver",
    "storage": "cluster-storage-operator",
}
# Operators whose operand is a DaemonSet of every node.
NODE_OPERATORS = {"dns": "dns-default"}

OPERATORS = tuple(sorted({*CONTROL_PLANE_OPERATORS, *NODE_OPERATORS, *(entry.operator for entry in CLUSTER_WORKLOADS)}))
