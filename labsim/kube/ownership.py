"""managedFields: which manager owns which fields, after an ordinary write and after an apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from labsim.kube.errors import ApiError
from labsim.kube.fieldsets import (
    Comparison,
    FieldSet,
    compare,
    difference,
    fields_of_value,
    intersection,
    paths,
    remove_unowned,
    union,
)
from labsim.kube.merging import merged_values
from labsim.kube.shapes import Shape
from labsim.model.objects import Object, thaw

APPLY, UPDATE = "Apply", "Update"
# An object as another version of its kind has it, and that version's shape; None where all versions have one form.
InVersion = Callable[[str, Object], tuple[Object, Shape] | None]
ANCIENT = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"
UPDATE_MANAGERS_MAX = 10  # beyond these, the oldest share one entry
# Fields that nobody owns: the server sets them, or they name the object.
_NEVER_OWNED = ("apiVersion", "kind")
_NEVER_OWNED_METADATA = frozenset(
    "f:" + name
    for name in (
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "generation",
        "managedFields",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    )
)


@dataclasses.dataclass(slots=True)
class Entry:
    """One manager's fields."""

    manager: str
    operation: str
    api_version: str
    time: str
    fields: FieldSet
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What tells managers apart; an applier stays the same under another version of the kind."""
        return (self.manager, self.operation, "" if self.operation == APPLY else self.api_version, self.subresource)

    @property
    def shown(self) -> str:
        """How a conflict names this manager."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text

    def encoded(self) -> Object:
        made: Object = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields,
        }
        if self.time:
            made["time"] = self.time
        if self.subresource:
            made["subresource"] = self.subresource
        return made


def entries_of(managed: Any) -> list[Entry]:
    """The entries of a managedFields list. What cannot be read counts as no entry."""
    if not isinstance(managed, list):
        return []
    return [
        Entry(
            str(item.get("manager", "")),
            str(item.get("operation", UPDATE)),
            str(item.get("apiVersion", "")),
            str(item.get("time") or ""),
            item["fieldsV1"],
            str(item.get("subresource", "")),
        )
        for item in managed
        if isinstance(item, dict) and isinstance(item.get("fieldsV1"), dict)
    ]


def encoded(entries: Iterable[Entry]) -> list[Object]:
    """The managedFields list: by operation, time and manager."""
    # An entry without a time was made last: upstream orders first and takes the time away then.
    ordered = sorted(entries, key=lambda e: (e.operation, e.time or "~", e.manager, e.api_version, e.subresource))
    return [entry.encoded() for entry in ordered if entry.fields]


def _owned_part(fields: FieldSet, reset: tuple[str, ...]) -> FieldSet:
    """A set without what nobody owns, and without the parts that this kind of write does not reach."""
    made = {key: tree for key, tree in fields.items() if key[2:] not in _NEVER_OWNED and key[2:] not in reset}
    metadata = made.get("f:metadata")
    if metadata is not None:
        kept = {key: tree for key, tree in metadata.items() if key not in _NEVER_OWNED_METADATA and key != "."}
        if kept:
            made["f:metadata"] = kept
        else:
            del made["f:metadata"]
    return made


def updated(
    old: Object | None,
    new: Object,
    entries: list[Entry],
    *,
    shape: Shape,
    manager: str,
    now: str,
    subresource: str = "",
    reset: tuple[str, ...] = (),
    in_version: InVersion | None = None,
) -> list[Object]:
    """managedFields after an ordinary write by `manager`: what it changed is its own from now on, and only its.

    What a manager owns is said in the version that it wrote in: `in_version` shows it the change as it sees it.
    """
    seen = compare(old, new, shape)
    changed, removed = _owned_part(seen.changed, reset), _owned_part(seen.removed, reset)
    if not changed and not removed:
        return encoded(entries)
    changes = _Changes(old, new, seen, in_version)
    identity = (manager, UPDATE, str(new["apiVersion"]), subresource)
    rest: list[Entry] = []
    mine: FieldSet = changed
    time = now if changed else ""
    for entry in entries:
        here = changes.seen_in(entry.api_version)
        left = difference(entry.fields, union(_owned_part(here.changed, reset), _owned_part(here.removed, reset)))
        if entry.identity == identity:
            mine, time = union(left, changed), time or entry.time
        elif left:
            rest.append(entry if left is entry.fields else dataclasses.replace(entry, fields=left))
    if mine:
        # Upstream carries the fields of a Scale back to its object, and loses their time on the way.
        stamp = "" if subresource == "scale" else time or now
        rest.append(Entry(manager, UPDATE, str(new["apiVersion"]), stamp, mine, subresource))
    return encoded(_capped(rest))


class _Changes:
    """One change of an object, as each version of its kind shows it."""

    def __init__(self, old: Object | None, new: Object, seen: Comparison, in_version: InVersion | None) -> None:
        self._old = old
        self._new = new
        self._in_version = in_version
        self._seen = {str(new["apiVersion"]): seen}
        self._here = seen

    def seen_in(self, api_version: str) -> Comparison:
        """The change in a version; in the writer's own where that version is not another one."""
        found = self._seen.get(api_version)
        if found is None:
            found = self._seen[api_version] = self._compared(api_version)
        return found

    def _compared(self, api_version: str) -> Comparison:
        after = None if self._in_version is None else self._in_version(api_version, _bare(self._new))
        if after is None or self._in_version is None:
            return self._here
        before = None if self._old is None else self._in_version(api_version, _bare(self._old))
        return compare(None if before is None else before[0], after[0], after[1])


def _bare(obj: Object) -> Object:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "managedFields"}}


def _capped(entries: list[Entry]) -> list[Entry]:
    """Many updaters would make the list grow for ever: the oldest share an entry."""
    updates = [entry for entry in entries if entry.operation == UPDATE]
    surplus = len(updates) - UPDATE_MANAGERS_MAX
    if surplus <= 0:
        return entries
    old = sorted(updates, key=lambda entry: (entry.time, entry.manager))[: surplus + 1]
    together: dict[str, Entry] = {}
    for entry in old:
        known = together.get(entry.api_version)
        fields = entry.fields if known is None else union(known.fields, entry.fields)
        together[entry.api_version] = Entry(ANCIENT, UPDATE, entry.api_version, entry.time, fields)
    return [entry for entry in entries if entry not in old] + list(together.values())


def applied(
    live: Object | None,
    body: Object,
    *,
    shape: Shape,
    manager: str,
    force: bool,
    now: str,
    subresource: str = "",
    reset: tuple[str, ...] = (),
    in_version: InVersion | None = None,
) -> Object:
    """The object after an apply, with its managedFields. Raises ApiError 409 with every conflict unless forced."""
    config = {key: value for key, value in body.items() if key not in reset}
    wanted = _owned_part(fields_of_value(config, shape), reset)
    if live is None:
        made = {**config, "metadata": dict(config.get("metadata") or {})}
        made["metadata"]["managedFields"] = encoded(
            [Entry(manager, APPLY, str(body["apiVersion"]), now, wanted, subresource)]
        )
        return made
    entries = entries_of(live["metadata"].get("managedFields")) or _before_first_apply(live, shape, now)
    own = next((e for e in entries if e.identity == (manager, APPLY, "", subresource)), None)
    others = [entry for entry in entries if entry is not own]
    bare = _bare(live)
    merged = _merged(bare, config, shape, own, wanted, others, in_version)
    seen = compare(bare, merged, shape)
    changes = _Changes(bare, merged, seen, in_version)
    others = _without_conflicts(others, changes, force)
    others = [_reduced(entry, changes.seen_in(entry.api_version).removed) for entry in others]
    unchanged = not seen.changed and not seen.removed and own is not None and own.fields == wanted
    if unchanged and own is not None and own.api_version == body["apiVersion"]:
        return live
    # Who only joins in owning what is there already leaves no trace of when.
    time = now if seen.changed or seen.removed else own.time if own is not None else ""
    mine = Entry(manager, APPLY, str(body["apiVersion"]), time, wanted, subresource)
    merged["metadata"]["managedFields"] = encoded([*others, mine])
    return merged


def _before_first_apply(live: Object, shape: Shape, now: str) -> list[Entry]:
    """Whoever wrote what nobody has owned so far: one manager that stands for all of them."""
    bare = _bare(live)
    return entries_of(updated(None, bare, [], shape=shape, manager=BEFORE_FIRST_APPLY, now=now))


def _merged(
    live: Object,
    config: Object,
    shape: Shape,
    own: Entry | None,
    wanted: FieldSet,
    others: list[Entry],
    in_version: InVersion | None,
) -> Object:
    """The live object with what is applied, less what this manager applied before and nobody wants any more."""
    merged: Object = merged_values(thaw(live), thaw(config), shape)
    if own is None:
        return merged
    version = str(config["apiVersion"])
    elsewhere = None if in_version is None else in_version(own.api_version, merged)
    if in_version is None or elsewhere is None:
        owned = _owned_by(others, wanted)
        if difference(own.fields, wanted):
            remove_unowned(merged, shape, own.fields, owned)
        return merged
    # What was applied before was said in another version: it is taken away there, and what goes with it goes here.
    there, its_shape = elsewhere
    pruned = thaw(there)
    remove_unowned(pruned, its_shape, own.fields, _owned_by(others, {}, own.api_version))
    whole, left = in_version(version, there), in_version(version, pruned)
    if whole is not None and left is not None:
        lost = compare(whole[0], left[0], shape).removed
        remove_unowned(merged, shape, lost, _owned_by(others, wanted, version))
    return merged


def _owned_by(entries: Iterable[Entry], owned: FieldSet, api_version: str = "") -> FieldSet:
    """`owned` and what these managers own; those alone who said it in a version, where one is named."""
    for entry in entries:
        if not api_version or entry.api_version == api_version:
            owned = union(owned, entry.fields)
    return owned


def _reduced(entry: Entry, lost: FieldSet) -> Entry:
    left = difference(entry.fields, lost)
    return entry if left == entry.fields else dataclasses.replace(entry, fields=left)


def _without_conflicts(others: list[Entry], changes: _Changes, force: bool) -> list[Entry]:
    """What others keep of the fields that the apply changes: nothing if forced, else it is an error."""
    conflicts: list[tuple[Entry, list[str]]] = []
    kept: list[Entry] = []
    for entry in others:
        overlap = intersection(entry.fields, changes.seen_in(entry.api_version).changed)
        if not overlap:
            kept.append(entry)
            continue
        conflicts.append((entry, sorted(paths(overlap))))
        kept.append(_reduced(entry, overlap))
    if conflicts and not force:
        raise _conflict_error(conflicts)
    return kept


def _conflict_error(conflicts: list[tuple[Entry, list[str]]]) -> ApiError:
    conflicts.sort(key=lambda found: found[0].shown)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {entry.shown}", "field": path}
        for entry, found in conflicts
        for path in found
    ]
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines: list[str] = []
        for entry, found in conflicts:
            lines += [f"conflicts with {entry.shown}:", *(f"- {path}" for path in found)]
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", text, {"causes": causes})
