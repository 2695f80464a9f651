"""Kubernetes' protobuf bodies, read only: typed Go clients send built-in kinds so, without asking.

A body is the magic `k8s\\0`, then a runtime.Unknown with apiVersion, kind and the object's own message.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator
from typing import Any

import orjson

from labsim.kube.messages import META, Field, fields_of, is_message, message_name
from labsim.model.objects import timestamp

MAGIC = b"k8s\x00"
_UNKNOWN = "io.k8s.apimachinery.pkg.runtime.Unknown"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEPTH_MAX = 64


class BadProtobuf(ValueError):
    """Bytes that are no well-formed message of their kind."""


def decode_body(body: bytes) -> dict[str, Any]:
    """The object of a protobuf body as a JSON tree, with apiVersion and kind."""
    if not body:
        raise BadProtobuf("empty data")
    if not body.startswith(MAGIC):
        raise BadProtobuf("the body does not begin with the prefix of Kubernetes protobuf")
    outer = {number: value for number, _, value in _wire(body[len(MAGIC) :])}
    meta = {number: _text(value) for number, _, value in _wire(_as_bytes(outer.get(1, b"")))}
    api_version, kind = meta.get(1, ""), meta.get(2, "")
    group, _, version = api_version.rpartition("/")
    message = message_name(group, version, kind)
    if not is_message(message):
        raise BadProtobuf(f"no message is known for {kind} of {api_version}")
    decoded = _message(message, _as_bytes(outer.get(2, b"")), 0)
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _wire(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of each field of a message."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise BadProtobuf(f"unknown wire type {wire}")
        if position + length > end:
            raise BadProtobuf("a field is longer than its message")
        yield number, wire, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise BadProtobuf("a number is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


@functools.cache
def _by_number(message: str) -> dict[int, Field]:
    return {field.number: field for field in fields_of(message)}


def _message(message: str, data: bytes, depth: int) -> Any:
    special = _SPECIAL.get(message)
    if special is not None:
        return special(data)
    if depth > _DEPTH_MAX:
        raise BadProtobuf("messages are nested too deeply")
    fields = _by_number(message)
    made: dict[str, Any] = {}
    for number, wire, value in _wire(data):
        field = fields.get(number)
        if field is None:
            continue  # a field of a later release
        if field.inline:
            made.update(_message(field.type, _as_bytes(value), depth + 1))
        elif field.is_map:
            entry = {inner: content for inner, _, content in _wire(_as_bytes(value))}
            made.setdefault(field.name, {})[_text(entry.get(1, b""))] = _value(field, entry.get(2, b""), depth)
        elif field.repeated:
            if wire == _BYTES and field.type in ("int32", "int64", "bool"):
                made.setdefault(field.name, []).extend(_packed(field, _as_bytes(value), depth))
            else:
                made.setdefault(field.name, []).append(_value(field, value, depth))
        else:
            made[field.name] = _value(field, value, depth)
    return _without_zeros(message, made)


def _without_zeros(message: str, made: dict[str, Any]) -> dict[str, Any]:
    """Without the empty values that Go writes for fields which JSON leaves out."""
    if message == META + "ObjectMeta":
        return {key: value for key, value in made.items() if value not in ("", 0, None)}
    return {key: value for key, value in made.items() if value is not None and value != ""}


def _packed(field: Field, data: bytes, depth: int) -> Iterator[Any]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield _value(field, value, depth)


def _value(field: Field, value: int | bytes, depth: int) -> Any:
    kind = field.type
    if kind == "string":
        return _text(value)
    if kind == "bytes":
        return base64.b64encode(_as_bytes(value)).decode()
    if kind == "bool":
        return bool(value)
    if kind in ("int32", "int64"):
        return _signed(value)
    return _message(kind, _as_bytes(value), depth + 1)


def _signed(value: int | bytes) -> int:
    number = value if isinstance(value, int) else int.from_bytes(value, "little")
    return number - (1 << 64) if number >= 1 << 63 else number


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise BadProtobuf("a number stands where a message or text belongs")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _as_bytes(value).decode()
    except UnicodeDecodeError as problem:
        raise BadProtobuf("a text is not UTF-8") from problem


def _plain(data: bytes) -> dict[int, int | bytes]:
    return {number: value for number, _, value in _wire(data)}


def _time(data: bytes) -> str | None:
    parts = _plain(data)
    return timestamp(_signed(parts[1])) if 1 in parts else None


def _micro_time(data: bytes) -> str | None:
    parts = _plain(data)
    if 1 not in parts:
        return None
    whole = timestamp(_signed(parts[1])).removesuffix("Z")
    return f"{whole}.{_signed(parts.get(2, 0)) // 1000:06d}Z"


def _int_or_string(data: bytes) -> int | str:
    parts = _plain(data)
    return _text(parts.get(3, b"")) if parts.get(1, 0) else _signed(parts.get(2, 0))


def _quantity(data: bytes) -> str:
    return _text(_plain(data).get(1, b"0"))


def _fields(data: bytes) -> Any:
    raw = _as_bytes(_plain(data).get(1, b"{}"))
    try:
        return orjson.loads(raw or b"{}")
    except ValueError as problem:
        raise BadProtobuf("fieldsV1 is not JSON") from problem


def _items(data: bytes) -> list[str]:
    return [_text(value) for number, _, value in _wire(data) if number == 1]


_SPECIAL = {
    META + "Time": _time,
    META + "MicroTime": _micro_time,
    META + "FieldsV1": _fields,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _quantity,
    "io.k8s.api.certificates.v1.ExtraValue": _items,
    "io.k8s.api.authorization.v1.ExtraValue": _items,
    "io.k8s.api.authentication.v1.ExtraValue": _items,
}
