"""CustomResourceDefinitions of Cluster API (v1beta1) and of its agent provider (v1alpha1 and v1beta1).

Columns and scale paths are those of cluster-api's v1beta1 types; the provider's kinds have no columns.
Cluster API reads the label `cluster.x-k8s.io/v1beta1` of a provider's CRD to find the version to use.
"""

from __future__ import annotations

from labsim.kube.crds.builder import (
    AGE,
    Schema,
    anything,
    array,
    boolean,
    column,
    conditions,
    crd,
    enum,
    int32,
    int_or_string,
    integer,
    map_of,
    obj,
    open_obj,
    string,
    time,
    version,
)
from labsim.model.kinds import (
    AGENT_CLUSTER,
    AGENT_MACHINE,
    AGENT_MACHINE_TEMPLATE,
    CLUSTER,
    MACHINE,
    MACHINE_DEPLOYMENT,
    MACHINE_HEALTH_CHECK,
    MACHINE_SET,
    Kind,
)

_CATEGORIES = ["cluster-api"]
_ATOMIC_MAP: Schema = {"x-kubernetes-map-type": "atomic"}
_ATOMIC_LIST: Schema = {"x-kubernetes-list-type": "atomic"}
_PROVIDER_LABELS = {"cluster.x-k8s.io/provider": "agent", "cluster.x-k8s.io/v1beta1": "v1beta1"}
_V1ALPHA1 = "v1alpha1 is a deprecated version for {kind}"
_SCALE: Schema = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def crds() -> list[Schema]:
    """Every CRD of this family."""
    return [
        _cluster(),
        _machine_deployment(),
        _machine_set(),
        _machine(),
        _machine_health_check(),
        *_provider(),
    ]


def _object_reference() -> Schema:
    fields = ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
    return obj({field: string() for field in fields}, **_ATOMIC_MAP)


def _endpoint() -> Schema:
    return obj({"host": string(), "port": int32()}, required=["host", "port"])


def _desired() -> Schema:
    """The replicas that are asked for; upstream gives this column priority 10, so only `-o wide` shows it."""
    return {**column("Desired", ".spec.replicas", "integer"), "priority": 10}


def _label_selector() -> Schema:
    expression = obj(
        {"key": string(), "operator": string(), "values": array(string(), **_ATOMIC_LIST)},
        required=["key", "operator"],
    )
    return obj(
        {
            "matchExpressions": array(expression, **_ATOMIC_LIST),
            "matchLabels": map_of(string()),
        },
        **_ATOMIC_MAP,
    )


def _conditions() -> Schema:
    """v1beta1 conditions: with a severity, and a reason that may be empty."""
    return conditions(severity=string())


def _addresses() -> Schema:
    return array(obj({"type": string(), "address": string()}, required=["type", "address"]))


def _object_meta() -> Schema:
    return obj({"labels": map_of(string()), "annotations": map_of(string())})


def _machine_spec() -> Schema:
    return obj(
        {
            "clusterName": string(minLength=1),
            "bootstrap": obj({"configRef": _object_reference(), "dataSecretName": string(nullable=True)}),
            "infrastructureRef": _object_reference(),
            "version": string(),
            "providerID": string(),
            "failureDomain": string(),
            "readinessGates": array(
                obj({"conditionType": string(), "polarity": enum("Positive", "Negative")}, required=["conditionType"])
            ),
            "nodeDrainTimeout": string(),
            "nodeVolumeDetachTimeout": string(),
            "nodeDeletionTimeout": string(),
        },
        required=["bootstrap", "clusterName", "infrastructureRef"],
    )


def _machine_template() -> Schema:
    return obj({"metadata": _object_meta(), "spec": _machine_spec()})


def _cluster() -> Schema:
    spec = obj(
        {
            "paused": boolean(),
            "clusterNetwork": obj(
                {
                    "apiServerPort": int32(),
                    "pods": obj({"cidrBlocks": array(string())}, required=["cidrBlocks"]),
                    "services": obj({"cidrBlocks": array(string())}, required=["cidrBlocks"]),
                    "serviceDomain": string(),
                }
            ),
            "controlPlaneEndpoint": _endpoint(),
            "controlPlaneRef": _object_reference(),
            "infrastructureRef": _object_reference(),
            "topology": open_obj({"class": string(), "version": string()}),
        }
    )
    status = obj(
        {
            "phase": string(),
            "infrastructureReady": boolean(),
            "controlPlaneReady": boolean(),
            "failureReason": string(),
            "failureMessage": string(),
            "failureDomains": map_of(anything()),
            "observedGeneration": integer(),
            "conditions": _conditions(),
        }
    )
    columns = [
        column("ClusterClass", ".spec.topology.class"),
        column("Phase", ".status.phase"),
        AGE,
        column("Version", ".spec.topology.version"),
    ]
    return crd(
        CLUSTER,
        [version("v1beta1", spec=spec, status=status, columns=columns)],
        short_names=["cl"],
        categories=_CATEGORIES,
    )


def _machine_deployment() -> Schema:
    rolling = obj(
        {
            "maxSurge": int_or_string(),
            "maxUnavailable": int_or_string(),
            "deletePolicy": enum("Random", "Newest", "Oldest"),
        }
    )
    strategy = obj(
        {
            "type": enum("RollingUpdate", "OnDelete"),
            "rollingUpdate": rolling,
            "remediation": obj({"maxInFlight": int_or_string()}),
        }
    )
    spec = obj(
        {
            "clusterName": string(minLength=1),
            "replicas": int32(default=1),
            "rolloutAfter": time(),
            "selector": _label_selector(),
            "template": _machine_template(),
            "strategy": strategy,
            "machineNamingStrategy": obj({"template": string()}),
            "minReadySeconds": int32(),
            "revisionHistoryLimit": int32(),
            "paused": boolean(),
            "progressDeadlineSeconds": int32(),
        },
        required=["clusterName", "selector", "template"],
    )
    status = obj(
        {
            "observedGeneration": integer(),
            "selector": string(),
            "replicas": int32(),
            "updatedReplicas": int32(),
            "readyReplicas": int32(),
            "availableReplicas": int32(),
            "unavailableReplicas": int32(),
            "phase": string(),
            "conditions": _conditions(),
        }
    )
    columns = [
        column("Cluster", ".spec.clusterName"),
        _desired(),
        column("Replicas", ".status.replicas", "integer"),
        column("Ready", ".status.readyReplicas", "integer"),
        column("Updated", ".status.updatedReplicas", "integer"),
        column("Unavailable", ".status.unavailableReplicas", "integer"),
        column("Phase", ".status.phase"),
        AGE,
        column("Version", ".spec.template.spec.version"),
    ]
    return crd(
        MACHINE_DEPLOYMENT,
        [version("v1beta1", spec=spec, status=status, columns=columns, scale=_SCALE)],
        short_names=["md"],
        categories=_CATEGORIES,
    )


def _machine_set() -> Schema:
    spec = obj(
        {
            "clusterName": string(minLength=1),
            "replicas": int32(default=1),
            "minReadySeconds": int32(),
            "deletePolicy": enum("Random", "Newest", "Oldest"),
            "selector": _label_selector(),
            "template": _machine_template(),
            "machineNamingStrategy": obj({"template": string()}),
        },
        required=["clusterName", "selector"],
    )
    status = obj(
        {
            "selector": string(),
            "replicas": int32(),
            "fullyLabeledReplicas": int32(),
            "readyReplicas": int32(),
            "availableReplicas": int32(),
            "observedGeneration": integer(),
            "failureReason": string(),
            "failureMessage": string(),
            "conditions": _conditions(),
        }
    )
    columns = [
        column("Cluster", ".spec.clusterName"),
        _desired(),
        column("Replicas", ".status.replicas", "integer"),
        column("Ready", ".status.readyReplicas", "integer"),
        column("Available", ".status.availableReplicas", "integer"),
        AGE,
        column("Version", ".spec.template.spec.version"),
    ]
    return crd(
        MACHINE_SET,
        [version("v1beta1", spec=spec, status=status, columns=columns, scale=_SCALE)],
        short_names=["ms"],
        categories=_CATEGORIES,
    )


def _machine() -> Schema:
    status = obj(
        {
            "nodeRef": _object_reference(),
            "nodeInfo": open_obj({}),
            "lastUpdated": time(),
            "failureReason": string(),
            "failureMessage": string(),
            "addresses": _addresses(),
            "phase": string(),
            "certificatesExpiryDate": time(),
            "bootstrapReady": boolean(),
            "infrastructureReady": boolean(),
            "observedGeneration": integer(),
            "conditions": _conditions(),
            "deletion": obj({"nodeDrainStartTime": time(), "waitForNodeVolumeDetachStartTime": time()}),
        }
    )
    columns = [
        column("Cluster", ".spec.clusterName"),
        column("NodeName", ".status.nodeRef.name"),
        column("ProviderID", ".spec.providerID"),
        column("Phase", ".status.phase"),
        AGE,
        column("Version", ".spec.version"),
    ]
    return crd(
        MACHINE,
        [version("v1beta1", spec=_machine_spec(), status=status, columns=columns)],
        short_names=["ma"],
        categories=_CATEGORIES,
    )


def _machine_health_check() -> Schema:
    unhealthy = obj(
        {"type": string(minLength=1), "status": string(minLength=1), "timeout": string()},
        required=["status", "timeout", "type"],
    )
    spec = obj(
        {
            "clusterName": string(minLength=1),
            "selector": _label_selector(),
            "unhealthyConditions": array(unhealthy),
            "maxUnhealthy": int_or_string(),
            "unhealthyRange": string(pattern=r"^\[[0-9]+-[0-9]+\]$"),
            "nodeStartupTimeout": string(),
            "remediationTemplate": _object_reference(),
        },
        required=["clusterName", "selector"],
    )
    status = obj(
        {
            "expectedMachines": int32(minimum=0),
            "currentHealthy": int32(minimum=0),
            "remediationsAllowed": int32(minimum=0),
            "observedGeneration": integer(),
            "targets": array(string()),
            "conditions": _conditions(),
        }
    )
    columns = [
        column("Cluster", ".spec.clusterName"),
        column("ExpectedMachines", ".status.expectedMachines", "integer"),
        column("MaxUnhealthy", ".spec.maxUnhealthy"),
        column("CurrentHealthy", ".status.currentHealthy", "integer"),
        AGE,
    ]
    return crd(
        MACHINE_HEALTH_CHECK,
        [version("v1beta1", spec=spec, status=status, columns=columns)],
        short_names=["mhc", "mhcs"],
        categories=_CATEGORIES,
    )


def _provider() -> list[Schema]:
    namespaced_name = obj({"name": string(), "namespace": string()}, required=["name", "namespace"])
    cluster_spec = obj(
        {
            "controlPlaneEndpoint": _endpoint(),
            "ignitionEndpoint": obj({"url": string(), "caCertificateReference": namespaced_name}, required=["url"]),
        }
    )
    cluster_status = obj(
        {
            "ready": boolean(),
            "clusterDeploymentReference": obj({"name": string(), "namespace": string()}),
            "failureDomains": map_of(anything()),
            "conditions": _conditions(),
        }
    )
    machine_spec = obj({"agentLabelSelector": _label_selector(), "providerID": string()})
    machine_status = obj(
        {
            "ready": boolean(),
            "agentRef": obj({"name": string(), "namespace": string()}),
            "addresses": _addresses(),
            "failureReason": string(),
            "failureMessage": string(),
            "conditions": _conditions(),
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
        categories=_CATEGORIES if short_names else None,
        labels=_PROVIDER_LABELS,
    )
