"""Bringing objects to what is wanted, and writing nothing where they are that already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from labsim.controllers.runtime.effects import Program, create, get, now, patch, update
from labsim.kube.errors import ApiError
from labsim.model.kinds import Kind
from labsim.model.objects import Object, dig, name_of, namespace_of, thaw, timestamp


class Condition(NamedTuple):
    """What a condition should say."""

    status: str
    reason: str
    message: str = ""


def contains(present: Any, wanted: Any) -> bool:
    """Whether `present` already says everything that `wanted` says; lists must be equally long."""
    if present is wanted:
        return True
    if type(wanted) is dict:
        if type(present) is not dict:
            return False
        for key, value in wanted.items():
            if key not in present:
                return False
            mine = present[key]
            if mine is not value and not contains(mine, value):
                return False
        return True
    if type(wanted) is list:
        if type(present) is not list or len(present) != len(wanted):
            return False
        return all(contains(mine, theirs) for mine, theirs in zip(present, wanted, strict=True))
    return bool(present == wanted)


def overlay(present: Any, wanted: Any) -> Any:
    """`present` with everything that `wanted` says; lists are replaced."""
    if not (isinstance(present, dict) and isinstance(wanted, dict)):
        return wanted
    merged = dict(present)
    for key, value in wanted.items():
        merged[key] = overlay(merged[key], value) if key in merged else value
    return merged


def find(kind: Kind, namespace: str, name: str) -> Program[Object | None]:
    """From the cache; the server is asked where the cache does not have the object, which may only just have come."""
    found = yield from get(kind, namespace, name)
    return found if found is not None else (yield from get(kind, namespace, name, live=True))


def ensure(wanted: Object, kind: Kind, *, at: str | None = None) -> Program[Object]:
    """Create the object, or bring an existing one to what `wanted` says; fields that it does not name stay."""
    namespace, name = namespace_of(wanted), name_of(wanted)
    present = yield from get(kind, namespace, name, at=at)
    if present is None:
        try:
            return (yield from create(wanted, kind, at=at))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        present = yield from get(kind, namespace, name, live=True, at=at)
        if present is None:
            raise ApiError(409, "Conflict", f"{kind.qualified} {name!r} came and went")
    if contains(present, wanted):
        return present
    merged: Object = overlay(thaw(present), wanted)
    return (yield from update(merged, kind, at=at))


def ensure_exists(wanted: Object, kind: Kind, *, at: str | None = None) -> Program[Object]:
    """Create the object where there is none; an existing one stays as it is."""
    present = yield from get(kind, namespace_of(wanted), name_of(wanted), at=at)
    if present is not None:
        return present
    try:
        return (yield from create(wanted, kind, at=at))
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    found = yield from get(kind, namespace_of(wanted), name_of(wanted), live=True, at=at)
    return found if found is not None else wanted


def merged_conditions(
    present: Sequence[Object], wanted: Mapping[str, Condition | None], now_s: float, generation: int | None = None
) -> list[Object]:
    """The condition list after `wanted`; None removes a type. Transition times move only when a status changes."""
    result: list[Object] = []
    seen: set[str] = set()
    for entry in present:
        kind = entry["type"]
        seen.add(kind)
        if kind not in wanted:
            result.append(entry)
            continue
        target = wanted[kind]
        if target is not None:
            result.append(_condition(kind, target, now_s, generation, entry))
    for kind, target in wanted.items():
        if kind not in seen and target is not None:
            result.append(_condition(kind, target, now_s, generation, None))
    return result


def _condition(kind: str, target: Condition, now_s: float, generation: int | None, before: Object | None) -> Object:
    changed = before is None or before.get("status") != target.status
    entry: Object = {
        "type": kind,
        "status": target.status,
        "reason": target.reason,
        "message": target.message,
        "lastTransitionTime": timestamp(now_s) if before is None or changed else before.get("lastTransitionTime"),
    }
    if generation is not None:
        entry["observedGeneration"] = generation
    return entry


def write_status(
    kind: Kind,
    namespace: str,
    name: str,
    *,
    conditions: Mapping[str, Condition | None] | None = None,
    fields: Mapping[str, Any] | None = None,
    at: str | None = None,
) -> Program[Object | None]:
    """Bring the status to these conditions and fields; None where the object is gone.

    Nothing is asked of the server while the cache has everything as wanted; what is written starts from a live read.
    """
    moment_s = yield from now()
    cached = yield from get(kind, namespace, name, at=at)
    if cached is not None and not _status_changes(cached, conditions or {}, fields or {}, moment_s):
        return cached
    present = yield from get(kind, namespace, name, live=True, at=at)
    if present is None:
        return None
    body = _status_changes(present, conditions or {}, fields or {}, moment_s)
    if not body:
        return present
    change = {"metadata": {"resourceVersion": present["metadata"]["resourceVersion"]}, "status": body}
    return (yield from patch(kind, namespace, name, change, subresource="status", at=at))


def _status_changes(
    present: Object, conditions: Mapping[str, Condition | None], fields: Mapping[str, Any], now_s: float
) -> Object:
    body: Object = {key: value for key, value in fields.items() if dig(present, "status", key) != value}
    if conditions:
        before = dig(present, "status", "conditions", default=[])
        after = merged_conditions(before, conditions, now_s, present["metadata"].get("generation"))
        if after != before:
            body["conditions"] = after
    return body


def change_finalizer(obj: Object, kind: Kind, finalizer: str, *, present: bool) -> Program[Object]:
    """Add or remove a finalizer; nothing is written where it is already so."""
    finalizers = list(obj["metadata"].get("finalizers") or ())
    if (finalizer in finalizers) == present:
        return obj
    finalizers = [*finalizers, finalizer] if present else [entry for entry in finalizers if entry != finalizer]
    body = {"metadata": {"finalizers": finalizers, "resourceVersion": obj["metadata"]["resourceVersion"]}}
    return (yield from patch(kind, namespace_of(obj), name_of(obj), body))
