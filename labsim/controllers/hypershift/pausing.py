"""`spec.pausedUntil` of HostedClusters and NodePools: "true", or a date."""

from __future__ import annotations

import dataclasses

from labsim.controllers.hypershift.desired import Condition
from labsim.model.objects import Object, dig, parse_timestamp


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Whether reconciliation is paused, the condition that says so, and the seconds left (None: until removed)."""

    is_paused: bool
    condition: Condition
    remaining_s: float | None = None


def pause_of(obj: Object, moment_s: float) -> Pause:
    """The pause that an object asks for."""
    text = str(dig(obj, "spec", "pausedUntil", default=""))
    if text.lower() == "true":
        message = "Reconciliation paused until field removed"
        return Pause(True, Condition("False", "ReconciliationPaused", message))
    active = Condition("True", "AsExpected", "Reconciliation active on resource")
    if not text or text.lower() == "false":
        return Pause(False, active)
    try:
        until_s = parse_timestamp(text)
    except ValueError:
        invalid = "Failed to parse spec.pausedUntil; reconciliation stays active"
        return Pause(False, Condition("True", "InvalidPausedUntilValue", invalid))
    if until_s <= moment_s:
        return Pause(False, active)
    message = f"Reconciliation paused until: {text}"
    return Pause(True, Condition("False", "ReconciliationPaused", message), until_s - moment_s)
