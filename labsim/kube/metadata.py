"""What holds for every object's metadata: names, labels, annotations, finalizers, owners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from labsim.kube.errors import cause
from labsim.kube.label_syntax import Problems, label_key_problems, label_value_problems
from labsim.model.objects import Object

ANNOTATION_BYTES_MAX = 262_144
_STANDARD_FINALIZERS = frozenset(("kubernetes", "orphan", "foregroundDeletion"))
_EMPTIED = ("labels", "annotations", "finalizers", "ownerReferences", "managedFields")
_OWNER_ORDER = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
# Fields that only the server sets; a client's values are put back, without a word.
KEPT_FIELDS = (
    "uid",
    "creationTimestamp",
    "name",
    "namespace",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
)

Cause = dict[str, str]


def drop_empty(metadata: Object) -> None:
    """Empty maps and lists are not kept."""
    for field in _EMPTIED:
        if field in metadata and not metadata[field]:
            del metadata[field]
    metadata.pop("selfLink", None)


def keep_server_fields(metadata: Object, before: Object) -> None:
    """Put back what a client must not set."""
    for field in KEPT_FIELDS:
        if field in before:
            metadata[field] = before[field]
        else:
            metadata.pop(field, None)


def metadata_problems(
    metadata: Object, old: Object | None, name_problems: Problems, *, is_custom: bool = True
) -> list[Cause]:
    """What is wrong with an object's metadata; what has not changed is not looked at again.

    Built-in kinds know the finalizers that may stand without a domain; custom ones take any.
    """
    found: list[Cause] = []
    if old is None:
        shown = f"Invalid value: {_shown(metadata['name'])}: "
        found += [cause("FieldValueInvalid", shown + text, "metadata.name") for text in name_problems(metadata["name"])]
    before = old or {}
    labels = metadata.get("labels")
    if labels and labels is not before.get("labels") and labels != before.get("labels"):
        found += _label_problems(labels)
    annotations = metadata.get("annotations")
    if annotations and annotations is not before.get("annotations") and annotations != before.get("annotations"):
        found += _annotation_problems(annotations)
    finalizers = metadata.get("finalizers")
    if finalizers and finalizers is not before.get("finalizers") and finalizers != before.get("finalizers"):
        found += _finalizer_problems(finalizers, before, is_custom)
    owners = metadata.get("ownerReferences")
    if owners and owners is not before.get("ownerReferences") and owners != before.get("ownerReferences"):
        found += _owner_problems(owners)
    return found


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()


def _label_problems(labels: dict[str, str]) -> Iterator[Cause]:
    for key, value in labels.items():
        for text in label_key_problems(key):
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(key)}: {text}", "metadata.labels")
        for text in label_value_problems(value):
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(value)}: {text}", "metadata.labels")


def _annotation_problems(annotations: dict[str, str]) -> Iterator[Cause]:
    for key in annotations:
        for text in label_key_problems(key.lower()):
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(key)}: {text}", "metadata.annotations")
    if sum(len(key) + len(value) for key, value in annotations.items()) > ANNOTATION_BYTES_MAX // 4:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
        if size > ANNOTATION_BYTES_MAX:
            text = f"Too long: may not be more than {ANNOTATION_BYTES_MAX} bytes"
            yield cause("FieldValueTooLong", text, "metadata.annotations")


def _finalizer_problems(finalizers: list[str], before: Object, is_custom: bool) -> Iterator[Cause]:
    if before.get("deletionTimestamp"):
        known = before.get("finalizers") or []
        added = [entry for entry in finalizers if entry not in known]
        if added:
            listed = ", ".join(_shown(entry) for entry in added)
            text = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
            # Upstream's checks of metadata run twice on an update, and both say so.
            yield cause("FieldValueForbidden", f"{text}[]string{{{listed}}}", "metadata.finalizers")
            yield cause("FieldValueForbidden", f"{text}[]string{{{listed}}}", "metadata.finalizers")
    for index, entry in enumerate(finalizers):
        for text in label_key_problems(entry):
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(entry)}: {text}", "metadata.finalizers")
        if not is_custom and "/" not in entry and entry not in _STANDARD_FINALIZERS:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(entry)}: {text}", f"metadata.finalizers[{index}]")


def _owner_problems(owners: list[Object]) -> Iterator[Cause]:
    path = "metadata.ownerReferences"
    controllers = []
    for owner in owners:
        if not str(owner.get("apiVersion", "")).rpartition("/")[2]:
            shown = _shown(owner.get("apiVersion", ""))
            yield cause("FieldValueInvalid", f"Invalid value: {shown}: version must not be empty", f"{path}.apiVersion")
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                yield cause("FieldValueInvalid", 'Invalid value: "": must not be empty', f"{path}.{field}")
        if owner.get("controller"):
            controllers.append(f"{owner.get('kind')}/{owner.get('name')}")
    if len(controllers) > 1:
        listed = [{key: owner[key] for key in _OWNER_ORDER if key in owner} for owner in owners]
        text = "Only one reference can have Controller set to true. Found "
        text += f'"true" in references for {controllers[0]} and {controllers[1]}'
        yield cause("FieldValueInvalid", f"Invalid value: {_shown(listed)}: {text}", path)
