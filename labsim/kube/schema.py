"""Structural schemas of CRDs: pruning, defaulting and validation, with the texts of the real server.

A schema is compiled at its first use, once per CRD version; a walk then costs little more than the object's size.
Order on write, as upstream has it: prune, default, validate, and CEL rules where nothing is wrong that would mislead
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labsim.kube.schema_nodes import ObjectNode
from labsim.kube.schema_values import Cause, cause

Schema = dict[str, Any]

_ROOT_KEYS = ("apiVersion", "kind", "metadata")
# After these, rules could meet values that they were not written for.
_BLOCKING = frozenset(
    (
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    )
)
_NOT_CHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


class StructuralSchema:
    """One version's schema, ready to be walked along."""

    def __init__(self, schema: Schema) -> None:
        self._root = ObjectNode({**schema, "type": "object"})
        metadata = self._root.properties.get("metadata")
        self._metadata = metadata if isinstance(metadata, ObjectNode) and metadata.properties else None

    @property
    def has_rules(self) -> bool:
        return self._root.has_rules

    def complete(self, obj: dict[str, Any], old: dict[str, Any] | None = None) -> bool:
        """Prune and default an object in place; False where it is not valid.

        `old` is a state that has been completed before: what has not changed since is not looked at again.
        """
        fine = self._root.settle_members(obj, _ROOT_KEYS, old)
        if self._metadata is not None:
            fine = fine and not any(True for _ in self._metadata_problems(obj, None))
        return fine

    def unknown_fields(self, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
        """The paths that pruning would remove, for strict field validation; those of metadata are not looked at.

        `old` is a pruned state that may share parts with `obj`.
        """
        return list(self._root.unknown({key: item for key, item in obj.items() if key not in _ROOT_KEYS}, "", old))

    def problems(self, obj: dict[str, Any], old: dict[str, Any] | None, *, valid: bool = False) -> list[Cause]:
        """What is wrong with a completed object. What was wrong before and did not change is let pass (ratcheting).

        `valid`: `complete` has found nothing, so that only rules are left to be checked.
        """
        causes = [] if valid else list(self._schema_problems(obj, old))
        if not self._root.has_rules:
            return causes
        if any(found["reason"] in _BLOCKING for found in causes):
            return [*causes, cause("FieldValueInvalid", _NOT_CHECKED, "<nil>")]
        return [*causes, *self._root.rule_problems(obj, old, "")]

    def _schema_problems(self, obj: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
        body = {key: item for key, item in obj.items() if key not in _ROOT_KEYS}
        before = {} if old is None else old
        for key in self._root.required:
            if key not in obj:
                yield cause("FieldValueRequired", "Required value", key)
        for key, item in body.items():
            child = self._root.child(key)
            if child is not None:
                yield from child.problems(item, before.get(key), key)
        yield from self._metadata_problems(obj, old)

    def _metadata_problems(self, obj: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
        """A CRD may limit metadata.name and generateName, and nothing else of metadata."""
        if self._metadata is None:
            return
        for key in ("name", "generateName"):
            child, value = self._metadata.properties.get(key), obj["metadata"].get(key)
            if child is not None and value is not None:
                earlier = None if old is None else old["metadata"].get(key)
                yield from child.problems(value, earlier, f"metadata.{key}")
