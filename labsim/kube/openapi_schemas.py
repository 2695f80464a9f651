"""Schemas of the built-in kinds and of metadata, as OpenAPI publishes them, made from the table of messages."""

from __future__ import annotations

import functools
from typing import Any

from labsim.kube.builtin_columns import CONFIG_MAP_DATA
from labsim.kube.messages import META, Field, fields_of, is_message

Schema = dict[str, Any]
REFERENCE = "#/components/schemas/"

_SCALARS: dict[str, Schema] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "bytes": {"type": "string", "format": "byte"},
}
_STRING_MAP: Schema = {"type": "array", "items": {"type": "string"}}
_SPECIAL: dict[str, Schema] = {
    META + "Time": {"type": "string", "format": "date-time"},
    META + "MicroTime": {"type": "string", "format": "date-time"},
    META + "FieldsV1": {"type": "object"},
    META + "Patch": {"type": "object"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "io.k8s.api.certificates.v1.ExtraValue": _STRING_MAP,
    "io.k8s.api.authorization.v1.ExtraValue": _STRING_MAP,
    "io.k8s.api.authentication.v1.ExtraValue": _STRING_MAP,
}
# The two descriptions that tools have been seen to look for.
_METADATA_TEXT = (
    "Standard object's metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
API_VERSION: Schema = {
    "type": "string",
    "description": "The versioned schema of this representation of an object.",
}
KIND: Schema = {"type": "string", "description": "The REST resource that this object represents, in CamelCase."}
_MERGING = {
    "mergeKey": "x-kubernetes-patch-merge-key",
    "strategy": "x-kubernetes-patch-strategy",
    "listType": "x-kubernetes-list-type",
    "mapType": "x-kubernetes-map-type",
    "mapKeys": "x-kubernetes-list-map-keys",
}


@functools.cache
def builtin_schema(message: str) -> Schema:
    """The schema of a message, with references to others. Shared: do not change it."""
    special = _SPECIAL.get(message)
    if special is not None:
        return special
    properties: Schema = {}
    for field in fields_of(message):
        if field.inline:
            properties.update(builtin_schema(field.type)["properties"])
        else:
            properties[field.name] = _property(field) | _described(message, field)
    return {"type": "object", "properties": properties}


def with_references(names: set[str]) -> dict[str, Schema]:
    """These messages and every message that they refer to, by name."""
    found: dict[str, Schema] = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in found or not (is_message(name) or name in _SPECIAL):
            continue
        found[name] = builtin_schema(name)
        waiting.extend(_referred(name))
    return found


def reference(message: str) -> Schema:
    return {"allOf": [{"$ref": REFERENCE + message}], "default": {}}


def typed_object(schema: Schema, gvk: Schema) -> Schema:
    """A kind's schema with apiVersion, kind and the mark that says which kind it is."""
    properties = {"apiVersion": API_VERSION, "kind": KIND, **schema.get("properties", {})}
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": [gvk]}


def list_schema(item: str, gvk: Schema) -> Schema:
    """The schema of a kind's list."""
    properties = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": reference(META + "ListMeta"),
        "items": {"type": "array", "items": {"allOf": [{"$ref": REFERENCE + item}], "default": {}}},
    }
    return {
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": [gvk],
    }


def _described(message: str, field: Field) -> Schema:
    if field.name == "metadata" and field.type == META + "ObjectMeta":
        return {"description": _METADATA_TEXT}
    if message == "io.k8s.api.core.v1.ConfigMap" and field.name == "data":
        return {"description": CONFIG_MAP_DATA}
    return {}


def _property(field: Field) -> Schema:
    if field.type in _SCALARS:
        one = dict(_SCALARS[field.type])
    else:
        one = reference(field.type)
        if field.type in _SPECIAL:
            one.pop("default")
    if field.is_map:
        made: Schema = {"type": "object", "additionalProperties": one}
    elif field.repeated:
        made = {"type": "array", "items": one}
    else:
        made = one
    return made | {_MERGING[key]: value for key, value in field.merging.items()}


def _referred(message: str) -> list[str]:
    referred = []
    for field in fields_of(message):
        if field.inline:
            referred.extend(_referred(field.type))
        elif field.type not in _SCALARS:
            referred.append(field.type)
    return referred
