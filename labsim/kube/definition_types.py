"""The types of what a CustomResourceDefinition says, schemas included: what Go refuses before anybody checks it."""

from __future__ import annotations

from typing import Any

from labsim.kube.errors import Undecodable
from labsim.kube.go_json import kind_of
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION
from labsim.model.objects import Object

_NUMBER = (int, float)
_SCHEMA_FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("type", "format", "pattern", "title", "description", "$ref", "id", "$schema"), (str,)),
    **dict.fromkeys(("x-kubernetes-list-type", "x-kubernetes-map-type"), (str,)),
    **dict.fromkeys(("maximum", "minimum", "multipleOf"), _NUMBER),
    **dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"), _NUMBER),
    **dict.fromkeys(("nullable", "uniqueItems", "exclusiveMaximum", "exclusiveMinimum"), (bool,)),
    **dict.fromkeys(("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"), (bool,)),
    "x-kubernetes-int-or-string": (bool,),
    "enum": (list,),
}
_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "definitions")
_LISTS_OF_SCHEMAS = ("allOf", "anyOf", "oneOf")
_LISTS_OF_TEXTS = ("required", "x-kubernetes-list-map-keys")
_NAMES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("plural", "singular", "kind", "listKind"), (str,)),
    **dict.fromkeys(("shortNames", "categories"), (list,)),
}
_SPEC: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("group", "scope"), (str,)),
    **dict.fromkeys(("names", "conversion"), (dict,)),
    "versions": (list,),
    "preserveUnknownFields": (bool,),
}
_VERSION: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "deprecationWarning"), (str,)),
    **dict.fromkeys(("served", "storage", "deprecated"), (bool,)),
    **dict.fromkeys(("schema", "subresources"), (dict,)),
    **dict.fromkeys(("additionalPrinterColumns", "selectableFields"), (list,)),
}
_COLUMN: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "type", "format", "description", "jsonPath"), (str,)),
    "priority": (int,),
}
_FIELD: dict[str, tuple[type, ...]] = {"jsonPath": (str,)}
_SCALE: dict[str, tuple[type, ...]] = dict.fromkeys(
    ("specReplicasPath", "statusReplicasPath", "labelSelectorPath"), (str,)
)
_RULE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("rule", "message", "messageExpression", "reason", "fieldPath"), (str,)),
    "optionalOldSelf": (bool,),
}
_GO = {str: "string", bool: "bool", dict: "struct", list: "slice", int: "int64", float: "float64"}


def check_types(obj: Object) -> None:
    """Raise the 400 for a value of another type than Go's; nulls in lists of structs become Go's empty ones."""
    spec = _struct(obj.get("spec"), _SPEC, "spec")
    names = _struct(spec.get("names"), _NAMES, "spec.names")
    for field in ("shortNames", "categories"):
        _texts(names.get(field), f"spec.names.{field}")
    _struct((spec.get("conversion") or {}).get("webhook"), {"clientConfig": (dict,)}, "spec.conversion.webhook")
    for version in _structs(spec, "versions", _VERSION, "spec.versions"):
        version.setdefault("name", "")
        for field, kinds in (("additionalPrinterColumns", _COLUMN), ("selectableFields", _FIELD)):
            _structs(version, field, kinds, f"spec.versions.{field}")
        subresources = _struct(version.get("subresources"), {"scale": (dict,), "status": (dict,)}, "subresources")
        _struct(subresources.get("scale"), _SCALE, "subresources.scale")
        schema = _struct(version.get("schema"), {}, "schema").get("openAPIV3Schema")
        if schema is not None:
            _schema(schema, "spec.versions.schema.openAPIV3Schema")


def _schema(schema: Any, path: str) -> None:
    _struct(schema, _SCHEMA_FIELDS, path)
    for field in _MAPS_OF_SCHEMAS:
        for key, child in _of_type(schema.get(field), (dict,), f"{path}.{field}", {}).items():
            _schema(child, f"{path}.{field}[{key}]")
    for field in _LISTS_OF_SCHEMAS:
        for child in _of_type(schema.get(field), (list,), f"{path}.{field}", []):
            _schema(child, f"{path}.{field}")
    for field in _LISTS_OF_TEXTS:
        _texts(schema.get(field), f"{path}.{field}")
    _structs(schema, "x-kubernetes-validations", _RULE, f"{path}.x-kubernetes-validations")
    if schema.get("not") is not None:
        _schema(schema["not"], f"{path}.not")
    items = schema.get("items")
    for child in items if isinstance(items, list) else () if items is None else (items,):
        _schema(child, f"{path}.items")
    more = schema.get("additionalProperties")
    if more is not None and not isinstance(more, bool):
        _schema(more, f"{path}.additionalProperties")


def _of_type(value: Any, wanted: tuple[type, ...], path: str, instead: Any) -> Any:
    """The value, `instead` for none; the 400 for one of another type."""
    if value is None:
        return instead
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        text = f"json: cannot unmarshal {kind_of(value)} into Go struct field {path} of type {_GO[wanted[-1]]}"
        raise Undecodable(CUSTOM_RESOURCE_DEFINITION, text)
    return value


def _struct(value: Any, fields: dict[str, tuple[type, ...]], path: str) -> Object:
    found: Object = _of_type(value, (dict,), path, {})
    for field, given in found.items():  # few, where a schema could have dozens
        if field in fields:
            _of_type(given, fields[field], f"{path}.{field}", None)
    return found


def _structs(holder: Object, field: str, fields: dict[str, tuple[type, ...]], path: str) -> list[Object]:
    found: list[Object] = _of_type(holder.get(field), (list,), path, [])
    for index, entry in enumerate(found):
        found[index] = _struct(entry, fields, path)
    return found


def _texts(value: Any, path: str) -> None:
    for text in _of_type(value, (list,), path, []):
        _of_type(text, (str,), path, "")
