"""Conditions of the v1beta1 contract: a severity, a reason that may be absent, a summary called Ready.

The rules are those of cluster-api's v1beta1 condition utilities: the transition time moves when anything of a condition
changes, Ready stands first and the others follow by name, and a merge takes the worst group: False with severity
Error, Warning, Info, then True, then Unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from labsim.model.objects import Object, condition_of, dig, timestamp

READY = "Ready"
ERROR, WARNING, INFO = "Error", "Warning", "Info"


RANK_TRUE = 4


def rank(condition: Object) -> int:
    """How much a condition weighs in a merge: the smallest wins."""
    if condition["status"] == "False":
        return {ERROR: 0, WARNING: 1, INFO: 2}.get(condition.get("severity", ""), 3)
    return RANK_TRUE if condition["status"] == "True" else RANK_TRUE + 1


def set_condition(
    obj: Object, kind: str, status: str, *, now_s: float, reason: str = "", severity: str = "", message: str = ""
) -> bool:
    """Set one condition of an object that may be changed; False if it stood there already."""
    if status != "False":
        severity = ""
    present = condition_of(obj, kind)
    if (
        present is not None
        and present["status"] == status
        and present.get("reason", "") == reason
        and present.get("message", "") == message
        and present.get("severity", "") == severity
    ):
        return False
    made: Object = {"type": kind, "status": status}
    if severity:
        made["severity"] = severity
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    made["lastTransitionTime"] = timestamp(now_s)
    others = [entry for entry in dig(obj, "status", "conditions", default=()) if entry["type"] != kind]
    obj.setdefault("status", {})["conditions"] = sorted([*others, made], key=_order)
    return True


def _order(condition: Object) -> tuple[bool, str]:
    return condition["type"] != READY, condition["type"]


def mark_true(obj: Object, kind: str, *, now_s: float) -> bool:
    """The condition holds; True has no reason under this contract."""
    return set_condition(obj, kind, "True", now_s=now_s)


def mark_false(obj: Object, kind: str, reason: str, severity: str, message: str = "", *, now_s: float) -> bool:
    return set_condition(obj, kind, "False", now_s=now_s, reason=reason, severity=severity, message=message)


def mark_unknown(obj: Object, kind: str, reason: str, message: str = "", *, now_s: float) -> bool:
    return set_condition(obj, kind, "Unknown", now_s=now_s, reason=reason, message=message)


def mirror(obj: Object, kind: str, source: Object | None, *, ready: bool, fallback_reason: str, now_s: float) -> bool:
    """Copy the Ready condition of `source` as `kind`; without one, `ready` decides, with the fallback's reason."""
    found = None if source is None else condition_of(source, READY)
    if found is None:
        if ready:
            return mark_true(obj, kind, now_s=now_s)
        return mark_false(obj, kind, fallback_reason, INFO, now_s=now_s)
    return set_condition(
        obj,
        kind,
        found["status"],
        now_s=now_s,
        reason=found.get("reason", ""),
        severity=found.get("severity", ""),
        message=found.get("message", ""),
    )


def summarize(
    obj: Object,
    kinds: Sequence[str],
    *,
    now_s: float,
    count_steps: bool = False,
    count_only: Sequence[str] | None = None,
) -> bool:
    """Set Ready from the conditions of these kinds, in this order of importance within one severity.

    `count_steps` makes the message "N of M completed"; `count_only` allows that only while no other kind of condition
    is there, and makes M the number of those.
    """
    by_kind = {entry["type"]: entry for entry in dig(obj, "status", "conditions", default=())}
    present: list[Any] = [by_kind[kind] for kind in kinds if kind in by_kind]
    if not present:
        return False
    total = len(kinds)
    if count_only is not None:
        total = len(count_only)
        count_steps = count_steps and all(entry["type"] in count_only for entry in present)
    top = min(present, key=rank)
    message = top.get("message", "")
    if count_steps:
        message = steps_message(present, total)
    if top["status"] == "True":
        return mark_true(obj, READY, now_s=now_s)
    return set_condition(
        obj,
        READY,
        top["status"],
        now_s=now_s,
        reason=top.get("reason", ""),
        severity=top.get("severity", ""),
        message=message,
    )


def steps_message(present: Iterable[Object], total: int) -> str:
    """`N of M completed`."""
    return f"{sum(entry['status'] == 'True' for entry in present)} of {total} completed"
