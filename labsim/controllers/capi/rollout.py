"""The arithmetic of a MachineDeployment: how many replicas each of its MachineSets gets, as plain functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from labsim.model.objects import Object, dig, name_of

ROLLING_UPDATE, ON_DELETE = "RollingUpdate", "OnDelete"
_ROLLED_OUT_FIELDS = ("version", "failureDomain", "bootstrap", "infrastructureRef")


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """One MachineSet in the eyes of a rollout."""

    name: str
    wanted: int
    present: int
    available: int


def counts_of(machine_set: Object) -> Counts:
    return Counts(
        name_of(machine_set),
        int(dig(machine_set, "spec", "replicas", default=0)),
        int(dig(machine_set, "status", "replicas", default=0)),
        int(dig(machine_set, "status", "availableReplicas", default=0)),
    )


def absolute(value: Any, total: int, *, round_up: bool) -> int:
    """An int-or-percent as a number of replicas."""
    if isinstance(value, str) and value.endswith("%"):
        exact = int(value[:-1]) * total / 100
        return math.ceil(exact) if round_up else math.floor(exact)
    return int(value)


def fenceposts(deployment: Object) -> tuple[int, int]:
    """maxSurge (1 by default) and maxUnavailable (0 by default); both zero would never move, so one may be missing."""
    strategy = deployment["spec"].get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    total = int(deployment["spec"].get("replicas", 1))
    surge = absolute(rolling.get("maxSurge", 1), total, round_up=True)
    unavailable = absolute(rolling.get("maxUnavailable", 0), total, round_up=False)
    return surge, (1 if surge == 0 and unavailable == 0 else unavailable)


def rolled_out_part(template: Object) -> Object:
    """What a new MachineSet is made for; labels, annotations and time-outs are changed in place."""
    spec = dig(template, "spec", default={})
    part: Object = {field: spec.get(field) for field in _ROLLED_OUT_FIELDS}
    reference = spec.get("infrastructureRef") or {}
    part["infrastructureRef"] = {key: reference.get(key) for key in ("kind", "name", "namespace")}
    part["bootstrap"] = {"dataSecretName": dig(spec, "bootstrap", "dataSecretName")}
    return part


def new_replicas(deployment: Object, new: Counts, others: Sequence[Counts]) -> int:
    """How many replicas the newest MachineSet may have now."""
    wanted = int(deployment["spec"].get("replicas", 1))
    if strategy_of(deployment) == ON_DELETE:
        missing = wanted - sum(entry.present for entry in (*others, new))
        return min(new.wanted + max(missing, 0), wanted) if new.wanted <= wanted else wanted
    if new.wanted >= wanted:
        return wanted
    surge, _ = fenceposts(deployment)
    room = wanted + surge - sum(entry.wanted for entry in (*others, new))
    return new.wanted if room <= 0 else new.wanted + min(room, wanted - new.wanted)


def strategy_of(deployment: Object) -> str:
    return str(dig(deployment, "spec", "strategy", "type", default=ROLLING_UPDATE))


def old_replicas(deployment: Object, new: Counts, others: Sequence[Counts]) -> dict[str, int]:
    """What each older MachineSet shall have: unhealthy replicas go first, then what availability allows."""
    wanted = int(deployment["spec"].get("replicas", 1))
    if strategy_of(deployment) == ON_DELETE:
        return {entry.name: min(entry.wanted, entry.present) for entry in others}
    result = {entry.name: entry.wanted for entry in others}
    _, unavailable = fenceposts(deployment)
    least_available = wanted - unavailable
    total = sum(entry.wanted for entry in (*others, new))
    new_unavailable = new.wanted - new.available
    budget = total - least_available - new_unavailable
    if budget <= 0:
        return result
    for entry in others:
        unhealthy = min(budget, max(result[entry.name] - entry.available, 0))
        result[entry.name] -= unhealthy
        budget -= unhealthy
    surplus = sum(entry.available for entry in (*others, new)) - least_available
    for entry in others:
        if surplus <= 0:
            break
        down = min(result[entry.name], surplus)
        result[entry.name] -= down
        surplus -= down
    return result
