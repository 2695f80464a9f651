"""Fields of Cluster API that moved between v1beta1 and v1beta2, wherever they occur.

Facts: cluster-api v1.13.4, api/core/v1beta1/conversion.go. A function `newer_*` makes the v1beta2 form, `older_*` the
v1beta1 form. Both leave out what Go leaves out: texts, lists and objects that are empty, numbers and flags that are
zero where the field is not a pointer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from labsim.kube.catalog import version_priority
from labsim.kube.conversion import DefinitionOf
from labsim.model.durations import duration_text, seconds
from labsim.model.objects import Object, dig

_INT32_MAX = 2**31 - 1
_CONTRACTS = ("v1beta2", "v1beta1")  # that a provider may follow, the newest first
TIMEOUTS = ("nodeDrainTimeout", "nodeVolumeDetachTimeout", "nodeDeletionTimeout")


def put(target: Object, field: str, value: Any) -> None:
    """Set a field unless the value is empty: what Go's omitempty writes."""
    if value is not None and value not in ("", [], {}) and value is not False and not _is_zero(value):
        target[field] = value


def put_pointer(target: Object, field: str, value: Any) -> None:
    """Set a field that is a pointer in Go: zero and False are values."""
    if value is not None:
        target[field] = value


def carry(source: Object, target: Object, *fields: str) -> None:
    """Take fields over that are the same in both versions."""
    for field in fields:
        put(target, field, source.get(field))


def carry_pointers(source: Object, target: Object, *fields: str) -> None:
    for field in fields:
        put_pointer(target, field, source.get(field))


def _is_zero(value: Any) -> bool:
    return type(value) in (int, float) and not value


def carry_true(target: Object, field: str, value: Any, before: Any) -> None:
    """A flag that became a pointer: False only where it was known to be said, as the annotation remembers."""
    if value:
        target[field] = True
    elif before is False:
        target[field] = False


# -- durations -------------------------------------------------------------------------------------------------------


def newer_timeout(text: str | None) -> int | None:
    """Whole seconds of a duration; what is beyond int32 is capped. ValueError for what is none."""
    found = seconds(text)
    return None if found is None else min(math.trunc(found), _INT32_MAX)


def older_timeout(whole_s: int | None) -> str | None:
    return None if whole_s is None else duration_text(whole_s)


def newer_timeouts(source: Object) -> Object:
    """`deletion` with the time-outs of a Machine's end."""
    made: Object = {}
    for field in TIMEOUTS:
        put_pointer(made, f"{field}Seconds", newer_timeout(source.get(field)))
    return made


def older_timeouts(source: Object, target: Object) -> None:
    for field in TIMEOUTS:
        put_pointer(target, field, older_timeout(dig(source, "deletion", f"{field}Seconds")))


# -- references ------------------------------------------------------------------------------------------------------


def newer_reference(reference: Object | None) -> Object:
    """A reference to a provider's object: its version is found by contract, its namespace is the owner's."""
    made: Object = {}
    if reference:
        version = str(reference.get("apiVersion") or "")
        if version.count("/") > 1:
            raise ValueError(
                f"failed to convert object: failed to parse apiVersion: unexpected GroupVersion string: {version}"
            )
        put(made, "apiGroup", version.rpartition("/")[0])
        carry(reference, made, "kind", "name")
    return made


def older_reference(reference: Object | None, namespace: str, definition_of: DefinitionOf) -> Object:
    made: Object = {}
    if reference:
        group, kind = str(reference.get("apiGroup") or ""), str(reference.get("kind") or "")
        made["apiVersion"] = f"{group}/{_provided_version(group, kind, definition_of)}"
        put(made, "kind", kind)
        put(made, "namespace", namespace)
        carry(reference, made, "name")
    return made


def _provided_version(group: str, kind: str, definition_of: DefinitionOf) -> str:
    """The version of a provider's kind, as the labels of its definition give it for the newest contract they name."""
    definition = definition_of(group, kind)
    problem = f"failed to convert object: failed to get apiVersion for kind {kind}: "
    if definition is None:
        text = f'customresourcedefinitions.apiextensions.k8s.io "{kind.lower()}s.{group}" not found'
        raise ValueError(f"{problem}failed to get CustomResourceDefinition metadata: {text}")
    labels = definition["metadata"].get("labels") or {}
    for contract in _CONTRACTS:
        versions = labels.get(f"cluster.x-k8s.io/{contract}")
        if versions:
            return min(str(versions).split("_"), key=version_priority)
    name = definition["metadata"]["name"]
    raise ValueError(f"{problem}cannot find any versions matching contract versions {_CONTRACTS} for CRD {name}")


def newer_template_reference(reference: Object | None) -> Object:
    made: Object = {}
    if reference:
        carry(reference, made, "kind", "name", "apiVersion")
    return made


def older_template_reference(reference: Object, namespace: str) -> Object:
    made: Object = {}
    carry(reference, made, "kind", "namespace", "name", "apiVersion")
    put(made, "namespace", namespace)
    return made


# -- conditions and counts -------------------------------------------------------------------------------------------


def newer_status(status: Object, *counts: str) -> Object:
    """What v1beta2 has at the top of a status, and v1beta1 below `v1beta2`: conditions and counts of a new meaning."""
    made: Object = {}
    newer = status.get("v1beta2") or {}
    carry(newer, made, "conditions")
    carry_pointers(newer, made, *counts)
    return made


def older_status(status: Object, target: Object, *counts: str) -> None:
    """What v1beta2 keeps below `deprecated.v1beta1`, back at the top; its own conditions and counts below `v1beta2`."""
    carry(dig(status, "deprecated", "v1beta1", default={}), target, "conditions")
    newer: Object = {}
    carry(status, newer, "conditions")
    carry_pointers(status, newer, *counts)
    put(target, "v1beta2", newer)


def deprecated_status(status: Object, *, failure: bool = True) -> Object:
    """What v1beta2 keeps of a v1beta1 status below `deprecated.v1beta1`."""
    made: Object = {}
    carry(status, made, "conditions")
    if failure:
        carry_pointers(status, made, "failureReason", "failureMessage")
    return made


def older_failure(status: Object, target: Object) -> None:
    carry_pointers(dig(status, "deprecated", "v1beta1", default={}), target, "failureReason", "failureMessage")


# -- rollout and health checks ---------------------------------------------------------------------------------------


def newer_strategy(strategy: Object | None) -> Object:
    """`rollout.strategy`."""
    made: Object = {}
    if strategy:
        carry(strategy, made, "type")
        rolling: Object = {}
        carry_pointers(strategy.get("rollingUpdate") or {}, rolling, "maxUnavailable", "maxSurge")
        put(made, "rollingUpdate", rolling)
    return made


def older_strategy(rollout: Object, order: str | None, in_flight: Any) -> Object:
    """`strategy`, with the order of deletion and the limit of remediation that v1beta2 has elsewhere."""
    strategy = rollout.get("strategy") or {}
    made: Object = {}
    carry(strategy, made, "type")
    rolling: Object = {}
    carry_pointers(strategy.get("rollingUpdate") or {}, rolling, "maxUnavailable", "maxSurge")
    put(rolling, "deletePolicy", order)
    put(made, "rollingUpdate", rolling)
    if in_flight is not None:
        made["remediation"] = {"maxInFlight": in_flight}
    return made


def newer_checks(check: Object) -> Object:
    """`checks` of a health check."""
    made: Object = {}
    put_pointer(made, "nodeStartupTimeoutSeconds", newer_timeout(check.get("nodeStartupTimeout")))
    put(made, "unhealthyNodeConditions", _newer_unhealthy(check.get("unhealthyConditions") or ()))
    put(made, "unhealthyMachineConditions", _newer_unhealthy(check.get("unhealthyMachineConditions") or ()))
    return made


def newer_remediation(check: Object) -> Object:
    """`remediation` of a health check."""
    made: Object = {}
    trigger: Object = {}
    put_pointer(trigger, "unhealthyLessThanOrEqualTo", check.get("maxUnhealthy"))
    put(trigger, "unhealthyInRange", check.get("unhealthyRange"))
    put(made, "triggerIf", trigger)
    put(made, "templateRef", newer_template_reference(check.get("remediationTemplate")))
    return made


def older_health_check(source: Object, target: Object, namespace: str) -> None:
    """`checks` and `remediation` as v1beta1 has them, side by side."""
    checks, remediation = source.get("checks") or {}, source.get("remediation") or {}
    put(target, "unhealthyConditions", _older_unhealthy(checks.get("unhealthyNodeConditions") or ()))
    put(target, "unhealthyMachineConditions", _older_unhealthy(checks.get("unhealthyMachineConditions") or ()))
    put_pointer(target, "maxUnhealthy", dig(remediation, "triggerIf", "unhealthyLessThanOrEqualTo"))
    put(target, "unhealthyRange", dig(remediation, "triggerIf", "unhealthyInRange"))
    put_pointer(target, "nodeStartupTimeout", older_timeout(checks.get("nodeStartupTimeoutSeconds")))
    template = remediation.get("templateRef")
    if template:
        target["remediationTemplate"] = older_template_reference(template, namespace)


def _newer_unhealthy(conditions: Iterable[Object]) -> list[Object]:
    made = []
    for entry in conditions:
        newer: Object = {}
        carry(entry, newer, "type", "status")
        newer["timeoutSeconds"] = newer_timeout(entry.get("timeout")) or 0
        made.append(newer)
    return made


def _older_unhealthy(conditions: Iterable[Object]) -> list[Object]:
    return [
        {
            "type": entry.get("type", ""),
            "status": entry.get("status", ""),
            "timeout": older_timeout(entry.get("timeoutSeconds")) or "0s",
        }
        for entry in conditions
    ]
