"""What a MachineSet says about its Machines: counts and conditions."""

from __future__ import annotations

from labsim.controllers.capi import conditions
from labsim.controllers.capi.fleet import Fleet, Member
from labsim.controllers.capi.selectors import text_of
from labsim.controllers.runtime.effects import DONE, Result
from labsim.model.objects import Object, dig, namespace_of, uid_of

RESIZED, MACHINES_CREATED, MACHINES_READY = "Resized", "MachinesCreated", "MachinesReady"


def update_status(machine_set: Object, fleet: Fleet, *, now_s: float) -> Result:
    """Set counts and conditions; asks to be called again when minReadySeconds keeps a Machine from being available."""
    members = fleet.members(uid_of(machine_set))
    spec, status = machine_set["spec"], machine_set.setdefault("status", {})
    min_ready_s = float(spec.get("minReadySeconds") or 0)
    namespace = namespace_of(machine_set)
    ready_since = [since for member in members.values() if (since := fleet.ready_since(namespace, member)) is not None]
    available = sum(now_s - since >= min_ready_s for since in ready_since)
    template_labels = set(dig(spec, "template", "metadata", "labels", default={}).items())
    status.update(
        selector=text_of(spec.get("selector")),
        replicas=len(members),
        fullyLabeledReplicas=sum(template_labels.issubset(member.labels) for member in members.values()),
        readyReplicas=len(ready_since),
        availableReplicas=available,
        observedGeneration=machine_set["metadata"].get("generation", 0),
    )
    _resized(machine_set, len(members), len(ready_since), now_s)
    _machines_ready(machine_set, members, now_s)
    conditions.summarize(machine_set, (MACHINES_CREATED, RESIZED, MACHINES_READY), now_s=now_s)
    if available < len(ready_since):
        return Result(
            max(min(min_ready_s - (now_s - since) for since in ready_since if now_s - since < min_ready_s), 1.0)
        )
    return DONE


def _resized(machine_set: Object, present: int, ready: int, now_s: float) -> None:
    wanted = int(machine_set["spec"].get("replicas", 1))
    if present < wanted:
        message = f"Scaling up MachineSet to {wanted} replicas (actual {present})"
        conditions.mark_false(machine_set, RESIZED, "ScalingUp", conditions.WARNING, message, now_s=now_s)
        return
    if present > wanted:
        message = f"Scaling down MachineSet to {wanted} replicas (actual {present})"
        conditions.mark_false(machine_set, RESIZED, "ScalingDown", conditions.WARNING, message, now_s=now_s)
    elif ready == present:
        conditions.mark_true(machine_set, RESIZED, now_s=now_s)
    conditions.mark_true(machine_set, MACHINES_CREATED, now_s=now_s)


def _machines_ready(machine_set: Object, members: dict[str, Member], now_s: float) -> None:
    """The worst of the Machines' Ready conditions, with the Machine that has it and how many are through."""
    reported = [(member.ready_rank, name) for name, member in members.items() if member.ready_rank < 6]
    if not reported:
        return
    rank, name = min(reported)
    if rank == 4:
        conditions.mark_true(machine_set, MACHINES_READY, now_s=now_s)
        return
    worst = members[name]
    conditions.set_condition(
        machine_set,
        MACHINES_READY,
        "Unknown" if rank == 5 else "False",
        now_s=now_s,
        reason=f"{worst.ready_reason} @ Machine/{name}",
        severity=worst.ready_severity,
        message=f"{sum(present == 4 for present, _ in reported)} of {len(members)} completed",
    )
