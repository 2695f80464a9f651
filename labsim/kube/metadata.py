"""What holds for every object's metadata: names, labels, annotations, finalizers, owners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from labsim.kube.errors import cause
from labsim.kube.label_syntax import Problems, label_key_problems, label_value_problems
from labsim.kube.traits import CUSTOM, Traits
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
    metadata: Object, old: Object | None, name_problems: Problems, traits: Traits = CUSTOM
) -> list[Cause]:
    """What is wrong with an object's metadata; what has not changed is not looked at again.

    An update is checked more than once, and each check tells what it finds.
    """
    found: list[Cause] = []
    if old is None:
        found += _name_causes(metadata, name_problems)
    before = old or {}
    labels = metadata.get("labels")
    if labels and labels is not before.get("labels") and labels != before.get("labels"):
        found += _often(_label_problems(labels), old, traits.metadata_checks)
    annotations = metadata.get("annotations")
    if annotations and annotations is not before.get("annotations") and annotations != before.get("annotations"):
        found += _often(_annotation_problems(annotations), old, traits.metadata_checks)
    finalizers = metadata.get("finalizers")
    if finalizers and finalizers is not before.get("finalizers") and finalizers != before.get("finalizers"):
        found += _added_finalizers(finalizers, before)
        found += _often(_finalizer_problems(finalizers, traits), old, traits.finalizer_checks)
    owners = metadata.get("ownerReferences")
    if owners and owners is not before.get("ownerReferences") and owners != before.get("ownerReferences"):
        found += _often(_owner_problems(owners), old, traits.metadata_checks)
    return found


def _often(causes: Iterator[Cause], old: Object | None, checks: int) -> list[Cause]:
    return list(causes) * (1 if old is None else checks)


def _name_causes(metadata: Object, name_problems: Problems) -> Iterator[Cause]:
    if not metadata["name"]:
        yield cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
        return
    prefix = str(metadata.get("generateName") or "")
    if prefix:
        # What follows the prefix makes a trailing dash good.
        masked = prefix[:-1] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix
        for text in name_problems(masked):
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(prefix)}: {text}", "metadata.generateName")
    for text in name_problems(metadata["name"]):
        yield cause("FieldValueInvalid", f"Invalid value: {_shown(metadata['name'])}: {text}", "metadata.name")


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


def _added_finalizers(finalizers: list[str], before: Object) -> Iterator[Cause]:
    if before.get("deletionTimestamp"):
        known = before.get("finalizers") or []
        added = [entry for entry in finalizers if entry not in known]
        if added:
            listed = ", ".join(_shown(entry) for entry in added)
            text = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
            # Upstream's checks of metadata run twice on an update, and both say so.
            yield cause("FieldValueForbidden", f"{text}[]string{{{listed}}}", "metadata.finalizers")
            yield cause("FieldValueForbidden", f"{text}[]string{{{listed}}}", "metadata.finalizers")


def _finalizer_problems(finalizers: list[str], traits: Traits) -> Iterator[Cause]:
    for index, entry in enumerate(finalizers):
        for text in label_key_problems(entry):
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(entry)}: {text}", "metadata.finalizers")
        if traits.known_finalizers and "/" not in entry and entry not in _STANDARD_FINALIZERS:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(entry)}: {text}", f"metadata.finalizers[{index}]")


def _owner_problems(owners: list[Object]) -> Iterator[Cause]:
    path = "metadata.ownerReferences"
    controllers = []
    for owner in owners:
        if not str(owner.get("apiVersion", "")).rpartition("/")[2]:
            shown = _shown(owner.get("apiVersion", ""))
            yield cause("FieldValueInvalid", f"Invalid value: {shown}: version must not be empty", f"{path}.apiVersion")
        elif owner.get("kind") == "Event" and owner["apiVersion"] in (
            "v1",
            "events.k8s.io/v1",
            "events.k8s.io/v1beta1",
        ):
            group, _, version = owner["apiVersion"].rpartition("/")
            text = f"{group}/{version}, Kind=Event is disallowed from being an owner"
            yield cause("FieldValueInvalid", f"Invalid value: {_shown(_ordered(owner))}: {text}", path)
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                yield cause("FieldValueInvalid", 'Invalid value: "": must not be empty', f"{path}.{field}")
        if owner.get("controller"):
            controllers.append(f"{owner.get('kind')}/{owner.get('name')}")
    if len(controllers) > 1:
        listed = [_ordered(owner) for owner in owners]
        text = "Only one reference can have Controller set to true. Found "
        text += f'"true" in references for {controllers[0]} and {controllers[1]}'
        yield cause("FieldValueInvalid", f"Invalid value: {_shown(listed)}: {text}", path)


def _ordered(owner: Object) -> Object:
    return {key: owner[key] for key in _OWNER_ORDER if key in owner}
