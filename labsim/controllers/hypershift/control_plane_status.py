"""The status of a HostedControlPlane, computed from what exists (fact sheet, section 1.4)."""

from __future__ import annotations

from collections.abc import Mapping

from labsim.controllers.hypershift.components import COMPONENTS, is_available, unavailable_replicas
from labsim.controllers.hypershift.desired import Condition, write_status
from labsim.controllers.hypershift.publishing import Endpoint
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import Program, get, list_all
from labsim.model.kinds import DEPLOYMENT, EVENT, HOSTED_CONTROL_PLANE, PERSISTENT_VOLUME_CLAIM, SECRET, STORAGE_CLASS
from labsim.model.objects import Object, annotations_of, condition_status, dig, name_of, namespace_of

AS_EXPECTED = "AsExpected"
_NEEDED = ("kube-apiserver", "konnectivity-server", "oauth-openshift", "ignition-server-proxy")


def write(
    hcp: Object, settings: HyperShiftSettings, endpoints: Mapping[str, Endpoint], workloads: Mapping[str, Object]
) -> Program[Object | None]:
    """Bring status and conditions up to date."""
    namespace, name = namespace_of(hcp), name_of(hcp)
    kubeconfig = yield from get(SECRET, namespace, "admin-kubeconfig")
    password = yield from get(SECRET, namespace, "kubeadmin-password")
    etcd = yield from _etcd(hcp, workloads)
    conditions: dict[str, Condition | None] = {
        "ValidHostedControlPlaneConfiguration": Condition("True", AS_EXPECTED, "Configuration passes validation"),
        "ValidReleaseInfo": Condition("True", AS_EXPECTED, "All is well"),
        "ExternalDNSReachable": Condition("Unknown", "StatusUnknown", "External DNS is not configured"),
        "InfrastructureReady": _infrastructure(endpoints),
        "EtcdAvailable": etcd,
        "KubeAPIServerAvailable": _api_server(workloads),
        "Degraded": _degraded(workloads),
    }
    available = _available(hcp, conditions, kubeconfig is not None, workloads)
    conditions["Available"] = available
    up = available.status == "True"
    fields: Object = {"ready": up, "externalManagedControlPlane": True}
    if is_available(workloads.get("kube-apiserver")):
        fields["initialized"] = True
    api = endpoints.get("kube-apiserver")
    if api is not None:
        fields["controlPlaneEndpoint"] = {"host": api.host, "port": api.port}
    if kubeconfig is not None:
        fields["kubeConfig"] = {"name": "admin-kubeconfig", "key": "kubeconfig"}
    if password is not None:
        fields["kubeadminPassword"] = {"name": "kubeadmin-password"}
    version = settings.version_of(str(dig(hcp, "spec", "releaseImage", default="")))
    if version is not None:
        fields["version"] = version
    return (yield from write_status(HOSTED_CONTROL_PLANE, namespace, name, conditions=conditions, fields=fields))


def _infrastructure(endpoints: Mapping[str, Endpoint]) -> Condition:
    if all(name in endpoints for name in _NEEDED):
        return Condition("True", AS_EXPECTED, "All is well")
    return Condition("False", "WaitingOnInfrastructureReady", "Cluster infrastructure is still provisioning")


def _api_server(workloads: Mapping[str, Object]) -> Condition:
    deployment = workloads.get("kube-apiserver")
    if deployment is None:
        return Condition("False", "NotFound", "Kube APIServer deployment not found")
    if not is_available(deployment):
        return Condition("False", "WaitingForAvailable", "Waiting for Kube APIServer deployment to become available")
    return Condition("True", AS_EXPECTED, "Kube APIServer deployment is available")


def _etcd(hcp: Object, workloads: Mapping[str, Object]) -> Program[Condition]:
    stateful_set = workloads.get("etcd")
    if stateful_set is None:
        return Condition("False", "StatefulSetNotFound", "Etcd StatefulSet not found")
    ready: int = dig(stateful_set, "status", "readyReplicas", default=0)
    if ready * 2 > dig(stateful_set, "spec", "replicas", default=1):
        return Condition("True", "QuorumAvailable")
    claim = yield from get(PERSISTENT_VOLUME_CLAIM, namespace_of(hcp), "data-etcd-0")
    if claim is not None and dig(claim, "status", "phase", default="Pending") == "Pending":
        text = yield from _why_pending(claim)
        if text:
            return Condition("False", "EtcdWaitingForQuorum", f"Etcd volume claim data-etcd-0 pending: {text}")
    return Condition("False", "EtcdWaitingForQuorum", "Waiting for etcd to reach quorum")


def _why_pending(claim: Object) -> Program[str]:
    """What the events of a claim say; without events, what the volume controller would say."""
    events = yield from list_all(EVENT, namespace_of(claim), fields=f"involvedObject.name={name_of(claim)}", live=True)
    for event in reversed(events):
        if dig(event, "involvedObject", "kind") == PERSISTENT_VOLUME_CLAIM.kind and event.get("message"):
            return str(event["message"])
    wanted = dig(claim, "spec", "storageClassName")
    classes = yield from list_all(STORAGE_CLASS, live=True)
    if wanted:
        known = any(name_of(entry) == wanted for entry in classes)
        return "" if known else f'storageclass.storage.k8s.io "{wanted}" not found'
    default = "storageclass.kubernetes.io/is-default-class"
    if any(annotations_of(entry).get(default) == "true" for entry in classes):
        return ""
    return "no persistent volumes available for this claim and no storage class is set"


def _degraded(workloads: Mapping[str, Object]) -> Condition:
    deployments = [name for name in sorted(workloads) if workloads[name]["kind"] == DEPLOYMENT.kind]
    short = [(name, count) for name in deployments if (count := unavailable_replicas(workloads[name])) > 0]
    # One container of the ingress operator waits for workers; upstream does not count that as degraded.
    short = [(name, count) for name, count in short if name != "ingress-operator"]
    if not short:
        return Condition("False", AS_EXPECTED, "The hosted cluster is not degraded")
    text = "\n".join(f"{name} deployment has {count} unavailable replicas" for name, count in short)
    return Condition("True", "UnavailableReplicas", text)


def _available(
    hcp: Object, conditions: Mapping[str, Condition | None], has_kubeconfig: bool, workloads: Mapping[str, Object]
) -> Condition:
    """The first reason that holds; once available, missing components no longer count."""
    infrastructure = conditions["InfrastructureReady"]
    if infrastructure is not None and infrastructure.status != "True":
        return infrastructure
    if not has_kubeconfig:
        text = "Waiting for hosted control plane kubeconfig to be created"
        return Condition("False", "KubeconfigWaitingForCreate", text)
    for kind in ("EtcdAvailable", "KubeAPIServerAvailable"):
        entry = conditions[kind]
        if entry is not None and entry.status != "True":
            return entry
    if condition_status(hcp, "Available") != "True":
        management = dig(hcp, "spec", "olmCatalogPlacement", default="management") == "management"
        expected = [
            entry.name for entry in COMPONENTS if entry.name not in _UNCOUNTED and (management or not entry.catalog)
        ]
        if not any(name in workloads for name in expected):
            return Condition("False", "ComponentsNotAvailable", "Control plane components have not been created yet")
        waiting = sorted(name for name in expected if not is_available(workloads.get(name)))
        if waiting:
            text = f"Waiting for components to be available: {', '.join(waiting)}"
            return Condition("False", "ComponentsNotAvailable", text)
    return Condition("True", AS_EXPECTED, "The hosted control plane is available")


# Not part of the first rollout: idle without autoscaling, half ready without workers.
_UNCOUNTED = ("cluster-autoscaler", "ingress-operator")
