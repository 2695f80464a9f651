"""`spec.topology` of a Cluster between v1beta1 and v1beta2 (a Cluster of a ClusterClass; HyperShift makes none)."""

from __future__ import annotations

from collections.abc import Callable

from labsim.kube.crds.capi_moves import (
    carry,
    carry_pointers,
    newer_checks,
    newer_remediation,
    newer_strategy,
    newer_timeouts,
    older_health_check,
    older_strategy,
    older_timeouts,
    put,
    put_pointer,
)
from labsim.model.objects import Object, dig

_SAME = ("metadata", "class", "name", "failureDomain", "failureDomains", "taints", "readinessGates")
_SAME_POINTERS = ("replicas", "minReadySeconds")


def newer_topology(topology: Object) -> Object:
    """The v1beta2 form."""
    made: Object = {}
    reference: Object = {}
    put(reference, "name", topology.get("class"))
    put(reference, "namespace", topology.get("classNamespace"))
    put(made, "classRef", reference)
    carry(topology, made, "version", "variables")
    put(made, "controlPlane", _newer_part(topology.get("controlPlane") or {}))
    put(made, "workers", _workers(topology, _newer_part))
    return made


def older_topology(topology: Object, namespace: str) -> Object:
    """The v1beta1 form; {} of {}."""
    if not topology:
        return {}
    made: Object = {"class": dig(topology, "classRef", "name", default=""), "version": topology.get("version", "")}
    put(made, "classNamespace", dig(topology, "classRef", "namespace"))
    carry(topology, made, "variables")
    made["controlPlane"] = _older_part(topology.get("controlPlane") or {}, namespace)
    put(made, "workers", _workers(topology, lambda part: _older_part(part, namespace)))
    return made


def _workers(topology: Object, convert: Callable[[Object], Object]) -> Object:
    made: Object = {}
    for field in ("machineDeployments", "machinePools"):
        put(made, field, [convert(part) for part in dig(topology, "workers", field, default=())])
    return made


def _newer_part(part: Object) -> Object:
    """The control plane, a machine deployment or a machine pool: what they have in common is most of it."""
    made: Object = {}
    carry(part, made, *_SAME, "variables")
    carry_pointers(part, made, *_SAME_POINTERS)
    strategy, check = part.get("strategy") or {}, part.get("machineHealthCheck")
    rollout: Object = {}
    put(rollout, "after", dig(part, "rollout", "after"))
    put(rollout, "strategy", newer_strategy(strategy))
    put(made, "rollout", rollout)
    deletion = newer_timeouts(part)
    put(deletion, "order", dig(strategy, "rollingUpdate", "deletePolicy"))
    put(made, "deletion", deletion)
    health: Object = {}
    remediation: Object = {}
    if check:
        put_pointer(health, "enabled", check.get("enable"))
        put(health, "checks", newer_checks(check))
        remediation = newer_remediation(check)
    put_pointer(remediation, "maxInFlight", dig(strategy, "remediation", "maxInFlight"))
    put(health, "remediation", remediation)
    put(made, "healthCheck", health)
    return made


def _older_part(part: Object, namespace: str) -> Object:
    made: Object = {"metadata": part.get("metadata") or {}}
    carry(part, made, *_SAME[1:], "variables")
    carry_pointers(part, made, *_SAME_POINTERS)
    rollout: Object = {}
    put(rollout, "after", dig(part, "rollout", "after"))
    put(made, "rollout", rollout)
    health = part.get("healthCheck") or {}
    in_flight = dig(health, "remediation", "maxInFlight")
    put(made, "strategy", older_strategy(part.get("rollout") or {}, dig(part, "deletion", "order"), in_flight))
    older_timeouts(part, made)
    check: Object = {}
    put_pointer(check, "enable", health.get("enabled"))
    older_health_check(health, check, namespace)
    put(made, "machineHealthCheck", check)
    return made
