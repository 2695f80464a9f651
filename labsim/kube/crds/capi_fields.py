"""Pieces of schema that Cluster API's types (v1.13.4) and its agent provider's have in common."""

from __future__ import annotations

from typing import Any

from labsim.kube.builtin import NODE_INFO
from labsim.kube.crds.builder import Schema, array, conditions, enum, int32, integer, map_of, obj, rule, string, time

ATOMIC_LIST: Schema = {"x-kubernetes-list-type": "atomic"}
ATOMIC_MAP: Schema = {"x-kubernetes-map-type": "atomic"}
NOT_EMPTY: Schema = {"minProperties": 1}
_LABEL_PART = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])"
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
KIND_NAME = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
_CONDITION_TYPE = rf"^({SUBDOMAIN}/)?{_LABEL_PART}$"
_TAINT_KEY = rf"^({SUBDOMAIN}\/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"
_OWN_CONDITIONS = "!(self in ['Ready','Available','HealthCheckSucceeded','OwnerRemediated','ExternallyRemediated'])"
_OWN_CONDITIONS_TEXT = "type must not be one of: Ready, Available, HealthCheckSucceeded, OwnerRemediated, "
NEW_COUNTS = ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")


def map_list(item: Schema, *keys: str, **extra: Any) -> Schema:
    return array(item, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}, **extra)


def object_name(**extra: Any) -> Schema:
    return string(minLength=1, maxLength=253, pattern=f"^{SUBDOMAIN}$", **extra)


def seconds() -> Schema:
    return int32(minimum=0)


def newer_conditions() -> Schema:
    """metav1.Condition: no severity, and a reason that is never empty."""
    entry = obj(
        {
            "type": string(maxLength=316, pattern=_CONDITION_TYPE),
            "status": enum("True", "False", "Unknown"),
            "reason": string(minLength=1, maxLength=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
            "message": string(maxLength=32768),
            "lastTransitionTime": time(),
            "observedGeneration": integer(minimum=0),
        },
        required=["lastTransitionTime", "message", "reason", "status", "type"],
    )
    return map_list(entry, "type", maxItems=32)


def deprecated(**counts: Schema) -> Schema:
    """What stays of the v1beta1 status. Its lists are no map lists: each is owned as a whole."""
    entry = obj(
        {
            "type": string(minLength=1, maxLength=256),
            "status": string(),
            "severity": string(maxLength=32),
            "reason": string(minLength=1, maxLength=256),
            "message": string(minLength=1, maxLength=10240),
            "lastTransitionTime": time(),
        },
        required=["lastTransitionTime", "status", "type"],
    )
    return obj({"v1beta1": obj({"conditions": array(entry), **counts})})


FAILURE: Schema = {
    "failureReason": string(),
    "failureMessage": string(minLength=1, maxLength=10240),
}


def reference() -> Schema:
    """A provider's object in the owner's namespace, in whatever version its contract says."""
    fields = {
        "apiGroup": object_name(),
        "kind": string(minLength=1, maxLength=63, pattern=KIND_NAME),
        "name": object_name(),
    }
    return obj(fields, required=["apiGroup", "kind", "name"])


def label_selector() -> Schema:
    expression = obj(
        {"key": string(), "operator": string(), "values": array(string(), **ATOMIC_LIST)},
        required=["key", "operator"],
    )
    fields = {"matchExpressions": array(expression, **ATOMIC_LIST), "matchLabels": map_of(string())}
    return obj(fields, **ATOMIC_MAP)


def readiness_gates(**extra: Any) -> Schema:
    """Gates by the type of a condition; Clusters have them too, as availabilityGates."""
    gate = obj(
        {
            "conditionType": string(minLength=1, maxLength=316, pattern=_CONDITION_TYPE),
            "polarity": enum("Positive", "Negative"),
        },
        required=["conditionType"],
    )
    return map_list(gate, "conditionType", maxItems=32, **extra)


def taints() -> Schema:
    """The taints of a Machine's Node."""
    taint = obj(
        {
            "key": string(minLength=1, maxLength=317, pattern=_TAINT_KEY),
            "value": string(minLength=1, maxLength=63, pattern=f"^{_LABEL_PART}?$"),
            "effect": enum("NoSchedule", "PreferNoSchedule", "NoExecute"),
            "propagation": enum("Always", "OnInitialization"),
        },
        required=["effect", "key", "propagation"],
    )
    return map_list(taint, "key", "effect", minItems=1, maxItems=64)


def unhealthy_conditions(timeout: str, timeout_schema: Schema, *, of_nodes: bool) -> Schema:
    """Conditions of Nodes, or of Machines, that make a Machine unhealthy after a while."""
    kind, status = string(minLength=1), string(minLength=1)
    if not of_nodes:
        forbidden = rule(_OWN_CONDITIONS, f"{_OWN_CONDITIONS_TEXT}ExternallyRemediated")
        kind = string(minLength=1, maxLength=316, pattern=_CONDITION_TYPE, **{"x-kubernetes-validations": [forbidden]})
        status = enum("True", "False", "Unknown")
    entry = obj({"type": kind, "status": status, timeout: timeout_schema}, required=["status", timeout, "type"])
    return array(entry, minItems=1, maxItems=100, **ATOMIC_LIST)


def count_fields(*names: str) -> dict[str, Schema]:
    return {name: int32() for name in names}


def node_info() -> Schema:
    """What a Node says of its system, copied onto its Machine."""
    return obj(
        {**{field: string() for field in NODE_INFO}, "swap": obj({"capacity": integer()})}, required=sorted(NODE_INFO)
    )


def replica_counts() -> Schema:
    """The counts of a Cluster's control plane, or of its workers."""
    return obj(count_fields("desiredReplicas", *NEW_COUNTS))


# -- of v1beta1 --------------------------------------------------------------------------------------------------------


def endpoint() -> Schema:
    return obj({"host": string(), "port": int32()}, required=["host", "port"])


def older_conditions() -> Schema:
    """v1beta1 conditions: with a severity, and a reason that may be empty."""
    return conditions(severity=string())


def addresses() -> Schema:
    return array(obj({"type": string(), "address": string()}, required=["type", "address"]))
