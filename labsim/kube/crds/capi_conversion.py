"""Cluster API's objects between v1beta1 and v1beta2, as its conversion webhook makes them.

Facts: cluster-api v1.13.4, which HyperShift serves the webhook with. What v1beta1 cannot say is kept in an annotation
of the v1beta1 object. A v1beta2 writer loses, as upstream: what a reference says beyond group, kind and name, fractions
of a second, `progressDeadlineSeconds`, `revisionHistoryLimit`, and empty objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from labsim.kube.conversion import Conversion, DefinitionOf
from labsim.kube.crds.capi_moves import (
    carry,
    carry_pointers,
    carry_true,
    deprecated_status,
    newer_checks,
    newer_reference,
    newer_remediation,
    newer_status,
    newer_strategy,
    newer_timeouts,
    older_failure,
    older_health_check,
    older_reference,
    older_status,
    older_strategy,
    older_timeouts,
    put,
    put_pointer,
)
from labsim.kube.crds.capi_topology import newer_topology, older_topology
from labsim.model.kinds import CLUSTER, MACHINE, MACHINE_DEPLOYMENT, MACHINE_HEALTH_CHECK, MACHINE_SET
from labsim.model.objects import Object, dig, namespace_of

DATA_ANNOTATION = "cluster.x-k8s.io/conversion-data"
_COUNTS = ("readyReplicas", "availableReplicas", "upToDateReplicas")
_SET_COUNTS = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
_DEPLOYMENT_COUNTS = ("updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")
_HEALTH_COUNTS = ("expectedMachines", "currentHealthy", "remediationsAllowed")

_Newer = Callable[[Object, Object], tuple[Object, Object]]
_Older = Callable[[Object, DefinitionOf], tuple[Object, Object]]


def conversions() -> dict[str, Conversion]:
    """The conversion of each definition of Cluster API, by its name."""
    return {
        CLUSTER.qualified: _between(_newer_cluster, _older_cluster),
        MACHINE_DEPLOYMENT.qualified: _between(_newer_deployment, _older_deployment),
        MACHINE_SET.qualified: _between(_newer_set, _older_set, remembers=False),
        MACHINE.qualified: _between(_newer_machine, _older_machine),
        MACHINE_HEALTH_CHECK.qualified: _between(_newer_health_check, _older_health_check),
    }


def _between(newer: _Newer, older: _Older, *, remembers: bool = True) -> Conversion:
    """The conversion both ways. remembers: whether the v1beta1 object carries the v1beta2 one in its annotation."""

    def convert(obj: Object, api_version: str, definition_of: DefinitionOf) -> Object:
        metadata = {**obj["metadata"]}
        if api_version.endswith("/v1beta2"):
            known = _remembered(metadata) if remembers else {}
            spec, status = newer(obj, known)
            made: Object = {"apiVersion": api_version, "kind": obj["kind"], "metadata": metadata}
            put(made, "spec", spec)
            put(made, "status", status)
            return made
        spec, status = older(obj, definition_of)
        if remembers:
            _remember(metadata, obj)
        return {"apiVersion": api_version, "kind": obj["kind"], "metadata": metadata, "spec": spec, "status": status}

    return convert


def _remember(metadata: Object, obj: Object) -> None:
    data = {key: obj[key] for key in ("kind", "apiVersion", "spec", "status") if key in obj}
    annotations = {**(metadata.get("annotations") or {}), DATA_ANNOTATION: orjson.dumps(data).decode()}
    metadata["annotations"] = annotations


def _remembered(metadata: Object) -> Object:
    """Take the annotation out of metadata; returns the v1beta2 object in it, {} where there is none."""
    annotations = metadata.get("annotations") or {}
    if DATA_ANNOTATION not in annotations:
        return {}
    left = {key: value for key, value in annotations.items() if key != DATA_ANNOTATION}
    if left:
        metadata["annotations"] = left
    else:
        del metadata["annotations"]
    data: Any = orjson.loads(annotations[DATA_ANNOTATION])  # its JSONDecodeError is a ValueError
    if not isinstance(data, dict):
        raise ValueError("json: cannot unmarshal the conversion data into an object")
    return data


# -- Machine ---------------------------------------------------------------------------------------------------------


def _newer_machine_spec(spec: Object) -> Object:
    made: Object = {}
    carry(spec, made, "clusterName")
    bootstrap: Object = {}
    put(bootstrap, "configRef", newer_reference(dig(spec, "bootstrap", "configRef")))
    put_pointer(bootstrap, "dataSecretName", dig(spec, "bootstrap", "dataSecretName"))
    put(made, "bootstrap", bootstrap)
    put(made, "infrastructureRef", newer_reference(spec.get("infrastructureRef")))
    carry(spec, made, "version", "providerID", "failureDomain", "readinessGates", "taints")
    put(made, "deletion", newer_timeouts(spec))
    return made


def _older_machine_spec(spec: Object, namespace: str, definition_of: DefinitionOf) -> Object:
    bootstrap: Object = {}
    put(bootstrap, "configRef", older_reference(dig(spec, "bootstrap", "configRef"), namespace, definition_of))
    put_pointer(bootstrap, "dataSecretName", dig(spec, "bootstrap", "dataSecretName"))
    made: Object = {
        "clusterName": spec.get("clusterName", ""),
        "bootstrap": bootstrap,
        "infrastructureRef": older_reference(spec.get("infrastructureRef"), namespace, definition_of),
    }
    carry(spec, made, "version", "providerID", "failureDomain", "readinessGates", "taints")
    older_timeouts(spec, made)
    return made


def _newer_machine(obj: Object, known: Object) -> tuple[Object, Object]:
    spec, status = _newer_machine_spec(obj.get("spec") or {}), obj.get("status") or {}
    made = newer_status(status)
    before = dig(known, "status", "initialization", default={})
    initialization: Object = {}
    provisioned, created = "infrastructureProvisioned", "bootstrapDataSecretCreated"
    carry_true(initialization, provisioned, status.get("infrastructureReady"), before.get(provisioned))
    carry_true(initialization, created, status.get("bootstrapReady"), before.get(created))
    put(made, "initialization", initialization)
    node: Object = {}
    carry(status.get("nodeRef") or {}, node, "name")
    put(made, "nodeRef", node)
    carry_pointers(status, made, "nodeInfo", "deletion")
    carry(status, made, "lastUpdated", "addresses", "phase", "certificatesExpiryDate", "observedGeneration")
    deprecated = deprecated_status(status)
    if deprecated:
        made["deprecated"] = {"v1beta1": deprecated}
    if known:
        put_pointer(spec, "minReadySeconds", dig(known, "spec", "minReadySeconds"))
        made.pop("phase", None)  # upstream: who writes v1beta1 does not write the phase of a Machine that it converted
        carry(known.get("status") or {}, made, "phase", "failureDomain")
    return spec, made


def _older_machine(obj: Object, definition_of: DefinitionOf) -> tuple[Object, Object]:
    status = obj.get("status") or {}
    made: Object = {
        "bootstrapReady": bool(dig(status, "initialization", "bootstrapDataSecretCreated")),
        "infrastructureReady": bool(dig(status, "initialization", "infrastructureProvisioned")),
    }
    node = dig(status, "nodeRef", "name")
    if node:
        made["nodeRef"] = {"kind": "Node", "name": node, "apiVersion": "v1"}
    carry_pointers(status, made, "nodeInfo", "deletion")
    carry(status, made, "lastUpdated", "addresses", "phase", "certificatesExpiryDate", "observedGeneration")
    if made.get("phase") == "Updating":  # v1beta1 has no such phase
        made["phase"] = "Running"
    older_failure(status, made)
    older_status(status, made)
    return _older_machine_spec(obj.get("spec") or {}, namespace_of(obj), definition_of), made


# -- MachineSet and MachineDeployment --------------------------------------------------------------------------------


def _newer_template(template: Object) -> Object:
    made: Object = {}
    put(made, "metadata", _labels_and_annotations(template))
    put(made, "spec", _newer_machine_spec(template.get("spec") or {}))
    return made


def _older_template(template: Object, namespace: str, definition_of: DefinitionOf) -> Object:
    spec = _older_machine_spec(template.get("spec") or {}, namespace, definition_of)
    return {"metadata": _labels_and_annotations(template), "spec": spec}


def _labels_and_annotations(template: Object) -> Object:
    made: Object = {}
    carry(template.get("metadata") or {}, made, "labels", "annotations")
    return made


def _named(template: str | None) -> Object:
    return {"template": template} if template else {}


def _newer_set(obj: Object, _known: Object) -> tuple[Object, Object]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    made: Object = {}
    carry(spec, made, "clusterName")
    carry_pointers(spec, made, "replicas")
    put(made, "selector", spec.get("selector"))
    template = _newer_template(spec.get("template") or {})
    if spec.get("minReadySeconds"):
        template.setdefault("spec", {})["minReadySeconds"] = spec["minReadySeconds"]
    put(made, "template", template)
    put(made, "machineNaming", _named(dig(spec, "machineNamingStrategy", "template")))
    if spec.get("deletePolicy"):
        made["deletion"] = {"order": spec["deletePolicy"]}
    return made, _newer_counted_status(status, _SET_COUNTS, failure=True)


def _newer_counted_status(status: Object, counts: tuple[str, ...], *, failure: bool) -> Object:
    """The counts of v1beta1 mean something else than those of v1beta2 that have the same names."""
    made = newer_status(status, *_COUNTS)
    carry(status, made, "selector", "observedGeneration", "phase")
    made["replicas"] = status.get("replicas") or 0
    old = deprecated_status(status, failure=failure)
    old.update({field: status.get(field) or 0 for field in counts})
    made["deprecated"] = {"v1beta1": old}
    return made


def _older_counted_status(status: Object, counts: tuple[str, ...]) -> Object:
    old = dig(status, "deprecated", "v1beta1", default={})
    made: Object = {"replicas": status.get("replicas") or 0}
    made.update({field: old.get(field) or 0 for field in counts})
    carry(status, made, "selector", "observedGeneration", "phase")
    older_status(status, made, *_COUNTS)
    return made


def _older_set(obj: Object, definition_of: DefinitionOf) -> tuple[Object, Object]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    made: Object = {"clusterName": spec.get("clusterName", ""), "selector": spec.get("selector") or {}}
    carry_pointers(spec, made, "replicas")
    put(made, "minReadySeconds", dig(spec, "template", "spec", "minReadySeconds"))
    put(made, "deletePolicy", dig(spec, "deletion", "order"))
    made["template"] = _older_template(spec.get("template") or {}, namespace_of(obj), definition_of)
    put(made, "machineNamingStrategy", _named(dig(spec, "machineNaming", "template")))
    counted = _older_counted_status(status, _SET_COUNTS)
    older_failure(status, counted)
    return made, counted


def _newer_deployment(obj: Object, known: Object) -> tuple[Object, Object]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    strategy = spec.get("strategy") or {}
    made: Object = {}
    carry(spec, made, "clusterName")
    carry_pointers(spec, made, "replicas")
    rollout: Object = {}
    put(rollout, "after", spec.get("rolloutAfter"))
    put(rollout, "strategy", newer_strategy(strategy))
    put(made, "rollout", rollout)
    put(made, "selector", spec.get("selector"))
    template = _newer_template(spec.get("template") or {})
    if spec.get("minReadySeconds") is not None:
        template.setdefault("spec", {})["minReadySeconds"] = spec["minReadySeconds"]
    put(made, "template", template)
    put(made, "machineNaming", _named(dig(spec, "machineNamingStrategy", "template")))
    in_flight = dig(strategy, "remediation", "maxInFlight")
    if in_flight is not None:
        made["remediation"] = {"maxInFlight": in_flight}
    order = dig(strategy, "rollingUpdate", "deletePolicy")
    if order:
        made["deletion"] = {"order": order}
    carry_true(made, "paused", spec.get("paused"), dig(known, "spec", "paused"))
    return made, _newer_counted_status(status, _DEPLOYMENT_COUNTS, failure=False)


def _older_deployment(obj: Object, definition_of: DefinitionOf) -> tuple[Object, Object]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    made: Object = {"clusterName": spec.get("clusterName", ""), "selector": spec.get("selector") or {}}
    carry_pointers(spec, made, "replicas")
    put(made, "rolloutAfter", dig(spec, "rollout", "after"))
    made["template"] = _older_template(spec.get("template") or {}, namespace_of(obj), definition_of)
    in_flight = dig(spec, "remediation", "maxInFlight")
    put(made, "strategy", older_strategy(spec.get("rollout") or {}, dig(spec, "deletion", "order"), in_flight))
    put(made, "machineNamingStrategy", _named(dig(spec, "machineNaming", "template")))
    put_pointer(made, "minReadySeconds", dig(spec, "template", "spec", "minReadySeconds"))
    carry(spec, made, "paused")
    return made, _older_counted_status(status, _DEPLOYMENT_COUNTS)


# -- MachineHealthCheck ----------------------------------------------------------------------------------------------


def _newer_health_check(obj: Object, known: Object) -> tuple[Object, Object]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    made: Object = {}
    carry(spec, made, "clusterName", "selector")
    put(made, "checks", newer_checks(spec))
    put(made, "remediation", newer_remediation(spec))
    shown = newer_status(status)
    for field in _HEALTH_COUNTS:
        if status.get(field) or dig(known, "status", field) == 0:
            shown[field] = status.get(field) or 0
    carry(status, shown, "observedGeneration", "targets")
    deprecated = deprecated_status(status, failure=False)
    if deprecated:
        shown["deprecated"] = {"v1beta1": deprecated}
    return made, shown


def _older_health_check(obj: Object, _definition_of: DefinitionOf) -> tuple[Object, Object]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    made: Object = {"clusterName": spec.get("clusterName", ""), "selector": spec.get("selector") or {}}
    older_health_check(spec, made, namespace_of(obj))
    shown: Object = {field: status.get(field) or 0 for field in _HEALTH_COUNTS}
    carry(status, shown, "observedGeneration", "targets")
    older_status(status, shown)
    return made, shown


# -- Cluster ---------------------------------------------------------------------------------------------------------


def _newer_cluster(obj: Object, known: Object) -> tuple[Object, Object]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    made: Object = {}
    carry_true(made, "paused", spec.get("paused"), dig(known, "spec", "paused"))
    network: Object = {}
    carry(spec.get("clusterNetwork") or {}, network, "apiServerPort", "serviceDomain")
    for field in ("services", "pods"):
        ranges: Object = {}
        put(ranges, "cidrBlocks", dig(spec, "clusterNetwork", field, "cidrBlocks"))
        put(network, field, ranges)
    put(made, "clusterNetwork", network)
    endpoint: Object = {}
    carry(spec.get("controlPlaneEndpoint") or {}, endpoint, "host", "port")
    put(made, "controlPlaneEndpoint", endpoint)
    for field in ("controlPlaneRef", "infrastructureRef"):
        put(made, field, newer_reference(spec.get(field)))
    put(made, "topology", newer_topology(spec.get("topology") or {}))
    carry(spec, made, "availabilityGates")
    return made, _newer_cluster_status(status, known)


def _newer_cluster_status(status: Object, known: Object) -> Object:
    made = newer_status(status)
    carry_pointers(status.get("v1beta2") or {}, made, "controlPlane", "workers")
    before = dig(known, "status", "initialization", default={})
    initialization: Object = {}
    provisioned, initialized = "infrastructureProvisioned", "controlPlaneInitialized"
    carry_true(initialization, provisioned, status.get("infrastructureReady"), before.get(provisioned))
    carry_true(initialization, initialized, status.get("controlPlaneReady"), before.get(initialized))
    put(made, "initialization", initialization)
    domains = []
    for name, domain in sorted((status.get("failureDomains") or {}).items()):
        entry: Object = {"name": name, "controlPlane": bool(domain.get("controlPlane"))}
        carry(domain, entry, "attributes")
        domains.append(entry)
    put(made, "failureDomains", domains)
    carry(status, made, "phase", "observedGeneration")
    deprecated = deprecated_status(status)
    if deprecated:
        made["deprecated"] = {"v1beta1": deprecated}
    return made


def _older_cluster(obj: Object, definition_of: DefinitionOf) -> tuple[Object, Object]:
    spec, namespace = obj.get("spec") or {}, namespace_of(obj)
    made: Object = {}
    carry(spec, made, "paused")
    network: Object = {}
    carry(spec.get("clusterNetwork") or {}, network, "apiServerPort", "serviceDomain")
    for field in ("services", "pods"):
        blocks = dig(spec, "clusterNetwork", field, "cidrBlocks")
        if blocks:
            network[field] = {"cidrBlocks": blocks}
    put(made, "clusterNetwork", network)
    endpoint = spec.get("controlPlaneEndpoint") or {}
    made["controlPlaneEndpoint"] = {"host": endpoint.get("host", ""), "port": endpoint.get("port", 0)}
    for field in ("controlPlaneRef", "infrastructureRef"):
        put(made, field, older_reference(spec.get(field), namespace, definition_of))
    put(made, "topology", older_topology(spec.get("topology") or {}, namespace))
    carry(spec, made, "availabilityGates")
    return made, _older_cluster_status(obj.get("status") or {})


def _older_cluster_status(status: Object) -> Object:
    made: Object = {
        "infrastructureReady": bool(dig(status, "initialization", "infrastructureProvisioned")),
        "controlPlaneReady": bool(dig(status, "initialization", "controlPlaneInitialized")),
    }
    domains: Object = {}
    for entry in status.get("failureDomains") or ():
        domain: Object = {}
        carry(entry, domain, "controlPlane", "attributes")
        domains[entry.get("name", "")] = domain
    put(made, "failureDomains", domains)
    carry(status, made, "phase", "observedGeneration")
    older_failure(status, made)
    older_status(status, made)
    newer: Object = made.get("v1beta2", {})
    carry_pointers(status, newer, "controlPlane", "workers")
    put(made, "v1beta2", newer)
    return made
