"""Whether the schema of a CustomResourceDefinition is structural, and whether its defaults and rules make sense."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from labsim.kube.definition_rules import rule_problems, total_cost_problem
from labsim.kube.errors import cause
from labsim.kube.schema_nodes import node_of

Cause = dict[str, str]
_FORBIDDEN_INSIDE = ("type", "default", "nullable", "additionalProperties", "title", "description")
_INT_OR_STRING = "x-kubernetes-int-or-string"


def schema_problems(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """What is wrong with a whole schema."""
    if schema.get("type") not in (None, "object"):
        shown = orjson.dumps(schema.get("type")).decode()
        yield cause("FieldValueInvalid", f"Invalid value: {shown}: must be object at the root", f"{path}.type")
        return
    if schema.get("type") is None:
        yield cause("FieldValueRequired", "Required value: must not be empty at the root", f"{path}.type")
    causes = list(_node_problems(schema, path, at_root=True))
    yield from total_cost_problem(causes, path)
    yield from causes


def _node_problems(schema: Mapping[str, Any], path: str, *, at_root: bool = False) -> Iterator[Cause]:
    if "$ref" in schema:
        yield cause("FieldValueForbidden", "Forbidden: $ref is not supported", f"{path}.$ref")
        return
    loose = schema.get(_INT_OR_STRING) or schema.get("x-kubernetes-preserve-unknown-fields")
    if not at_root and not schema.get("type") and not loose:
        text = "Required value: must not be empty for specified object fields"
        yield cause("FieldValueRequired", text, f"{path}.type")
    yield from _shape_problems(schema, path)
    yield from _list_problems(schema, path)
    if "default" in schema and schema["default"] is not None:
        yield from _default_problems(schema, path)
    yield from rule_problems(schema, path, at_root=at_root)
    for junctor in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(junctor) or ()):
            if not _is_int_or_string(schema, junctor):
                yield from _inside_problems(part, f"{path}.{junctor}[{index}]")
    if isinstance(schema.get("not"), Mapping):
        yield from _inside_problems(schema["not"], f"{path}.not")
    for key, child in (schema.get("properties") or {}).items():
        here = f"{path}.properties[{key}]"
        if at_root and key == "metadata":
            if not set(child.get("properties") or ()) <= {"name", "generateName"}:
                text = (
                    "must not specify anything other than name and generateName, but metadata is implicitly specified"
                )
                yield cause("FieldValueForbidden", f"Forbidden: {text}", here)
        elif at_root and key in ("apiVersion", "kind") and child.get("type") != "string":
            shown = orjson.dumps(child.get("type", "")).decode()
            yield cause("FieldValueInvalid", f"Invalid value: {shown}: must be string", f"{here}.type")
        else:
            yield from _node_problems(child, here)
    if isinstance(schema.get("items"), Mapping):
        yield from _node_problems(schema["items"], f"{path}.items")
    elif isinstance(schema.get("items"), list):
        text = "Forbidden: items must be a schema object and not an array"
        yield cause("FieldValueForbidden", text, f"{path}.items")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _node_problems(schema["additionalProperties"], f"{path}.additionalProperties")


_TYPES = ("array", "boolean", "integer", "number", "object", "string")


def _shape_problems(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """What a schema may not say of itself."""
    kind = schema.get("type")
    if kind and kind not in _TYPES:
        yield _unsupported(kind, _TYPES, f"{path}.type")
    if kind == "array" and schema.get("items") is None:
        yield cause("FieldValueRequired", "Required value: must be specified", f"{path}.items")
    if schema.get("properties") and schema.get("additionalProperties") not in (None, False):
        text = "Forbidden: additionalProperties and properties are mutual exclusive"
        yield cause("FieldValueForbidden", text, f"{path}.additionalProperties")
    if schema.get("uniqueItems"):
        text = "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield cause("FieldValueForbidden", text, f"{path}.uniqueItems")
    keeps = schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("x-kubernetes-embedded-resource") and not keeps and not schema.get("properties"):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        yield cause("FieldValueRequired", f"Required value: {text}", f"{path}.properties")
    map_type = schema.get("x-kubernetes-map-type")
    if map_type is not None and map_type not in ("atomic", "granular"):
        yield _unsupported(map_type, ("atomic", "granular"), f"{path}.x-kubernetes-map-type")
    list_type = schema.get("x-kubernetes-list-type")
    if list_type is not None and list_type not in ("atomic", "set", "map"):
        yield _unsupported(list_type, ("atomic", "set", "map"), f"{path}.x-kubernetes-list-type")
    elif list_type is not None and kind != "array":
        shown = orjson.dumps(kind or "").decode()
        text = f"Invalid value: {shown}: must be array if x-kubernetes-list-type is specified"
        yield cause("FieldValueInvalid", text, f"{path}.type")
    yield from _pattern_problems(schema.get("pattern"), f"{path}.pattern")


def _pattern_problems(pattern: Any, path: str) -> Iterator[Cause]:
    """Only what Python and Go agree on being no regular expression."""
    if not isinstance(pattern, str):
        return
    try:
        re.compile(pattern)
    except re.error as problem:
        if "unterminated subpattern" not in problem.msg and "missing )" not in problem.msg:
            return
        text = f"must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `{pattern}`"
        yield cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(pattern).decode()}: {text}", path)


def _unsupported(value: Any, supported: tuple[str, ...], path: str) -> Cause:
    listed = ", ".join(f'"{name}"' for name in supported)
    shown = orjson.dumps(value).decode()
    return cause("FieldValueNotSupported", f"Unsupported value: {shown}: supported values: {listed}", path)


def _is_int_or_string(schema: Mapping[str, Any], junctor: str) -> bool:
    """The one combination that may name types: an integer or a text."""
    types = [part.get("type") for part in schema.get(junctor) or ()]
    return (
        bool(schema.get(_INT_OR_STRING))
        and junctor in ("anyOf", "allOf")
        and types in ([*("integer", "string")], [None])
    )


def _inside_problems(part: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Inside a combination a schema may limit values, but not say what is there."""
    for field in _FORBIDDEN_INSIDE:
        if field in part:
            yield cause("FieldValueForbidden", "Forbidden: must be empty to be structural", f"{path}.{field}")
    for key, child in (part.get("properties") or {}).items():
        yield from _inside_problems(child, f"{path}.properties[{key}]")
    if isinstance(part.get("items"), Mapping):
        yield from _inside_problems(part["items"], f"{path}.items")


def _list_problems(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    list_type = schema.get("x-kubernetes-list-type")
    items = schema.get("items")
    if not isinstance(items, Mapping):
        items = {}
    if list_type == "set" and items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        shown = orjson.dumps(items.get("x-kubernetes-map-type")).decode()
        text = f"Invalid value: {shown}: must be atomic as item of a list with x-kubernetes-list-type=set"
        yield cause("FieldValueInvalid", text, f"{path}.items.x-kubernetes-map-type")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if list_type == "map" and not keys:
        text = "Required value: must not be empty if x-kubernetes-list-type is map"
        yield cause("FieldValueRequired", text, f"{path}.x-kubernetes-list-map-keys")
    if list_type == "map":
        properties = items.get("properties") or {}
        for index, key in enumerate(keys):
            here = f"{path}.x-kubernetes-list-map-keys[{index}]"
            if key not in properties:
                text = f'Invalid value: "{key}": entries must all be names of item properties'
                yield cause("FieldValueInvalid", text, here)
            elif key not in (items.get("required") or ()) and "default" not in properties[key]:
                text = (
                    "Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be "
                )
                text += "a required property"
                yield cause("FieldValueRequired", text, f"{path}.items.properties[{key}].default")


def _default_problems(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    node = node_of(schema)
    value = schema["default"]
    here = f"{path}.default"
    if any(True for _ in node.unknown(value, "")):
        shown = orjson.dumps(value).decode()
        yield cause("FieldValueInvalid", f"Invalid value: {shown}: must not have unknown fields", here)
        return
    settled = orjson.loads(orjson.dumps(value))
    node.settle(settled)
    for found in node.problems(settled, None, ""):
        yield {**found, "field": here + (found["field"] if found["field"] != "<nil>" else "")}
