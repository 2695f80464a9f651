"""The shape of an object's fields: which are maps, lists, sets or single values, and which are owned as a whole.

One description for custom resources (from their schema) and built-in kinds (from their messages); server-side apply,
strategic merge patches and the decoding of built-in kinds walk along it. Shapes are made when they are first needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from labsim.kube.messages import META, Field, fields_of, is_message, message_name
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION, Kind

STRUCT, MAP, LIST, SCALAR, ANY = "struct", "map", "list", "scalar", "any"

_TIMES = frozenset((f"{META}Time", f"{META}MicroTime"))
_OPAQUE = frozenset(
    (
        f"{META}FieldsV1",
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    )
)
_SCALAR_MESSAGES = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intOrString",
}


class Shape:
    """One field's shape.

    form: STRUCT (known fields), MAP (any keys), LIST, SCALAR, or ANY (no schema: told from the value)
    atomic: written and owned as a whole
    list_type: "atomic", "set" or "map"; `keys` name an item of a map list, with `key_defaults` where they may be absent
    merge, merge_key, retain_keys: how a strategic merge patch treats a list (not merge: replaced as a whole)
    scalar: the type of a single value ("string", "int64", "bytes", ...), "" where any will do
    open: a struct that keeps fields it does not know
    message: the message of a built-in struct
    """

    __slots__ = (
        "_fields",
        "_make_fields",
        "atomic",
        "form",
        "item",
        "key_defaults",
        "keys",
        "list_type",
        "merge",
        "merge_key",
        "message",
        "open",
        "retain_keys",
        "scalar",
    )

    def __init__(
        self,
        form: str,
        *,
        atomic: bool = False,
        make_fields: Callable[[], dict[str, Shape]] | None = None,
        item: Shape | None = None,
        list_type: str = "atomic",
        keys: tuple[str, ...] = (),
        key_defaults: Mapping[str, Any] | None = None,
        merge: bool = False,
        merge_key: str = "",
        retain_keys: bool = False,
        scalar: str = "",
        is_open: bool = False,
        message: str = "",
    ) -> None:
        self.form = form
        self.message = message
        self.atomic = atomic
        self._make_fields = make_fields
        self._fields: dict[str, Shape] | None = None
        self.item = item
        self.list_type = list_type
        self.keys = keys
        self.key_defaults = key_defaults or {}
        self.merge = merge
        self.merge_key = merge_key
        self.retain_keys = retain_keys
        self.scalar = scalar
        self.open = is_open

    @property
    def fields(self) -> dict[str, Shape]:
        """The known fields of a struct."""
        if self._fields is None:
            self._fields = self._make_fields() if self._make_fields is not None else {}
        return self._fields

    def of(self, key: str) -> Shape | None:
        """The shape of a field or map entry; None for one that is not known."""
        found = self.fields.get(key)
        if found is not None:
            return found
        if self.form == STRUCT:
            return ANYTHING if self.open else None
        return self.item if self.item is not None else ANYTHING


ANYTHING = Shape(ANY)
_ANY_MAP = Shape(MAP, item=ANYTHING)
_ANY_LIST = Shape(LIST, atomic=True, item=ANYTHING)
_ANY_SCALAR = Shape(SCALAR)


def deduced(shape: Shape, value: Any) -> Shape:
    """The shape to use for a value: what has no schema is a map or a single value; its lists are atomic."""
    if shape.form != ANY:
        return shape
    if isinstance(value, dict):
        return _ANY_MAP
    return _ANY_LIST if isinstance(value, list) else _ANY_SCALAR


# -- built-in kinds ---------------------------------------------------------------------------------------------------


_ATOMIC_MESSAGES = frozenset(
    (
        f"{META}LabelSelector",
        f"{META}OwnerReference",
        *(
            f"io.k8s.api.core.v1.{name}"
            for name in (
                *("LocalObjectReference", "ObjectReference", "SecretReference", "TypedLocalObjectReference"),
                *("ConfigMapKeySelector", "SecretKeySelector", "ObjectFieldSelector", "ResourceFieldSelector"),
                *("NodeSelector", "NodeSelectorTerm", "ScopeSelector", "TopologySelectorTerm"),
            )
        ),
        "io.k8s.api.rbac.v1.RoleRef",
        "io.k8s.api.rbac.v1.Subject",
    )
)
_NAMES = {
    "type": "object",
    "properties": {
        **{key: {"type": "string"} for key in ("kind", "listKind", "plural", "singular")},
        **{key: {"type": "array", "items": {"type": "string"}} for key in ("shortNames", "categories")},
    },
}
# CustomResourceDefinition has no message among those of the built-in kinds; this much decides how it is owned.
_DEFINITION_SCHEMA = {
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                **{key: {"type": "string"} for key in ("group", "scope")},
                "names": _NAMES,
                "versions": {"type": "array", "items": {}},
                "conversion": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "preserveUnknownFields": {"type": "boolean"},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "acceptedNames": _NAMES,
                "storedVersions": {"type": "array", "items": {"type": "string"}},
                "conditions": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            },
        },
    }
}


@functools.cache
def builtin_shape(kind: Kind) -> Shape:
    """The shape of a built-in kind; one that keeps everything where its message is not known."""
    if kind == CUSTOM_RESOURCE_DEFINITION:
        return schema_shape(_DEFINITION_SCHEMA)
    name = message_name(kind.group, kind.version, kind.kind)
    if not is_message(name):
        return Shape(STRUCT, is_open=True, make_fields=lambda: {**_identity_fields(), "metadata": metadata_shape()})
    return Shape(STRUCT, message=name, make_fields=lambda: {**_identity_fields(), **_message_fields(name)})


def _identity_fields() -> dict[str, Shape]:
    return {"apiVersion": Shape(SCALAR, scalar="string"), "kind": Shape(SCALAR, scalar="string")}


@functools.cache
def metadata_shape() -> Shape:
    """The shape of `metadata`."""
    return _message_shape(f"{META}ObjectMeta")


@functools.cache
def _message_shape(name: str, atomic: bool = False) -> Shape:
    if name in _TIMES:
        return Shape(SCALAR, scalar="time")
    if name in _OPAQUE:
        return ANYTHING
    if name in _SCALAR_MESSAGES:
        return Shape(SCALAR, scalar=_SCALAR_MESSAGES[name])
    if not is_message(name):
        return Shape(SCALAR, scalar=name)
    is_atomic = atomic or name in _ATOMIC_MESSAGES
    return Shape(STRUCT, message=name, atomic=is_atomic, make_fields=lambda: _message_fields(name))


def _message_fields(name: str) -> dict[str, Shape]:
    made: dict[str, Shape] = {}
    for field in fields_of(name):
        if field.inline:
            made.update(_message_shape(field.type).fields)
        else:
            made[field.name] = _field_shape(field)
    return made


def _field_shape(field: Field) -> Shape:
    merging = field.merging
    atomic_map = merging.get("mapType") == "atomic"
    inner = _message_shape(field.type, atomic_map and not field.is_map)
    if field.is_map:
        return Shape(MAP, item=inner, atomic=atomic_map)
    if not field.repeated:
        return inner
    strategy = str(merging.get("strategy", "")).split(",")
    list_type = str(merging.get("listType", "atomic"))
    keys = tuple(merging.get("mapKeys", ()))
    return Shape(
        LIST,
        item=inner,
        atomic=list_type == "atomic",
        list_type=list_type,
        keys=keys,
        key_defaults={"protocol": "TCP"} if "protocol" in keys else None,
        merge="merge" in strategy,
        merge_key=str(merging.get("mergeKey", "")),
        retain_keys="retainKeys" in strategy,
    )


# -- custom resources ------------------------------------------------------------------------------------------------


def schema_shape(schema: Mapping[str, Any]) -> Shape:
    """The shape of a custom resource, from its schema."""

    def fields() -> dict[str, Shape]:
        made = {key: _node_shape(child) for key, child in (schema.get("properties") or {}).items()}
        return {**made, **_identity_fields(), "metadata": metadata_shape()}

    return Shape(STRUCT, make_fields=fields, is_open=bool(schema.get("x-kubernetes-preserve-unknown-fields")))


_SCHEMA_SCALARS = {
    "string": Shape(SCALAR, scalar="string"),
    "integer": Shape(SCALAR, scalar="numeric"),
    "number": Shape(SCALAR, scalar="numeric"),
    "boolean": Shape(SCALAR, scalar="boolean"),
}


def _node_shape(schema: Mapping[str, Any]) -> Shape:
    kind = schema.get("type")
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    if schema.get("x-kubernetes-int-or-string"):
        return _ANY_SCALAR
    if kind == "array":
        return _list_shape(schema)
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping):
        return Shape(MAP, item=_node_shape(additional), atomic=atomic)
    properties = schema.get("properties")
    is_open = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or additional is True
    if properties:
        return Shape(
            STRUCT,
            atomic=atomic,
            is_open=is_open,
            make_fields=lambda: {key: _node_shape(child) for key, child in properties.items()},
        )
    if kind == "object":
        if is_open or schema.get("x-kubernetes-embedded-resource"):
            return Shape(MAP, item=ANYTHING, atomic=atomic)
        return Shape(STRUCT, atomic=atomic)
    return ANYTHING if kind is None else _SCHEMA_SCALARS.get(kind, _ANY_SCALAR)


def _list_shape(schema: Mapping[str, Any]) -> Shape:
    items = schema.get("items") or {}
    list_type = str(schema.get("x-kubernetes-list-type", "atomic"))
    keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
    properties = items.get("properties") or {}
    return Shape(
        LIST,
        item=_node_shape(items),
        atomic=list_type == "atomic",
        list_type=list_type,
        keys=keys,
        key_defaults={key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})},
    )
