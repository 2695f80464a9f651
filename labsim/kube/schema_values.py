"""What a schema says about single values: types, limits, patterns, formats and combinations, and upstream's texts."""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

Schema = Mapping[str, Any]
Cause = dict[str, str]  # reason, message, field

TYPE_NAMES: dict[type, str] = {
    str: "string",
    dict: "object",
    list: "array",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
_INT_FORMATS = {"int32": 2**31, "int64": 2**63}
_DATE_TIME = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
)
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_GO_DURATION = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*|[+-]?0"
)
_WORD_DURATION = re.compile(r"(\d+)\s*([A-Za-z]+)")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_HOSTNAME = re.compile(
    r"[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?)*\.?"
)
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_MAC = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")


def cause(reason: str, message: str, field: str) -> Cause:
    return {"reason": reason, "message": message, "field": field}


def shown(value: Any) -> str:
    """A value as messages show it."""
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return orjson.dumps(value).decode()


# -- formats ---------------------------------------------------------------------------------------------------------


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    return match is not None and 1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31


def _is_date_time(text: str) -> bool:
    return _DATE_TIME.fullmatch(text) is not None


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_address(version: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False

    return check


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _is_uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


_TIME_WORDS = frozenset(
    (
        *("ns", "nano", "nanosecond", "us", "µs", "micro", "microsecond", "ms", "milli", "millisecond", "s", "sec"),
        *("second", "m", "min", "minute", "h", "hr", "hour", "d", "day", "w", "wk", "week"),
    )
)


def _is_worded_duration(text: str) -> bool:
    match = _WORD_DURATION.fullmatch(text)
    return match is not None and (match[2] in _TIME_WORDS or match[2].removesuffix("s") in _TIME_WORDS)


FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "datetime": _is_date_time,
    "date": _is_date,
    "byte": _is_base64,
    "ipv4": _is_address(4),
    "ipv6": _is_address(6),
    "cidr": _is_network,
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "email": lambda text: _EMAIL.fullmatch(text) is not None,
    "hostname": lambda text: len(text) <= 255 and _HOSTNAME.fullmatch(text) is not None,
    "uri": _is_uri,
    "duration": lambda text: _GO_DURATION.fullmatch(text) is not None or _is_worded_duration(text),
}


@functools.lru_cache(maxsize=4096)
def pattern_of(text: str) -> re.Pattern[str] | None:
    """A schema's pattern (Go's syntax) as a Python expression; None for one that Python cannot read."""
    if text.endswith("$") and not text.endswith(r"\$"):
        text = text[:-1] + r"\Z"  # Go's $ is the end of the text; Python's also stands before a last newline
    text = text.replace(r"\z", r"\Z")
    try:
        return re.compile(text)
    except re.error:
        return None


# -- types -----------------------------------------------------------------------------------------------------------


def type_fits(schema: Schema, value: Any) -> bool:
    """Whether a value that is not null has the type that the schema asks for."""
    found = type(value)
    if schema.get("x-kubernetes-int-or-string"):
        return found is int or found is str or (found is float and value.is_integer())
    wanted = schema.get("type")
    if wanted is None:
        return True
    if wanted == "integer":
        return found is int or (found is float and value.is_integer())
    if wanted == "number":
        return found is int or found is float
    return bool(TYPE_NAMES.get(found) == wanted)


def type_problem(schema: Schema, value: Any, path: str) -> Cause:
    wanted = "integer,string" if schema.get("x-kubernetes-int-or-string") else schema.get("type")
    name = TYPE_NAMES.get(type(value), "unknown")
    return cause(
        "FieldValueTypeInvalid", f'Invalid value: "{name}": {path} in body must be of type {wanted}: "{name}"', path
    )


# -- limits ----------------------------------------------------------------------------------------------------------

_CONSTRAINTS = frozenset(
    (
        *("enum", "pattern", "minLength", "maxLength", "format", "minimum", "maximum", "multipleOf"),
        *("minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
        *("allOf", "anyOf", "oneOf", "not"),
    )
)


def is_constrained(schema: Schema) -> bool:
    """Whether the schema limits a value beyond its type (an integer's width included)."""
    return not _CONSTRAINTS.isdisjoint(schema)


def value_problems(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    """What is wrong with a value of the right type, apart from what stands below it."""
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(shown(entry) for entry in schema["enum"])
        yield cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {known}", path)
    if isinstance(value, str):
        yield from _text_problems(schema, value, path)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _number_problems(schema, value, path)
    elif isinstance(value, list):
        yield from _count_problems(schema, len(value), path, "minItems", "maxItems", "items")
        if schema.get("uniqueItems") and len({orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in value}) < len(
            value
        ):
            yield cause(
                "FieldValueInvalid", f"Invalid value: {shown(value)}: {path} in body shouldn't contain duplicates", path
            )
    elif isinstance(value, dict):
        yield from _count_problems(schema, len(value), path, "minProperties", "maxProperties", "properties")
    yield from _junctor_problems(schema, value, path)


def _text_problems(schema: Schema, value: str, path: str) -> Iterator[Cause]:
    if "minLength" in schema and len(value) < schema["minLength"]:
        text = f"Invalid value: {shown(value)}: {path} in body should be at least {schema['minLength']} chars long"
        yield cause("FieldValueInvalid", text, path)
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield cause("FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes", path)
    if "pattern" in schema:
        pattern = pattern_of(schema["pattern"])
        if pattern is not None and not pattern.search(value):
            text = f"Invalid value: {shown(value)}: {path} in body should match '{schema['pattern']}'"
            yield cause("FieldValueInvalid", text, path)
    wanted = FORMATS.get(schema.get("format", ""))
    if wanted is not None and not wanted(value):
        text = f"Invalid value: {shown(value)}: {path} in body must be of type {schema['format']}: {shown(value)}"
        yield cause("FieldValueTypeInvalid", text, path)


def _number_problems(schema: Schema, value: float, path: str) -> Iterator[Cause]:
    limit = _INT_FORMATS.get(schema.get("format", ""))
    if limit is not None and not -limit <= value < limit:
        kind = f"type {schema.get('type')} with format {schema['format']}"
        text = f'Invalid value: "": Checked value must be of {kind} in {path}'
        yield cause("FieldValueInvalid", text, "<nil>")
    for key, exclusive, word in (("minimum", "exclusiveMinimum", "greater"), ("maximum", "exclusiveMaximum", "less")):
        if key not in schema:
            continue
        bound, strict = schema[key], bool(schema.get(exclusive))
        beyond = value < bound if key == "minimum" else value > bound
        if beyond or (strict and value == bound):
            text = f"{word} than {shown(bound)}" if strict else f"{word} than or equal to {shown(bound)}"
            yield cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {path} in body should be {text}", path)
    step = schema.get("multipleOf")
    if step and abs(value / step - round(value / step)) > 1e-9:
        text = f"Invalid value: {shown(value)}: {path} in body should be a multiple of {shown(step)}"
        yield cause("FieldValueInvalid", text, path)


def _count_problems(schema: Schema, count: int, path: str, low: str, high: str, noun: str) -> Iterator[Cause]:
    if low in schema and count < schema[low]:
        text = f"Invalid value: {count}: {path} in body should have at least {schema[low]} {noun}"
        yield cause("FieldValueInvalid", text, path)
    if high in schema and count > schema[high]:
        yield cause("FieldValueTooMany", f"Too many: {count}: must have at most {schema[high]} items", path)


# -- combinations ----------------------------------------------------------------------------------------------------


def _junctor_problems(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    def combined(text: str) -> Cause:
        return cause("FieldValueInvalid", f'Invalid value: "": "{path}" {text}', "<nil>")

    if "allOf" in schema:
        broken = [list(deep_problems(part, value, path)) for part in schema["allOf"]]
        if any(broken):
            yield combined("must validate all the schemas (allOf)")
            for found in broken:
                yield from found
    if "anyOf" in schema:
        tried = [list(deep_problems(part, value, path)) for part in schema["anyOf"]]
        if all(tried):
            yield combined("must validate at least one schema (anyOf)")
            yield from tried[0]
    if "oneOf" in schema:
        tried = [list(deep_problems(part, value, path)) for part in schema["oneOf"]]
        passed = sum(not found for found in tried)
        if passed == 0:
            yield combined("must validate one and only one schema (oneOf). Found none valid")
            yield from tried[0]
        elif passed > 1:
            yield combined(f"must validate one and only one schema (oneOf). Found {passed} valid alternatives")
    if "not" in schema and not list(deep_problems(schema["not"], value, path)):
        yield combined("must not validate the schema (not)")


def deep_problems(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    """Everything that is wrong with a value by a schema inside a combination."""
    if value is None and schema.get("nullable"):
        return
    if not type_fits(schema, value):
        yield type_problem(schema, value, path)
        return
    yield from value_problems(schema, value, path)
    if isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                yield cause("FieldValueRequired", "Required value", f"{path}.{key}" if path else key)
        properties = schema.get("properties") or {}
        additional = schema.get("additionalProperties")
        for key, item in value.items():
            inner = properties.get(key, additional if isinstance(additional, Mapping) else None)
            if inner is not None:
                yield from deep_problems(inner, item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for index, item in enumerate(value):
            yield from deep_problems(schema["items"], item, f"{path}[{index}]")
