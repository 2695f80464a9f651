"""Whether an applied configuration fits the shape of its kind: the first thing that does not, in upstream's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from labsim.kube.go_json import go_text
from labsim.kube.shapes import LIST, MAP, SCALAR, STRUCT, Shape, deduced

_NUMBERS = frozenset(("numeric", "int32", "int64", "uint32", "uint64"))
_TEXTS = frozenset(("string", "bytes", "time"))


def typing_problem(value: Any, shape: Shape) -> str:
    """What is wrong with a configuration; "" where it fits."""
    return next(_problems(value, shape, ""), "")


def _problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if value is None:
        return
    if shape.form == SCALAR:
        yield from _scalar_problems(value, shape.scalar, path)
    elif shape.form == LIST and not isinstance(value, list):
        yield f"{path}: expected list, got &{{{go_text(value)}}}"
    elif shape.form in (STRUCT, MAP) and not isinstance(value, dict):
        yield f"{path}: expected map, got &{{{go_text(value)}}}"
    elif isinstance(value, dict):
        yield from _member_problems(value, deduced(shape, value), path)
    elif isinstance(value, list):
        yield from _item_problems(value, deduced(shape, value), path)


def _scalar_problems(value: Any, wanted: str, path: str) -> Iterator[str]:
    if wanted in _TEXTS and not isinstance(value, str):
        yield f"{path}: expected string, got {_go_value(value)}"
    elif wanted in _NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float))):
        yield f"{path}: expected numeric (int or float), got {_go_type(value)}"
    elif wanted in ("boolean", "bool") and not isinstance(value, bool):
        yield f"{path}: expected boolean, got {_go_value(value)}"


def _member_problems(value: dict[str, Any], shape: Shape, path: str) -> Iterator[str]:
    for key in sorted(value):
        inner = shape.of(key)
        if inner is None:
            yield f"{path}.{key}: field not declared in schema"
        else:
            yield from _problems(value[key], inner, f"{path}.{key}")


def _item_problems(value: list[Any], shape: Shape, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        text = f"[{index}]"
        if shape.list_type == "set":
            text = f"[={_json(item)}]"
        elif shape.list_type == "map" and isinstance(item, dict):
            found = {key: item[key] if key in item else shape.key_defaults.get(key) for key in shape.keys}
            if all(part is None for part in found.values()):
                yield (
                    f"{path}: element {index}: associative list with keys has an element that omits all key fields "
                    f"{_json(list(shape.keys))} (and doesn't have default values for any key fields)"
                )
                return
            text = "[" + ",".join(f"{key}={_json(part)}" for key, part in sorted(found.items())) + "]"
        if shape.list_type != "atomic" and text in seen:
            yield f"{path}: duplicate entries for key {text}"
            return
        seen.add(text)
        if shape.item is not None:
            yield from _problems(item, shape.item, path + text)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _go_value(value: Any) -> str:
    shown = _json(value) if isinstance(value, str) else go_text(value)
    return f"&value.valueUnstructured{{Value:{shown}}}"


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "map[string]interface {}"
    return "[]interface {}" if isinstance(value, list) else "string"
