"""Reading objects of built-in kinds, and everybody's metadata, as a typed server does.

What is unknown is taken out, what has the wrong type is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from labsim.kube.errors import ApiError, Undecodable
from labsim.kube.go_json import kind_of
from labsim.kube.shapes import ANY, LIST, MAP, SCALAR, STRUCT, Shape, metadata_shape
from labsim.model.kinds import Kind
from labsim.model.objects import Object

_INT64 = 1 << 63
_INTEGERS = frozenset(("int32", "int64", "uint32", "uint64", "int", "fixed32", "fixed64"))
_GO_TYPES = {"time": "v1.Time", "bytes": "[]uint8", "quantity": "resource.Quantity"}
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")


class _Reader:
    """One walk along an object. `unknown` collects the paths of fields that are not known and are taken out."""

    def __init__(self, kind: Kind, shape: Shape, root: str = "") -> None:
        self._kind = kind
        self._shape = shape
        self._root = root  # where the walk begins, "" for the whole object
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
                raise self.wrong(item, _go_type(shape), path)
            self._list(item, shape, path)
        elif type(item) is not dict:
            raise self.wrong(item, _go_type(shape), path)
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
            elif inner.form == STRUCT:
                items[index] = {}  # Go's zero value

    def _map(self, entries: dict[str, Any], inner: Shape, path: str) -> None:
        for key, item in tuple(entries.items()):
            if inner.form == SCALAR:
                if inner.scalar and (inner.scalar != "string" or type(item) is not str):
                    entries[key] = self._scalar(item, inner.scalar, path, "")
            elif inner.form != ANY and item is not None:
                self._inner(item, inner, f"{path}[{key}]")

    def _scalar(self, item: Any, wanted: str, path: str, key: str) -> Any:
        found = type(item)
        if wanted == "string":
            if found is str:
                return item
            if item is None:
                return ""
        elif wanted == "time":
            if found is str:
                if _TIME.fullmatch(item) is None:
                    raise Undecodable(self._kind, _time_problem(item))
                return item
            if item is None:
                return None
        elif wanted == "bytes":
            if found is str:
                self._check_base64(item)
                return item
            if item is None:
                return ""
        elif wanted in _INTEGERS:
            if found is int:
                return item
            if found is float and item.is_integer() and -_INT64 <= item < _INT64:
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
        raise self.wrong(item, _GO_TYPES.get(wanted, wanted), f"{path}.{key}" if key and path else key or path)

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
            raise Undecodable(self._kind, f"illegal base64 data at input byte {place}")

    def wrong(self, item: Any, wanted: str, path: str) -> ApiError:
        """The refusal of a value: Go names the innermost struct, and the path without keys and indexes."""
        steps = re.sub(r"\[[^\]]*\]", "", path).split(".")
        if self._root:
            steps = steps[1:]
        found = kind_of(item)
        if not steps:
            return Undecodable(
                self._kind, f"json: cannot unmarshal {found} into Go value of type {_go_type(self._shape)}"
            )
        owner, shape = self._shape.message.rpartition(".")[2] or self._kind.kind, self._shape
        for step in steps[:-1]:
            while shape.form in (LIST, MAP) and shape.item is not None:
                shape = shape.item
            shape = shape.of(step) or shape
            inner = shape
            while inner.form in (LIST, MAP) and inner.item is not None:
                inner = inner.item
            owner = inner.message.rpartition(".")[2] or owner
        field = ".".join(steps)
        return Undecodable(
            self._kind, f"json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {wanted}"
        )


def _go_type(shape: Shape) -> str:
    """What Go calls the type of a field."""
    if shape.form == LIST:
        return "[]" + (_go_type(shape.item) if shape.item is not None else "interface {}")
    if shape.form == MAP:
        return "map[string]" + (_go_type(shape.item) if shape.item is not None else "interface {}")
    if shape.form == STRUCT:
        return ".".join(shape.message.rsplit(".", 2)[-2:]) or "struct"
    return _GO_TYPES.get(shape.scalar, shape.scalar) or "interface {}"


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)")
# The parts of Go's layout of RFC 3339, each with what it reads.
_TIME_PARTS = (
    ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"), ("15", r"\d\d"),
    (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d([.,]\d+)?"), ("Z07:00", r"Z|[+-]\d\d:\d\d"),
)  # fmt: skip


def _time_problem(text: str) -> str:
    """Go's words for a text that is no time."""
    start = f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00"'
    rest = text
    for part, pattern in _TIME_PARTS:
        match = re.match(pattern, rest)
        if match is None:
            return f'{start}: cannot parse "{rest}" as "{part}"'
        rest = rest[match.end() :]
    return f'parsing time "{text}": extra text: "{rest}"'


_NOTHING: dict[str, Any] = {}


def decode_builtin(kind: Kind, obj: Object, shape: Shape, old: Object | None = None) -> list[str]:
    """Check an object of a built-in kind in place; returns the paths of the unknown fields that were taken out.

    `old` is a stored state that may share parts with it. Raises 400 BadRequest where a value has the wrong type.
    """
    reader = _Reader(kind, shape)
    reader.struct(obj, shape, "", old)
    return reader.unknown


def decode_metadata(kind: Kind, obj: Object, old: Object | None = None) -> list[str]:
    """The same for the metadata of a custom resource."""
    metadata = obj.get("metadata")
    if old is not None and metadata is old["metadata"]:
        return []
    reader = _Reader(kind, metadata_shape(), "metadata")
    if not isinstance(metadata, dict):
        if metadata is not None:
            raise reader.wrong(metadata, "", "metadata")
        obj["metadata"] = {}
        return []
    reader.struct(metadata, metadata_shape(), "metadata", None if old is None else old["metadata"])
    return reader.unknown


def strict_error(kind: Kind, noted: Iterable[str], unknown: Iterable[str]) -> ApiError:
    """The refusal of fieldValidation=Strict: what was noted of the body before, and the paths of unknown fields."""
    listed = ", ".join([*noted, *(f'unknown field "{path}"' for path in unknown)])
    return Undecodable(kind, f"strict decoding error: {listed}")
