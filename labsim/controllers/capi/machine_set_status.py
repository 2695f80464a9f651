"""What a MachineSet says about its Machines: counts and conditions."""

from __future__ import annotations

from labsim.controllers.capi import conditions
from labsim.controllers.capi.fleet import Crew, Fleet
from labsim.controllers.capi.selectors import text_of
from labsim.controllers.runtime.effects import DONE, Result
from labsim.model.objects import Object, dig, uid_of

RESIZED, MACHINES_CREATED, MACHINES_READY = "Resized", "MachinesCreated", "MachinesReady"


def update_status(machine_set: Object, fleet: Fleet, *, now_s: float) -> Result:
    """Set counts and conditions; asks to be called again when minReadySeconds keeps a Machine from being available."""
    crew = fleet.crew(uid_of(machine_set))
    spec, status = machine_set["spec"], machine_set.setdefault("status", {})
    min_ready_s = float(spec.get("minReadySeconds") or 0)
    waits = [min_ready_s - (now_s - since) for since in crew.ready_since.values()] if min_ready_s else []
    waits = [wait for wait in waits if wait > 0]
    ready = len(crew.ready_since)
    template_labels = set(dig(spec, "template", "metadata", "labels", default={}).items())
    status.update(
        selector=text_of(spec.get("selector")),
        replicas=len(crew.members),
        fullyLabeledReplicas=sum(count for labels, count in crew.labels.items() if template_labels.issubset(labels)),
        readyReplicas=ready,
        availableReplicas=ready - len(waits),
        observedGeneration=machine_set["metadata"].get("generation", 0),
    )
    _resized(machine_set, len(crew.members), ready, now_s)
    _machines_ready(machine_set, crew, now_s)
    conditions.summarize(machine_set, (MACHINES_CREATED, RESIZED, MACHINES_READY), now_s=now_s)
    return Result(max(min(waits), 1.0)) if waits else DONE


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


def _machines_ready(machine_set: Object, crew: Crew, now_s: float) -> None:
    """The worst of the Machines' Ready conditions, with the Machine that has it and how many are through."""
    worst = crew.worst()
    if worst is None:
        return
    rank, name = worst
    if rank == conditions.RANK_TRUE:
        conditions.mark_true(machine_set, MACHINES_READY, now_s=now_s)
        return
    member = crew.members[name]
    conditions.set_condition(
        machine_set,
        MACHINES_READY,
        "Unknown" if rank > conditions.RANK_TRUE else "False",
        now_s=now_s,
        reason=f"{member.ready_reason} @ Machine/{name}",
        severity=member.ready_severity,
        message=f"{len(crew.ranks.get(conditions.RANK_TRUE, ()))} of {len(crew.members)} completed",
    )
