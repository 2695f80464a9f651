"""The condition Deleting of a Machine: how far its end has got, in the form of v1beta2.

Controllers since cluster-api 1.9 write their new conditions below `status.v1beta2` of a v1beta1 object; who reads
v1beta2 sees them at the top, and knows the old ones only as deprecated. Of the new ones this is the one that a provider
acts on.
"""

from __future__ import annotations

from labsim.model.objects import Object, annotations_of, dig, is_deleting, timestamp

DELETING = "Deleting"
NOT_DELETING = "NotDeleting"
STARTED = "Deleting"
DRAINING_NODE = "DrainingNode"
VOLUME_DETACH = "WaitingForVolumeDetach"
INFRASTRUCTURE_DELETION = "WaitingForInfrastructureDeletion"
DELETING_NODE = "DeletingNode"
COMPLETED = "DeletionCompleted"
_HOOKS = {
    "pre-drain": "WaitingForPreDrainHook",
    "pre-terminate": "WaitingForPreTerminateHook",
}


def mark_deleting(machine: Object, reason: str, message: str, *, now_s: float) -> None:
    """Say what the end of a Machine waits for. The transition time moves with the status alone, as in v1beta2."""
    present = dig(machine, "status", "v1beta2", "conditions", default=())
    before = next((entry for entry in present if entry["type"] == DELETING), None)
    status = "True" if is_deleting(machine) else "False"
    since = timestamp(now_s) if before is None or before["status"] != status else before["lastTransitionTime"]
    made = {"type": DELETING, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
    if made != before:
        others = [entry for entry in present if entry["type"] != DELETING]
        machine.setdefault("status", {})["v1beta2"] = {"conditions": [*others, made]}


def mark_held_by_hook(machine: Object, stage: str, prefix: str, *, now_s: float) -> None:
    """The hooks of a stage, `pre-drain` or `pre-terminate`, hold the Machine."""
    hooks = ",".join(sorted(key for key in annotations_of(machine) if key.startswith(prefix)))
    mark_deleting(machine, _HOOKS[stage], f"Waiting for {stage} hooks to succeed (hooks: {hooks})", now_s=now_s)
