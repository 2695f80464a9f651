"""CustomResourceDefinitions of Cluster API (v1beta1 and v1beta2) and of its agent provider (v1alpha1 and v1beta1).

Cluster API's kinds are stored in v1beta1, as HyperShift installs them; `capi_v1beta2.py` has their other version.
Columns and scale paths are those of cluster-api's types; the provider's kinds have no columns.
Cluster API reads the label `cluster.x-k8s.io/v1beta1` of a provider's CRD to find the version to use.
"""

from __future__ import annotations

from labsim.kube.crds import capi_fields, capi_provider, capi_v1beta2
from labsim.kube.crds.builder import (
    AGE,
    Schema,
    anything,
    array,
    boolean,
    column,
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


def crds() -> list[Schema]:
    """Every CRD of this family."""
    return [
        _cluster(),
        _machine_deployment(),
        _machine_set(),
        _machine(),
        _machine_health_check(),
        *capi_provider.crds(),
    ]


def _object_reference() -> Schema:
    fields = ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
    return obj({field: string() for field in fields}, **_ATOMIC_MAP)


def _desired() -> Schema:
    """The replicas that are asked for; upstream gives this column priority 10, so only `-o wide` shows it."""
    return {**column("Desired", ".spec.replicas", "integer"), "priority": 10}


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
            "taints": capi_fields.taints(),
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
            "controlPlaneEndpoint": capi_fields.endpoint(),
            "controlPlaneRef": _object_reference(),
            "infrastructureRef": _object_reference(),
            "topology": open_obj({"class": string(), "version": string()}),
            "availabilityGates": capi_fields.readiness_gates(),
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
            "conditions": capi_fields.older_conditions(),
            "v1beta2": _newer_status(controlPlane=capi_fields.replica_counts(), workers=capi_fields.replica_counts()),
        }
    )
    columns = [
        column("ClusterClass", ".spec.topology.class"),
        column("Phase", ".status.phase"),
        AGE,
        column("Version", ".spec.topology.version"),
    ]
    return _converted(CLUSTER, ["cl"], capi_v1beta2.cluster(), spec=spec, status=status, columns=columns)


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
            "selector": capi_fields.label_selector(),
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
            "conditions": capi_fields.older_conditions(),
            "v1beta2": _newer_status("readyReplicas", "availableReplicas", "upToDateReplicas"),
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
    return _converted(
        MACHINE_DEPLOYMENT,
        ["md"],
        capi_v1beta2.machine_deployment(),
        spec=spec,
        status=status,
        columns=columns,
        scale=capi_v1beta2.SCALE,
    )


def _machine_set() -> Schema:
    spec = obj(
        {
            "clusterName": string(minLength=1),
            "replicas": int32(default=1),
            "minReadySeconds": int32(),
            "deletePolicy": enum("Random", "Newest", "Oldest"),
            "selector": capi_fields.label_selector(),
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
            "conditions": capi_fields.older_conditions(),
            "v1beta2": _newer_status("readyReplicas", "availableReplicas", "upToDateReplicas"),
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
    return _converted(
        MACHINE_SET,
        ["ms"],
        capi_v1beta2.machine_set(),
        spec=spec,
        status=status,
        columns=columns,
        scale=capi_v1beta2.SCALE,
    )


def _machine() -> Schema:
    status = obj(
        {
            "nodeRef": _object_reference(),
            "nodeInfo": open_obj({}),
            "lastUpdated": time(),
            "failureReason": string(),
            "failureMessage": string(),
            "addresses": capi_fields.addresses(),
            "phase": string(),
            "certificatesExpiryDate": time(),
            "bootstrapReady": boolean(),
            "infrastructureReady": boolean(),
            "observedGeneration": integer(),
            "conditions": capi_fields.older_conditions(),
            "v1beta2": _newer_status(),
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
    return _converted(MACHINE, ["ma"], capi_v1beta2.machine(), spec=_machine_spec(), status=status, columns=columns)


def _machine_health_check() -> Schema:
    unhealthy = obj(
        {"type": string(minLength=1), "status": string(minLength=1), "timeout": string()},
        required=["status", "timeout", "type"],
    )
    spec = obj(
        {
            "clusterName": string(minLength=1),
            "selector": capi_fields.label_selector(),
            "unhealthyConditions": array(unhealthy),
            "unhealthyMachineConditions": capi_fields.unhealthy_conditions("timeout", string(), of_nodes=False),
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
            "conditions": capi_fields.older_conditions(),
            "v1beta2": _newer_status(),
        }
    )
    columns = [
        column("Cluster", ".spec.clusterName"),
        column("ExpectedMachines", ".status.expectedMachines", "integer"),
        column("MaxUnhealthy", ".spec.maxUnhealthy"),
        column("CurrentHealthy", ".status.currentHealthy", "integer"),
        AGE,
    ]
    return _converted(
        MACHINE_HEALTH_CHECK,
        ["mhc", "mhcs"],
        capi_v1beta2.machine_health_check(),
        spec=spec,
        status=status,
        columns=columns,
    )


def _newer_status(*counts: str, **extra: Schema) -> Schema:
    """What controllers of the v1beta2 generation say, as v1beta1 carries it."""
    return obj({"conditions": capi_fields.newer_conditions(), **{name: int32() for name in counts}, **extra})


def _converted(
    kind: Kind,
    short_names: list[str],
    newer: Schema,
    *,
    spec: Schema,
    status: Schema,
    columns: list[Schema],
    scale: Schema | None = None,
) -> Schema:
    """Both versions as HyperShift installs them: v1beta1 deprecated and stored, its operator converts."""
    older = version("v1beta1", spec=spec, status=status, columns=columns, scale=scale)
    made = crd(kind, [{**older, "deprecated": True}, newer], short_names=short_names, categories=_CATEGORIES)
    service = {"name": "operator", "namespace": "hypershift", "path": "/convert", "port": 443}
    made["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1beta1", "v1beta2"]},
    }
    return made
