"""Whether the schema of a CustomResourceDefinition is structural, and whether its defaults and rules make sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from labsim.kube.cel import syntax_problem
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
    yield from _node_problems(schema, path, at_root=True)


def _node_problems(schema: Mapping[str, Any], path: str, *, at_root: bool = False) -> Iterator[Cause]:
    loose = schema.get(_INT_OR_STRING) or schema.get("x-kubernetes-preserve-unknown-fields")
    if not at_root and not schema.get("type") and not loose:
        text = "Required value: must not be empty for specified object fields"
        yield cause("FieldValueRequired", text, f"{path}.type")
    yield from _list_problems(schema, path)
    if "default" in schema and schema["default"] is not None:
        yield from _default_problems(schema, path)
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        here = f"{path}.x-kubernetes-validations[{index}].rule"
        problem = _rule_problem(schema, str(rule.get("rule", "")))
        if problem:
            yield cause("FieldValueInvalid", f"Invalid value: {problem}", here)
    for junctor in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(junctor) or ()):
            if not _is_int_or_string(schema, junctor):
                yield from _inside_problems(part, f"{path}.{junctor}[{index}]")
    if isinstance(schema.get("not"), Mapping):
        yield from _inside_problems(schema["not"], f"{path}.not")
    for key, child in (schema.get("properties") or {}).items():
        if not (at_root and key == "metadata"):
            yield from _node_problems(child, f"{path}.properties[{key}]")
    if isinstance(schema.get("items"), Mapping):
        yield from _node_problems(schema["items"], f"{path}.items")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _node_problems(schema["additionalProperties"], f"{path}.additionalProperties")


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
    items = schema.get("items") or {}
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


def _rule_problem(schema: Mapping[str, Any], rule: str) -> str:
    """What is wrong with a rule: its syntax, or a field of something that has none."""
    if not rule.strip():
        return "rule is not specified"
    problem = syntax_problem(rule)
    if problem:
        return f"{orjson.dumps({'Rule': rule}).decode()}: compilation failed: {problem}"
    if schema.get("type") in ("integer", "string", "boolean", "number") and "self." in rule:
        called = rule.partition("self.")[2].lstrip()
        name = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in called).split(" ")[0]
        if not called[len(name) :].lstrip().startswith("("):
            text = f"compilation failed: type '{schema['type']}' does not support field selection"
            return f"{orjson.dumps({'Rule': rule}).decode()}: {text}"
    return ""
