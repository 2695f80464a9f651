"""Kubernetes' protobuf answers: typed Go clients ask for them first, metadata informers too.

The counterpart of protobuf.py: an object or list of a built-in kind, a Status or bare metadata as `k8s\\0` and a
runtime.Unknown; watches as frames of length and WatchEvent, which are not wrapped themselves.
"""

from __future__ import annotations

import base64
import calendar
import datetime
import functools
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from labsim.kube.messages import META, Field, fields_of, is_message, message_name
from labsim.kube.protobuf import MAGIC
from labsim.model.objects import Object

Writer = Callable[[Any], bytes]


def encodable(group: str, version: str, kind: str) -> bool:
    """Whether objects of a built-in kind can be written as protobuf."""
    return is_message(message_name(group, version, kind))


def encode_document(document: Object) -> bytes:
    """An object, a list, a Status or metadata alone as a protobuf body. Its kind must be `encodable`."""
    api_version, kind = str(document["apiVersion"]), str(document["kind"])
    meta = _bytes_field(1, api_version.encode()) + _bytes_field(2, kind.encode())
    unknown = _bytes_field(1, meta) + _bytes_field(2, _raw(api_version, kind, document))
    return MAGIC + unknown + _bytes_field(3, b"") + _bytes_field(4, b"")


def encode_event(event: str, document: Object) -> bytes:
    """One frame of a watch."""
    frame = _bytes_field(1, event.encode()) + _bytes_field(2, _bytes_field(1, encode_document(document)))
    return len(frame).to_bytes(4, "big") + frame


def _raw(api_version: str, kind: str, document: Object) -> bytes:
    group, _, version = api_version.rpartition("/")
    if kind in _META_KINDS and group in ("", "meta.k8s.io"):
        return _writer(META + kind)(document)
    if "items" in document:
        item: Writer = _partial
        if group != "meta.k8s.io":
            item = _writer(message_name(group, version, kind.removesuffix("List")))
        listed = b"".join(_bytes_field(2, item(entry)) for entry in document["items"] or ())
        return _bytes_field(1, _writer(META + "ListMeta")(document["metadata"])) + listed
    if group == "meta.k8s.io":
        return _partial(document)
    return _writer(message_name(group, version, kind))(document)


def _partial(obj: Object) -> bytes:
    return _bytes_field(1, _writer(META + "ObjectMeta")(obj["metadata"]))


_META_KINDS = frozenset(("Status", "DeleteOptions"))


@functools.cache
def _writer(message: str) -> Writer:
    """What writes the fields of a message; made once for each."""
    special = _SPECIAL.get(message)
    if special is not None:
        return special
    fields = [(field, _field_writer(field)) for field in fields_of(message)]
    plain = {field.name: write for field, write in fields if not field.inline}
    inline = tuple(write for field, write in fields if field.inline)

    def written(value: Any) -> bytes:
        parts = [plain[key](item) for key, item in value.items() if item is not None and key in plain]
        parts += [write(value) for write in inline]
        return b"".join(parts)

    return written


def _field_writer(field: Field) -> Writer:
    number = field.number
    if field.inline:
        names = frozenset(inner.name for inner in fields_of(field.type))

        def inlined(value: Any) -> bytes:
            found = names & value.keys()
            return _bytes_field(number, _writer(field.type)(value)) if found else b""

        return inlined
    one = _one(number, field.type)
    if field.is_map:
        value_of = _one(2, field.type)

        def mapped(entries: Any) -> bytes:
            return b"".join(
                _bytes_field(number, _bytes_field(1, key.encode()) + value_of(entries[key])) for key in sorted(entries)
            )

        return mapped
    if field.repeated:
        return lambda items: b"".join(map(one, items))
    return one


def _one(number: int, kind: str) -> Writer:
    """What writes one value with its tag."""
    tag = _varint(number << 3)
    if kind in ("int32", "int64", "bool"):
        return lambda value: tag + _varint(int(value))
    if kind == "string":
        return lambda value: _bytes_field(number, str(value).encode())
    if kind == "bytes":
        return lambda value: _bytes_field(number, base64.b64decode(value))
    return lambda value: _bytes_field(number, _writer(kind)(value))


def _bytes_field(number: int, data: bytes) -> bytes:
    return b"".join((_varint(number << 3 | 2), _varint(len(data)), data))


def _varint(value: int) -> bytes:
    if 0 <= value < 128:
        return _SMALL[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


_SMALL = [bytes((value,)) for value in range(128)]


def _time(text: Any) -> bytes:
    moment = datetime.datetime.fromisoformat(str(text)).astimezone(datetime.UTC)
    nanos = moment.microsecond * 1000
    seconds = calendar.timegm(moment.timetuple())
    return b"\x08" + _varint(seconds) + b"\x10" + _varint(nanos)


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + _bytes_field(3, value.encode())
    return b"\x08\x00\x10" + _varint(int(value)) + _bytes_field(3, b"")


def _texts(values: Iterable[Any]) -> bytes:
    return b"".join(_bytes_field(1, str(value).encode()) for value in values)


_SPECIAL: dict[str, Writer] = {
    META + "Time": _time,
    META + "MicroTime": _time,
    META + "FieldsV1": lambda value: _bytes_field(1, orjson.dumps(value)),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": lambda value: _bytes_field(1, str(value).encode()),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": lambda value: _bytes_field(1, orjson.dumps(value)),
    "io.k8s.api.certificates.v1.ExtraValue": _texts,
    "io.k8s.api.authorization.v1.ExtraValue": _texts,
    "io.k8s.api.authentication.v1.ExtraValue": _texts,
}
