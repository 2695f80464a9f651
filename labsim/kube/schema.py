"""Structural schemas of CRDs: pruning, defaulting and validation, with the texts of the real server.

`compiled` turns a schema into a checker once per CRD version; the walk then costs little more than the object's size.
Order on write, as upstream has it: prune, default, validate, and CEL rules only where the schema holds.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from labsim.kube.cel import Rule, broken_rules

Schema = dict[str, Any]
Cause = dict[str, str]  # reason, message, field

_TYPE_NAMES = {str: "string", dict: "object", list: "array", bool: "boolean", int: "integer", float: "number"}
_PYTHON_TYPES: dict[str, type] = {"string": str, "object": dict, "array": list, "boolean": bool}
_ROOT_KEYS = ("apiVersion", "kind", "metadata")


def _cause(reason: str, message: str, field: str) -> Cause:
    return {"reason": reason, "message": message, "field": field}


class StructuralSchema:
    """One version's schema, as a tree of nodes that know their children."""

    def __init__(self, schema: Schema) -> None:
        self._root = _Node(schema)

    def complete(self, obj: dict[str, Any]) -> None:
        """Prune and default an object in place."""
        for key in list(obj):
            if key in _ROOT_KEYS:
                continue
            child = self._root.properties.get(key)
            if child is not None:
                child.prune(obj[key])
            elif not self._root.keeps_unknown:
                del obj[key]
        self._root.default(obj)

    def unknown_fields(self, obj: dict[str, Any]) -> list[str]:
        """The paths that pruning would remove, for strict field validation."""
        found: list[str] = []
        for key, value in obj.items():
            if key in _ROOT_KEYS:
                continue
            child = self._root.properties.get(key)
            if child is not None:
                found += child.unknown(value, key)
            elif not self._root.keeps_unknown:
                found.append(key)
        return found

    def problems(self, obj: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
        """What is wrong with an object. What was wrong before and did not change is let pass (ratcheting)."""
        causes = list(self._root.check(obj, old, "", root=True))
        if causes:
            if self._root.has_rules:
                text = "Invalid value: null: some validation rules were not checked because the object was invalid; "
                text += "correct the existing errors to complete validation"
                causes.append(_cause("FieldValueInvalid", text, "<nil>"))
            return causes
        if self._root.has_rules:
            causes += self._root.check_rules(obj, old, "")
        return causes


class _Node:
    """One node of a schema."""

    __slots__ = (
        "additional",
        "default_value",
        "has_default",
        "has_rules",
        "items",
        "keeps_unknown",
        "nullable",
        "pattern",
        "properties",
        "rules",
        "schema",
        "type",
    )

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.type: str | None = schema.get("type")
        self.properties = {key: _Node(child) for key, child in schema.get("properties", {}).items()}
        additional, items = schema.get("additionalProperties"), schema.get("items")
        self.additional = _Node(additional) if isinstance(additional, dict) else None
        self.items = _Node(items) if isinstance(items, dict) else None
        self.keeps_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or additional is True
        self.keeps_unknown = self.keeps_unknown or (self.type != "object" and not self.properties)
        self.nullable = bool(schema.get("nullable"))
        self.has_default = "default" in schema
        self.default_value = schema.get("default")
        self.pattern = re.compile(_go_pattern(schema["pattern"])) if "pattern" in schema else None
        self.rules = tuple(Rule.of(entry) for entry in schema.get("x-kubernetes-validations", ()))
        children = [*self.properties.values(), *(node for node in (self.additional, self.items) if node)]
        self.has_rules = bool(self.rules) or any(child.has_rules for child in children)

    def prune(self, value: Any) -> None:
        if isinstance(value, dict):
            for key in list(value):
                child = self.properties.get(key, self.additional)
                if child is not None:
                    child.prune(value[key])
                elif not self.keeps_unknown:
                    del value[key]
        elif isinstance(value, list) and self.items is not None:
            for item in value:
                self.items.prune(item)

    def unknown(self, value: Any, path: str) -> list[str]:
        found: list[str] = []
        if isinstance(value, dict):
            for key, item in value.items():
                child = self.properties.get(key, self.additional)
                if child is not None:
                    found += child.unknown(item, f"{path}.{key}")
                elif not self.keeps_unknown:
                    found.append(f"{path}.{key}")
        elif isinstance(value, list) and self.items is not None:
            for index, item in enumerate(value):
                found += self.items.unknown(item, f"{path}[{index}]")
        return found

    def default(self, value: Any) -> None:
        """Fill in defaults. A null for a field with a default becomes the default; a plain null is dropped."""
        if isinstance(value, dict):
            for key, child in self.properties.items():
                if key in value:
                    if value[key] is None and not child.nullable:
                        if not child.has_default:
                            del value[key]
                            continue
                        value[key] = copy.deepcopy(child.default_value)
                elif child.has_default:
                    value[key] = copy.deepcopy(child.default_value)
                else:
                    continue
                child.default(value[key])
            if self.additional is not None:
                for key, item in value.items():
                    if key not in self.properties:
                        self.additional.default(item)
        elif isinstance(value, list) and self.items is not None:
            for item in value:
                self.items.default(item)

    def check(self, value: Any, old: Any, path: str, *, root: bool = False) -> Iterator[Cause]:
        if value is None and self.nullable:
            return
        if old is not None and old == value and not root:
            return
        if not self._type_fits(value):
            name = "null" if value is None else _TYPE_NAMES.get(type(value), "unknown")
            text = f'Invalid value: "{name}": {path} in body must be of type {self.type}: "{name}"'
            yield _cause("FieldValueTypeInvalid", text, path)
            return
        yield from self._check_value(value, path)
        if isinstance(value, dict):
            for key in self.schema.get("required", ()):
                if key not in value:
                    yield _cause("FieldValueRequired", "Required value", f"{path}.{key}" if path else key)
            before = old if isinstance(old, dict) else {}
            for key, item in value.items():
                if root and key in _ROOT_KEYS:
                    continue
                child = self.properties.get(key, self.additional)
                if child is not None:
                    yield from child.check(item, before.get(key), f"{path}.{key}" if path else key)
        elif isinstance(value, list) and self.items is not None:
            previous = old if isinstance(old, list) else []
            for index, item in enumerate(value):
                known = previous[index] if index < len(previous) else None
                yield from self.items.check(item, known, f"{path}[{index}]")

    def _type_fits(self, value: Any) -> bool:
        if self.schema.get("x-kubernetes-int-or-string"):
            return isinstance(value, int | str) and not isinstance(value, bool)
        if self.type is None:
            return True
        if self.type == "integer":
            return (isinstance(value, int) and not isinstance(value, bool)) or (
                isinstance(value, float) and value.is_integer()
            )
        if self.type == "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        return isinstance(value, _PYTHON_TYPES.get(self.type, object))

    def _check_value(self, value: Any, path: str) -> Iterator[Cause]:
        schema = self.schema
        if "enum" in schema and value not in schema["enum"]:
            known = ", ".join(_shown(entry) for entry in schema["enum"])
            yield _cause(
                "FieldValueNotSupported", f"Unsupported value: {_shown(value)}: supported values: {known}", path
            )
        if isinstance(value, str):
            if self.pattern is not None and not self.pattern.search(value):
                text = f"Invalid value: {_shown(value)}: {path} in body should match '{schema['pattern']}'"
                yield _cause("FieldValueInvalid", text, path)
            if len(value) > schema.get("maxLength", len(value)):
                yield _cause("FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes", path)
            if len(value) < schema.get("minLength", 0):
                text = f"Invalid value: {_shown(value)}: {path} in body should be at least {schema['minLength']} chars long"
                yield _cause("FieldValueInvalid", text, path)
        elif isinstance(value, list):
            if len(value) > schema.get("maxItems", len(value)):
                text = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
                yield _cause("FieldValueTooMany", text, path)
            if len(value) < schema.get("minItems", 0):
                text = f"Invalid value: {len(value)}: {path} in body should have at least {schema['minItems']} items"
                yield _cause("FieldValueInvalid", text, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if "minimum" in schema and value < schema["minimum"]:
                text = f"Invalid value: {value}: {path} in body should be greater than or equal to {schema['minimum']}"
                yield _cause("FieldValueInvalid", text, path)
            if "maximum" in schema and value > schema["maximum"]:
                text = f"Invalid value: {value}: {path} in body should be less than or equal to {schema['maximum']}"
                yield _cause("FieldValueInvalid", text, path)

    def check_rules(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        """The CEL rules of this node and of those below it. Unchanged parts are not evaluated again."""
        if not self.has_rules or value is None or (old is not None and old == value):
            return
        if self.rules:
            yield from broken_rules(self.rules, value, old, path)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for key, item in value.items():
                child = self.properties.get(key, self.additional)
                if child is not None and child.has_rules:
                    yield from child.check_rules(item, before.get(key), f"{path}.{key}" if path else key)
        elif isinstance(value, list) and self.items is not None and self.items.has_rules:
            for index, item in enumerate(value):
                yield from self.items.check_rules(item, None, f"{path}[{index}]")


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _go_pattern(pattern: str) -> str:
    """Go's `$` is the end of the text; Python's also stands before a last newline."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") and not pattern.endswith(r"\$") else pattern
