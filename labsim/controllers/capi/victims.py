"""Which Machines go when a MachineSet shrinks."""

from __future__ import annotations

import math
from collections.abc import Iterable

from labsim.controllers.capi.names import DELETE_MACHINE_ANNOTATION
from labsim.model.objects import Object, annotations_of, condition_status, dig, is_deleting, name_of, parse_timestamp

MUST_DELETE = 100.0
SHOULD_DELETE = 75.0
BETTER_DELETE = 50.0
COULD_DELETE = 20.0
_TEN_DAYS_S = 10 * 24 * 3600.0

RANDOM, NEWEST, OLDEST = "Random", "Newest", "Oldest"


def is_unhealthy(machine: Object) -> bool:
    """No Node, a Node found unhealthy, or a failed health check; an unknown health does not count."""
    if dig(machine, "status", "nodeRef") is None:
        return True
    return any(condition_status(machine, kind) == "False" for kind in ("NodeHealthy", "HealthCheckSucceeded"))


def priority(machine: Object, policy: str, now_s: float) -> float:
    """How much the Machine should go, from 0 to 100."""
    if is_deleting(machine):
        return MUST_DELETE
    if DELETE_MACHINE_ANNOTATION in annotations_of(machine):
        return SHOULD_DELETE
    if is_unhealthy(machine):
        return BETTER_DELETE
    if policy == RANDOM:
        return COULD_DELETE
    created = machine["metadata"].get("creationTimestamp")
    age_s = max(now_s - parse_timestamp(created), 0.0) if created else 0.0
    oldest = BETTER_DELETE * (1.0 - math.exp(-age_s / _TEN_DAYS_S))
    return oldest if policy == OLDEST else BETTER_DELETE - oldest


def choose(machines: Iterable[Object], count: int, policy: str, now_s: float) -> list[Object]:
    """The `count` Machines to delete, those that are being deleted first; ties go by name."""
    ordered = sorted(machines, key=lambda machine: (-priority(machine, policy or RANDOM, now_s), name_of(machine)))
    return ordered[: max(count, 0)]
