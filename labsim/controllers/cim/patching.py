"""Writing only what differs, guarded by the resource version: a settled lab stops writing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labsim.controllers.runtime.effects import Program, patch
from labsim.history import ABSENT, difference
from labsim.model.kinds import Kind
from labsim.model.objects import Object, name_of, namespace_of, timestamp

Condition = tuple[str, str, str]  # status, reason, message


def patch_metadata(
    kind: Kind, obj: Object, *, labels: Object | None = None, annotations: Object | None = None, **fields: Any
) -> Program[Object]:
    """Set labels and annotations (None removes one) and other metadata fields; the object as it then is.

    Nothing is sent where all of it is so already. Raises ApiError (409 where the object has changed meanwhile).
    """
    metadata = obj["metadata"]
    change: Object = {}
    for field, wanted in (("labels", labels), ("annotations", annotations)):
        if not wanted:
            continue
        present = metadata.get(field) or {}
        differing = {key: value for key, value in wanted.items() if present.get(key) != value}
        if differing:
            change[field] = differing
    for field, wanted in fields.items():
        if (metadata.get(field) or []) != wanted:
            change[field] = wanted
    if not change:
        return obj
    change["resourceVersion"] = metadata["resourceVersion"]
    return (yield from patch(kind, namespace_of(obj), name_of(obj), {"metadata": change}))


def patch_status(kind: Kind, obj: Object, wanted: Object) -> Program[Object]:
    """Bring `.status` to `wanted`; the object as it then is. Raises ApiError."""
    change = difference(obj.get("status") or {}, wanted)
    if change is ABSENT:
        return obj
    body = {"metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}, "status": change}
    return (yield from patch(kind, namespace_of(obj), name_of(obj), body, subresource="status"))


def patch_spec(kind: Kind, obj: Object, change: Object) -> Program[Object]:
    """Change fields of `.spec` (None removes one). Raises ApiError."""
    body = {"metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}, "spec": change}
    return (yield from patch(kind, namespace_of(obj), name_of(obj), body))


def without_finalizer(kind: Kind, obj: Object, finalizer: str) -> Program[None]:
    """Let go of an object that is being deleted."""
    present = obj["metadata"].get("finalizers") or []
    if finalizer in present:
        yield from patch_metadata(kind, obj, finalizers=[entry for entry in present if entry != finalizer])


def with_conditions(
    conditions: list[Object], wanted: Mapping[str, Condition], now_s: float, *, probe_time: bool = False
) -> list[Object]:
    """The conditions with some set, the very same list where they are so already; lastTransitionTime moves only when
    the status changes.

    probe_time: the style of AgentClusterInstall, whose lastProbeTime and lastTransitionTime move on any change.
    """
    places = {entry.get("type"): place for place, entry in enumerate(conditions)}
    result = conditions
    for kind, (status, reason, message) in wanted.items():
        place = places.get(kind)
        present = None if place is None else conditions[place]
        if (
            present is not None
            and present.get("status") == status
            and present.get("reason") == reason
            and present.get("message") == message
        ):
            continue
        moment = timestamp(now_s)
        entry: Object = {"type": kind, "status": status, "reason": reason, "message": message}
        entry["lastTransitionTime"] = moment
        if present is not None and present.get("status") == status and not probe_time:
            entry["lastTransitionTime"] = present.get("lastTransitionTime", moment)
        if probe_time:
            entry["lastProbeTime"] = moment
        if result is conditions:
            result = [*conditions]
        if place is None:
            result.append(entry)
        else:
            result[place] = entry
    return result


def with_condition(
    conditions: list[Object],
    kind: str,
    status: str,
    reason: str,
    message: str,
    now_s: float,
    *,
    probe_time: bool = False,
) -> list[Object]:
    """The conditions with one set."""
    return with_conditions(conditions, {kind: (status, reason, message)}, now_s, probe_time=probe_time)
