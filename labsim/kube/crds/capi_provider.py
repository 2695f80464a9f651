"""CustomResourceDefinitions of Cluster API's agent provider (v1alpha1 and v1beta1), which have no columns.

Cluster API reads the label `cluster.x-k8s.io/v1beta1` of a provider's CRD to find the version to use.
"""

from __future__ import annotations

from labsim.kube.crds import capi_fields
from labsim.kube.crds.builder import Schema, anything, boolean, crd, map_of, obj, string, version
from labsim.model.kinds import AGENT_CLUSTER, AGENT_MACHINE, AGENT_MACHINE_TEMPLATE, Kind

_PROVIDER_LABELS = {"cluster.x-k8s.io/provider": "agent", "cluster.x-k8s.io/v1beta1": "v1beta1"}
_V1ALPHA1 = "v1alpha1 is a deprecated version for {kind}"


def crds() -> list[Schema]:
    """AgentCluster, AgentMachine and AgentMachineTemplate."""
    namespaced_name = obj({"name": string(), "namespace": string()}, required=["name", "namespace"])
    cluster_spec = obj(
        {
            "controlPlaneEndpoint": capi_fields.endpoint(),
            "ignitionEndpoint": obj({"url": string(), "caCertificateReference": namespaced_name}, required=["url"]),
        }
    )
    cluster_status = obj(
        {
            "ready": boolean(),
            "clusterDeploymentReference": obj({"name": string(), "namespace": string()}),
            "failureDomains": map_of(anything()),
            "conditions": capi_fields.older_conditions(),
        }
    )
    machine_spec = obj({"agentLabelSelector": capi_fields.label_selector(), "providerID": string()})
    machine_status = obj(
        {
            "ready": boolean(),
            "agentRef": obj({"name": string(), "namespace": string()}),
            "addresses": capi_fields.addresses(),
            "failureReason": string(),
            "failureMessage": string(),
            "conditions": capi_fields.older_conditions(),
        }
    )
    template_spec = obj({"template": obj({"spec": machine_spec}, required=["spec"])}, required=["template"])
    return [
        _two_versions(AGENT_CLUSTER, cluster_spec, cluster_status),
        _two_versions(AGENT_MACHINE, machine_spec, machine_status),
        _two_versions(AGENT_MACHINE_TEMPLATE, template_spec, None, short_names=["agentmt"]),
    ]


def _two_versions(kind: Kind, spec: Schema, status: Schema | None, *, short_names: list[str] | None = None) -> Schema:
    """Both versions have one shape and no conversion; calls of the older one answer with a warning header."""
    made = [
        version(
            name,
            spec=spec,
            status=status,
            status_subresource=status is not None,
            storage=name == "v1beta1",
            deprecation_warning=_V1ALPHA1.format(kind=kind.kind) if name == "v1alpha1" else "",
        )
        for name in ("v1alpha1", "v1beta1")
    ]
    return crd(
        kind,
        made,
        short_names=short_names,
        categories=["cluster-api"] if short_names else None,
        labels=_PROVIDER_LABELS,
    )
