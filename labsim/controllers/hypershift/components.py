"""The workloads of a control plane: containers, replicas, and when each appears (fact sheet, section 4.5).

The ages of the documentation's sample are the sum of what each waits for and a derived delay: the operators of the
management side come first, then etcd, then the API server, and everything else after it.
"""

from __future__ import annotations

import dataclasses

from labsim.controllers.hypershift.names import CLUSTER_ANNOTATION, COMPONENT_LABEL, SCHEDULER_NAME
from labsim.model.kinds import DEPLOYMENT, STATEFUL_SET, Kind
from labsim.model.objects import Object, dig, new

READY_CONTAINERS = "labsim.krnl.es/ready-containers"  # how many containers of a pod get ready, where it is not all


@dataclasses.dataclass(frozen=True, slots=True)
class Component:
    """One workload. `after` is the component whose availability it waits for, `delay_s` how long after that it
    appears; `replicas_ha` counts with controllerAvailabilityPolicy HighlyAvailable, otherwise there is one."""

    name: str
    containers: int = 1
    replicas_ha: int = 1
    after: str = "kube-apiserver"
    delay_s: tuple[float, float] = (0.5, 5.0)
    kind: Kind = DEPLOYMENT
    catalog: bool = False


# Made by the operator on the management side itself, before anything else of the control plane exists.
MANAGEMENT = ("control-plane-operator", "cluster-api", "capi-provider")

_EARLY = (0.5, 4.0)
_SERVERS = (15.0, 25.0)
_OPERATORS = (40.0, 75.0)
_LATE = (115.0, 132.0)

COMPONENTS: tuple[Component, ...] = (
    Component("etcd", 3, 3, "", _EARLY, STATEFUL_SET),
    Component("ignition-server", 1, 3, "", _EARLY),
    Component("machine-approver", 1, 1, "", _EARLY),
    Component("cluster-autoscaler", 1, 1, "", _EARLY),
    Component("control-plane-pki-operator", 1, 1, "", _EARLY),
    Component("kube-apiserver", 4, 3, "etcd", (0.5, 3.0)),
    Component("ignition-server-proxy", 1, 3, "ignition-server", _EARLY),
    Component("kube-scheduler", 1, 2, delay_s=_SERVERS),
    Component("openshift-apiserver", 3, 3, delay_s=_SERVERS),
    Component("openshift-oauth-apiserver", 2, 3, delay_s=_SERVERS),
    Component("konnectivity-agent", 1, 2, delay_s=_SERVERS),
    Component("hosted-cluster-config-operator", 1, 1, delay_s=_OPERATORS),
    Component("cluster-version-operator", 1, 1, delay_s=_OPERATORS),
    Component("cluster-network-operator", 1, 1, delay_s=_OPERATORS),
    Component("cluster-node-tuning-operator", 1, 1, delay_s=_OPERATORS),
    Component("cluster-policy-controller", 1, 2, delay_s=_OPERATORS),
    Component("cluster-storage-operator", 1, 1, delay_s=_OPERATORS),
    Component("csi-snapshot-controller-operator", 1, 1, delay_s=_OPERATORS),
    Component("csi-snapshot-controller", 1, 1, "csi-snapshot-controller-operator"),
    Component("dns-operator", 1, 1, delay_s=_OPERATORS),
    Component("ingress-operator", 2, 1, delay_s=_OPERATORS),
    Component("cluster-image-registry-operator", 1, 1, delay_s=_OPERATORS),
    Component("openshift-controller-manager", 1, 2, delay_s=_OPERATORS),
    Component("openshift-route-controller-manager", 1, 2, delay_s=_OPERATORS),
    Component("catalog-operator", 2, 1, delay_s=_OPERATORS),
    Component("olm-operator", 2, 1, delay_s=_OPERATORS),
    Component("packageserver", 2, 3, delay_s=_OPERATORS),
    Component("certified-operators-catalog", 1, 1, delay_s=_OPERATORS, catalog=True),
    Component("community-operators-catalog", 1, 1, delay_s=_OPERATORS, catalog=True),
    Component("redhat-operators-catalog", 1, 1, delay_s=_OPERATORS, catalog=True),
    Component("ovnkube-control-plane", 3, 2, "cluster-network-operator"),
    Component("network-node-identity", 3, 2, "cluster-network-operator"),
    Component("multus-admission-controller", 2, 2, "cluster-network-operator"),
    Component("kube-controller-manager", 1, 2, delay_s=_LATE),
    Component("oauth-openshift", 2, 3, delay_s=_LATE),
)
# The namespace of a control plane enforces the restricted Pod Security Standard; its pods are as the restricted-v2
# security context constraint makes them on OpenShift.
_RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

BY_NAME = {component.name: component for component in COMPONENTS}


def is_available(workload: Object | None) -> bool:
    """Whether a Deployment or StatefulSet has all its replicas available (one that wants none never is)."""
    wanted = dig(workload, "spec", "replicas", default=1)
    return bool(workload) and wanted > 0 and dig(workload, "status", "availableReplicas", default=0) >= wanted


def unavailable_replicas(workload: Object) -> int:
    wanted: int = dig(workload, "spec", "replicas", default=1)
    available: int = dig(workload, "status", "availableReplicas", default=0)
    return max(0, wanted - available)


def workload(
    kind: Kind,
    namespace: str,
    name: str,
    *,
    cluster: str,
    containers: int,
    replicas: int,
    image: str,
    args: tuple[str, ...] = (),
    annotations: dict[str, str] | None = None,
    finalizers: tuple[str, ...] = (),
) -> Object:
    """A Deployment or StatefulSet of a control plane. `cluster` is "<ns>/<name>" of the HostedCluster."""
    labels = {"app": name, COMPONENT_LABEL: name}
    first: Object = {"name": name, "image": image, "securityContext": _RESTRICTED_CONTAINER}
    sidecars = [{**first, "name": f"{name}-{number}"} for number in range(1, containers)]
    if args:
        first["args"] = list(args)
    marks = {CLUSTER_ANNOTATION: cluster, **(annotations or {})}
    template = {
        "metadata": {"labels": labels, "annotations": marks},
        "spec": {
            "schedulerName": SCHEDULER_NAME,
            "securityContext": _RESTRICTED_POD,
            "containers": [first, *sidecars],
        },
    }
    made = new(
        kind,
        namespace,
        name,
        spec={"replicas": replicas, "selector": {"matchLabels": {COMPONENT_LABEL: name}}, "template": template},
    )
    made["metadata"].update(labels=labels, annotations=marks)
    if finalizers:
        made["metadata"]["finalizers"] = list(finalizers)
    return made
