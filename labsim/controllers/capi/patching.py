"""The deferred patch: a controller changes a copy, and at the end exactly what changed is written.

Metadata and spec go in one merge patch, the status in another, as cluster-api's patch helper sends them. A list of
conditions is shared by several controllers: it is written under the resourceVersion that it was read at, and on a
conflict the conditions that this controller changed are put into the list that stands there now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labsim.controllers.runtime.effects import Program, get, patch
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.history import ABSENT, difference
from labsim.kube.errors import ApiError
from labsim.model.kinds import Kind
from labsim.model.objects import Object, dig, name_of, namespace_of

_CONDITION_TRIES = 5


def editable(obj: Object) -> Object:
    """A copy to change. What lies deeper than `status.conditions` is shared, and has to be replaced whole."""
    copy = dict(obj)
    for part in ("metadata", "spec", "status"):
        fields = obj.get(part)
        if fields is not None:  # an empty one is shared too
            copy[part] = {
                field: value.copy() if type(value) is dict or type(value) is list else value
                for field, value in fields.items()
            }
    return copy


def patch_changes(
    kind: Kind,
    before: Object,
    after: Object,
    *,
    manager: str = "",
    own: OwnWrites | None = None,
    is_done: bool = True,
) -> Program[Object]:
    """Write what differs between the object as it was read and as it shall be; returns the object as stored last.

    `own` remembers what was written. A pass that is done has seen to everything that its own status could ask for, so
    the event of that status is known for an echo; after any other pass it is one more occasion to try again.
    Raises ApiError. When the last finalizer goes, the status is not written any more.
    """
    stored: Object | None = None
    main = difference(_without_status(before), _without_status(after))
    if main is not ABSENT:
        stored = yield from patch(kind, namespace_of(before), name_of(before), main, manager=manager)
        if own is not None:
            own.wrote(stored, echoes=False)
        if dig(before, "metadata", "finalizers") and not dig(after, "metadata", "finalizers"):
            return stored  # the object may be gone with its last finalizer, and its status is of no use to anybody
    status = difference(before.get("status") or {}, after.get("status") or {})
    if status is ABSENT:
        return stored or after
    if "conditions" in status:
        stored = yield from _patch_conditions(kind, before, after, status, stored, manager)
    else:
        stored = yield from _patch_status(kind, before, {"status": status}, manager)
    if own is not None:
        own.wrote(stored, echoes=is_done)
    return stored


def _without_status(obj: Object) -> Object:
    """Metadata without what the server alone writes, and every field but the status."""
    kept = {key: value for key, value in obj.items() if key != "status"}
    kept["metadata"] = {
        key: value for key, value in obj["metadata"].items() if key not in ("resourceVersion", "managedFields")
    }
    return kept


def _patch_status(kind: Kind, obj: Object, body: Object, manager: str) -> Program[Object]:
    stored = yield from patch(kind, namespace_of(obj), name_of(obj), body, subresource="status", manager=manager)
    return stored


def _patch_conditions(
    kind: Kind, before: Object, after: Object, status: Object, stored: Object | None, manager: str
) -> Program[Object]:
    """The status with its conditions, under optimistic concurrency."""
    old = _by_type(dig(before, "status", "conditions", default=()))
    new = _by_type(dig(after, "status", "conditions", default=()))
    changed = {name: entry for name, entry in new.items() if old.get(name) != entry}
    dropped = [name for name in old if name not in new]
    base: Object | None = stored or before
    tries = 0
    while base is not None:
        merged = _by_type(dig(base, "status", "conditions", default=()))
        merged.update(changed)
        for name in dropped:
            merged.pop(name, None)
        ordered = sorted(merged.values(), key=lambda entry: (entry["type"] != "Ready", entry["type"]))
        body = {
            "metadata": {"resourceVersion": base["metadata"]["resourceVersion"]},
            "status": {**status, "conditions": ordered},
        }
        try:
            return (yield from _patch_status(kind, before, body, manager))
        except ApiError as error:
            tries += 1
            if error.code != 409 or tries == _CONDITION_TRIES:
                raise
        base = yield from get(kind, namespace_of(before), name_of(before), live=True)
    return after


def _by_type(conditions: Sequence[Any]) -> dict[str, Object]:
    return {entry["type"]: entry for entry in conditions}
