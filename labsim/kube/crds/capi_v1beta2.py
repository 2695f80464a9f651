"""The v1beta2 versions of Cluster API's definitions (cluster-api v1.13.4), and what of them v1beta1 carries too.

Upstream's schemas have no defaults: its webhook sets the replicas, which the default here stands for.
"""

from __future__ import annotations

from labsim.kube.crds.builder import (
    AGE,
    Schema,
    anything,
    array,
    boolean,
    column,
    enum,
    int32,
    int_or_string,
    integer,
    map_of,
    obj,
    string,
    time,
    version,
)
from labsim.kube.crds.capi_fields import (
    ATOMIC_LIST,
    FAILURE,
    KIND_NAME,
    NEW_COUNTS,
    NOT_EMPTY,
    SUBDOMAIN,
    count_fields,
    deprecated,
    label_selector,
    map_list,
    newer_conditions,
    node_info,
    object_name,
    readiness_gates,
    reference,
    replica_counts,
    seconds,
    taints,
    unhealthy_conditions,
)

SCALE: Schema = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def _machine_spec() -> Schema:
    timeouts = ("nodeDeletionTimeoutSeconds", "nodeDrainTimeoutSeconds", "nodeVolumeDetachTimeoutSeconds")
    return obj(
        {
            "clusterName": string(minLength=1, maxLength=63),
            "bootstrap": obj({"configRef": reference(), "dataSecretName": string(minLength=0, maxLength=253)}),
            "infrastructureRef": reference(),
            "version": string(minLength=1, maxLength=256),
            "providerID": string(minLength=1, maxLength=512),
            "failureDomain": string(minLength=1, maxLength=256),
            "minReadySeconds": seconds(),
            "readinessGates": readiness_gates(minItems=1),
            "deletion": obj({field: seconds() for field in timeouts}, **NOT_EMPTY),
            "taints": taints(),
        },
        required=["bootstrap", "clusterName", "infrastructureRef"],
    )


def _template() -> Schema:
    metadata = obj({"labels": map_of(string()), "annotations": map_of(string())}, **NOT_EMPTY)
    return obj({"metadata": metadata, "spec": _machine_spec()}, required=["spec"])


def _naming() -> Schema:
    return obj({"template": string(minLength=1, maxLength=256)}, **NOT_EMPTY)


def _order() -> Schema:
    return obj({"order": enum("Random", "Newest", "Oldest")}, **NOT_EMPTY)


def _condition_column(name: str, kind: str, *, priority: int = 0) -> Schema:
    made = column(name, f'.status.conditions[?(@.type=="{kind}")].status')
    return {**made, "priority": priority} if priority else made


_PAUSED = _condition_column("Paused", "Paused", priority=10)


def _wide(name: str, path: str, kind: str = "string") -> Schema:
    return {**column(name, path, kind), "priority": 10}


def machine() -> Schema:
    """Machine in v1beta2, which is not the stored version."""
    address = obj(
        {
            "type": enum("Hostname", "ExternalIP", "InternalIP", "ExternalDNS", "InternalDNS"),
            "address": string(minLength=1, maxLength=256),
        },
        required=["address", "type"],
    )
    phases = ("Pending", "Provisioning", "Provisioned", "Running", "Updating", "Deleting", "Deleted", "Failed")
    status = obj(
        {
            "conditions": newer_conditions(),
            "initialization": obj(
                {"bootstrapDataSecretCreated": boolean(), "infrastructureProvisioned": boolean()}, **NOT_EMPTY
            ),
            "nodeRef": obj({"name": object_name()}, required=["name"]),
            "nodeInfo": node_info(),
            "lastUpdated": time(),
            "addresses": array(address, maxItems=256, **ATOMIC_LIST),
            "failureDomain": string(minLength=1, maxLength=256),
            "phase": enum(*phases, "Unknown"),
            "certificatesExpiryDate": time(),
            "observedGeneration": integer(minimum=1),
            "deletion": obj({"nodeDrainStartTime": time(), "waitForNodeVolumeDetachStartTime": time()}),
            "deprecated": deprecated(**FAILURE),
        },
        **NOT_EMPTY,
    )
    columns = [
        column("Cluster", ".spec.clusterName"),
        column("Node Name", ".status.nodeRef.name"),
        _wide("Provider ID", ".spec.providerID"),
        column("Failure domain", ".status.failureDomain"),
        _condition_column("Ready", "Ready"),
        _condition_column("Available", "Available"),
        _condition_column("Up-to-date", "UpToDate"),
        _wide("Internal-IP", '.status.addresses[?(@.type=="InternalIP")].address'),
        _wide("External-IP", '.status.addresses[?(@.type=="ExternalIP")].address'),
        _wide("OS-Image", ".status.nodeInfo.osImage"),
        _PAUSED,
        column("Phase", ".status.phase"),
        AGE,
        column("Version", ".spec.version"),
    ]
    return _version(_machine_spec(), status, columns)


_COUNT_COLUMNS = (
    column("Desired", ".spec.replicas", "integer"),
    column("Current", ".status.replicas", "integer"),
    column("Ready", ".status.readyReplicas", "integer"),
    column("Available", ".status.availableReplicas", "integer"),
    column("Up-to-date", ".status.upToDateReplicas", "integer"),
    _PAUSED,
)


def machine_set() -> Schema:
    """MachineSet in v1beta2."""
    spec = obj(
        {
            "clusterName": string(minLength=1, maxLength=63),
            "replicas": int32(default=1),
            "selector": label_selector(),
            "template": _template(),
            "machineNaming": _naming(),
            "deletion": _order(),
        },
        required=["clusterName", "selector", "template"],
    )
    old = deprecated(**FAILURE, **count_fields("fullyLabeledReplicas", "readyReplicas", "availableReplicas"))
    status = _counted_status(old)
    columns = [
        column("Cluster", ".spec.clusterName"),
        *_COUNT_COLUMNS,
        AGE,
        column("Version", ".spec.template.spec.version"),
    ]
    return _version(spec, status, columns, scale=SCALE)


def _counted_status(old: Schema, **extra: Schema) -> Schema:
    fields = {
        "conditions": newer_conditions(),
        "selector": string(minLength=1, maxLength=4096),
        **count_fields(*NEW_COUNTS),
        "observedGeneration": integer(minimum=1),
        "deprecated": old,
        **extra,
    }
    return obj(fields, **NOT_EMPTY)


def machine_deployment() -> Schema:
    """MachineDeployment in v1beta2."""
    rolling = obj({"maxSurge": int_or_string(), "maxUnavailable": int_or_string()}, **NOT_EMPTY)
    strategy = obj(
        {"type": enum("RollingUpdate", "OnDelete"), "rollingUpdate": rolling}, required=["type"], **NOT_EMPTY
    )
    spec = obj(
        {
            "clusterName": string(minLength=1, maxLength=63),
            "replicas": int32(default=1),
            "rollout": obj({"after": time(), "strategy": strategy}, **NOT_EMPTY),
            "selector": label_selector(),
            "template": _template(),
            "machineNaming": _naming(),
            "remediation": obj({"maxInFlight": int_or_string()}, **NOT_EMPTY),
            "deletion": _order(),
            "paused": boolean(),
        },
        required=["clusterName", "selector", "template"],
    )
    old = deprecated(**count_fields("updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"))
    status = _counted_status(old, phase=enum("ScalingUp", "ScalingDown", "Running", "Failed", "Unknown"))
    columns = [
        column("Cluster", ".spec.clusterName"),
        _condition_column("Available", "Available"),
        *_COUNT_COLUMNS,
        column("Phase", ".status.phase"),
        AGE,
        column("Version", ".spec.template.spec.version"),
    ]
    return _version(spec, status, columns, scale=SCALE)


def machine_health_check() -> Schema:
    """MachineHealthCheck in v1beta2."""
    checks = obj(
        {
            "nodeStartupTimeoutSeconds": seconds(),
            "unhealthyNodeConditions": unhealthy_conditions("timeoutSeconds", seconds(), of_nodes=True),
            "unhealthyMachineConditions": unhealthy_conditions("timeoutSeconds", seconds(), of_nodes=False),
        },
        **NOT_EMPTY,
    )
    trigger = obj(
        {
            "unhealthyLessThanOrEqualTo": int_or_string(),
            "unhealthyInRange": string(minLength=1, maxLength=32, pattern=r"^\[[0-9]+-[0-9]+\]$"),
        },
        **NOT_EMPTY,
    )
    api_version = string(minLength=1, maxLength=317, pattern=rf"^{SUBDOMAIN}\/[a-z]([-a-z0-9]*[a-z0-9])?$")
    template = {"apiVersion": api_version, "kind": string(minLength=1, maxLength=63, pattern=KIND_NAME)}
    template_reference = obj({**template, "name": object_name()}, required=["apiVersion", "kind", "name"])
    spec = obj(
        {
            "clusterName": string(minLength=1, maxLength=63),
            "selector": label_selector(),
            "checks": checks,
            "remediation": obj({"triggerIf": trigger, "templateRef": template_reference}, **NOT_EMPTY),
        },
        required=["clusterName", "selector"],
    )
    counts = ("expectedMachines", "currentHealthy", "remediationsAllowed")
    status = obj(
        {
            "conditions": newer_conditions(),
            **{name: int32(minimum=0) for name in counts},
            "observedGeneration": integer(minimum=1),
            "targets": array(string(minLength=1, maxLength=253), maxItems=10000, **ATOMIC_LIST),
            "deprecated": deprecated(),
        },
        **NOT_EMPTY,
    )
    columns = [
        column("Cluster", ".spec.clusterName"),
        column("Replicas", ".status.expectedMachines", "integer"),
        column("Healthy", ".status.currentHealthy", "integer"),
        _PAUSED,
        AGE,
    ]
    return _version(spec, status, columns)


def cluster() -> Schema:
    """Cluster in v1beta2."""
    blocks = array(string(minLength=1, maxLength=43), minItems=1, maxItems=100, **ATOMIC_LIST)
    ranges = obj({"cidrBlocks": blocks}, required=["cidrBlocks"])
    port = int32(minimum=1, maximum=65535)
    namespace = string(minLength=1, maxLength=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    class_reference = obj({"name": object_name(), "namespace": namespace}, required=["name"])
    topology = obj(
        {
            "classRef": class_reference,
            "version": string(minLength=1, maxLength=256),
            "controlPlane": anything(),
            "workers": anything(),
            "variables": array(anything()),
        },
        required=["classRef", "version"],
    )
    network = {
        "apiServerPort": port,
        "pods": ranges,
        "services": ranges,
        "serviceDomain": string(minLength=1, maxLength=253),
    }
    spec = obj(
        {
            "paused": boolean(),
            "clusterNetwork": obj(network, **NOT_EMPTY),
            "controlPlaneEndpoint": obj({"host": string(minLength=1, maxLength=512), "port": port}, **NOT_EMPTY),
            "controlPlaneRef": reference(),
            "infrastructureRef": reference(),
            "topology": topology,
            "availabilityGates": readiness_gates(minItems=1),
        },
        **NOT_EMPTY,
    )
    domain = obj(
        {
            "name": string(minLength=1, maxLength=256),
            "controlPlane": boolean(),
            "attributes": map_of(string()),
        },
        required=["name"],
    )
    status = obj(
        {
            "conditions": newer_conditions(),
            "initialization": obj(
                {"controlPlaneInitialized": boolean(), "infrastructureProvisioned": boolean()}, **NOT_EMPTY
            ),
            "controlPlane": replica_counts(),
            "workers": replica_counts(),
            "failureDomains": map_list(domain, "name", minItems=1, maxItems=100),
            "phase": enum("Pending", "Provisioning", "Provisioned", "Deleting", "Failed", "Unknown"),
            "observedGeneration": integer(minimum=1),
            "deprecated": deprecated(**FAILURE),
        },
        **NOT_EMPTY,
    )

    def counted(letters: str, part: str) -> list[Schema]:
        return [
            column(f"{letters} Desired", f".status.{part}.desiredReplicas", "integer"),
            _wide(f"{letters} Current", f".status.{part}.replicas", "integer"),
            _wide(f"{letters} Ready", f".status.{part}.readyReplicas", "integer"),
            column(f"{letters} Available", f".status.{part}.availableReplicas", "integer"),
            column(f"{letters} Up-to-date", f".status.{part}.upToDateReplicas", "integer"),
        ]

    columns = [
        column("ClusterClass", ".spec.topology.classRef.name"),
        _condition_column("Available", "Available"),
        *counted("CP", "controlPlane"),
        *counted("W", "workers"),
        _PAUSED,
        column("Phase", ".status.phase"),
        AGE,
        column("Version", ".spec.topology.version"),
    ]
    return _version(spec, status, columns)


def _version(spec: Schema, status: Schema, columns: list[Schema], *, scale: Schema | None = None) -> Schema:
    return version("v1beta2", spec=spec, status=status, columns=columns, scale=scale, storage=False, required=["spec"])
