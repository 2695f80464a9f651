"""Reading objects of built-in kinds, and everybody's metadata, as a typed server does.

What is unknown is taken out, what has the wrong type is refused.
"""

from __future__ import annotations

import re
from typing import Any

from labsim.kube.errors import ApiError, bad_request
from labsim.kube.schema_values import TYPE_NAMES
from labsim.kube.shapes import ANY, LIST, SCALAR, Shape, metadata_shape
from labsim.model.kinds import Kind
from labsim.model.objects import Object

_INTEGERS = frozenset(("int32", "int64", "uint32", "uint64", "int", "fixed32", "fixed64"))
_GO_TYPES = {"bool": "bool", "string": "string", "time": "string", "bytes": "[]uint8"}
_GO_VALUES = {"boolean": "bool", "integer": "number"}
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")


class _Reader:
    """One walk along an object. `unknown` collects the paths of fields that are not known and are taken out."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.unknown: list[str] = []

    def struct(self, value: dict[str, Any], shape: Shape, path: str, old: Any = None) -> None:
        """Read a struct in place; what it shares with `old`, which has been read before, is not walked."""
        fields = shape.fields
        before: dict[str, Any] = old if type(old) is dict else _NOTHING
        for key in tuple(value):
            item = value[key]
            earlier = before.get(key)
            if earlier is item and item is not None:
                continue
            child = fields.get(key)
            if child is None:
                if not shape.open:
                    self.unknown.append(f"{path}.{key}" if path else key)
                    del value[key]
            elif item is None:
                del value[key]
            elif child.form == SCALAR:
                if child.scalar and (child.scalar != "string" or type(item) is not str):
                    value[key] = self._scalar(item, child.scalar, path, key)
            elif child.form != ANY:
                self._inner(item, child, f"{path}.{key}" if path else key, earlier)

    def _inner(self, item: Any, shape: Shape, path: str, old: Any = None) -> None:
        if shape.form == LIST:
            if type(item) is not list:
                raise self._wrong(item, "[]", path)
            self._list(item, shape, path)
        elif type(item) is not dict:
            raise self._wrong(item, "map[string]" if shape.item is not None else "struct", path)
        elif shape.item is not None:
            self._map(item, shape.item, path)
        else:
            self.struct(item, shape, path, old)

    def _list(self, items: list[Any], shape: Shape, path: str) -> None:
        inner = shape.item
        if inner is None or inner.form == ANY:
            return
        for index, item in enumerate(items):
            if inner.form == SCALAR:
                if item is None or (inner.scalar and (inner.scalar != "string" or type(item) is not str)):
                    items[index] = self._scalar(item, inner.scalar, path, "")
            elif item is not None:
                self._inner(item, inner, f"{path}[{index}]")

    def _map(self, entries: dict[str, Any], inner: Shape, path: str) -> None:
        for key, item in tuple(entries.items()):
            if inner.form == SCALAR:
                if inner.scalar and (inner.scalar != "string" or type(item) is not str):
                    entries[key] = self._scalar(item, inner.scalar, path, key)
            elif inner.form != ANY and item is not None:
                self._inner(item, inner, f"{path}[{key}]")

    def _scalar(self, item: Any, wanted: str, path: str, key: str) -> Any:
        found = type(item)
        if wanted == "string" or wanted == "time":
            if found is str:
                return item
            if item is None:
                return "" if wanted == "string" else None
        elif wanted == "bytes":
            if found is str:
                self._check_base64(item)
                return item
            if item is None:
                return ""
        elif wanted in _INTEGERS:
            if found is int:
                return item
            if found is float and item.is_integer():
                return int(item)
        elif wanted == "bool":
            if found is bool:
                return item
        elif wanted == "quantity":
            if found is str:
                return item
            if found is int or found is float:
                return str(item)
        elif found is not dict and found is not list:
            return item
        raise self._wrong(item, _GO_TYPES.get(wanted, wanted), f"{path}.{key}" if key and path else key or path)

    def _check_base64(self, text: str) -> None:
        bad = _NOT_BASE64.search(text)
        place = bad.start() if bad else None
        if place is None:
            body = text.rstrip("=")
            if "=" in body:
                place = body.index("=")
            elif len(text.replace("\r", "").replace("\n", "")) % 4 or len(text) - len(body) > 2:
                place = len(text)
        if place is not None:
            raise self._refused(f"illegal base64 data at input byte {place}")

    def _wrong(self, item: Any, wanted: str, path: str) -> ApiError:
        name = TYPE_NAMES.get(type(item), "value")
        field = re.sub(r"\[[^\]]*\]", "", path)
        return self._refused(
            f"json: cannot unmarshal {_GO_VALUES.get(name, name)} into Go struct field {self._kind.kind}.{field} "
            f"of type {wanted}"
        )

    def _refused(self, problem: str) -> ApiError:
        kind = self._kind
        return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {problem}')


_NOTHING: dict[str, Any] = {}


def decode_builtin(kind: Kind, obj: Object, shape: Shape, old: Object | None = None) -> list[str]:
    """Check an object of a built-in kind in place; returns the paths of the unknown fields that were taken out.

    `old` is a stored state that may share parts with it. Raises 400 BadRequest where a value has the wrong type.
    """
    reader = _Reader(kind)
    reader.struct(obj, shape, "", old)
    return reader.unknown


def decode_metadata(kind: Kind, obj: Object, old: Object | None = None) -> list[str]:
    """The same for the metadata of a custom resource."""
    metadata = obj.get("metadata")
    if old is not None and metadata is old["metadata"]:
        return []
    reader = _Reader(kind)
    if not isinstance(metadata, dict):
        if metadata is not None:
            raise bad_request(f"metadata of a {kind.kind} must be an object")
        obj["metadata"] = {}
        return []
    reader.struct(metadata, metadata_shape(), "metadata", None if old is None else old["metadata"])
    return reader.unknown


def strict_error(kind: Kind, unknown: list[str]) -> ApiError:
    """The refusal of fieldValidation=Strict."""
    listed = ", ".join(f'unknown field "{path}"' for path in unknown)
    text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
    return bad_request(f"{text}strict decoding error: {listed}")
