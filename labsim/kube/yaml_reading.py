"""YAML of clients as JSON trees: read as upstream reads it, with limits that keep a small text from becoming large.

A text is looked through before anything is made of it: the library's own recursion would end the process.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

from labsim.kube.body_limits import MAX_DEPTH

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NODES_FREE, _ALIASED_FREE = 1000, 100  # upstream's decoder does not count aliases below these
_RATIO_FROM, _RATIO_TO = 400_000, 4_000_000  # between these the part that may come of aliases sinks
_RATIO_MAX, _RATIO_MIN = 0.99, 0.10
_INT64 = range(-(1 << 63), 1 << 64)


class _JsonLoader(_Loader):  # type: ignore[misc]
    """The safe loader without the types that JSON does not have."""


_JsonLoader.add_constructor("tag:yaml.org,2002:timestamp", _JsonLoader.construct_yaml_str)


def read_yaml(body: bytes) -> Any:
    """The JSON tree of a YAML text; yaml.YAMLError with upstream's words for one that is none, or too much."""
    _look_through(body)
    try:
        return _json_value(yaml.load(body, Loader=_JsonLoader))  # noqa: S506 - a safe loader
    except (ValueError, TypeError) as problem:  # of constructors: a number or a key that is none
        raise yaml.MarkedYAMLError(problem=str(problem)) from problem


def _look_through(body: bytes) -> None:
    """Follow the text without keeping it: how deep it goes, and how much its aliases make of it."""
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count of nodes when it began
    sizes: dict[str, int] = {}
    nodes = aliased = 0
    for event in yaml.parse(body, Loader=_JsonLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise yaml.MarkedYAMLError(problem=f"anchor '{event.anchor}' value contains itself")
            size = sizes.get(str(event.anchor), 0)
            nodes += size
            aliased += size
            if aliased > _ALIASED_FREE and nodes > _NODES_FREE and aliased > nodes * _allowed_ratio(nodes):
                raise yaml.MarkedYAMLError(problem="document contains excessive aliasing")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
            if len(open_nodes) > MAX_DEPTH:
                raise yaml.MarkedYAMLError(problem=f"exceeded max depth of {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1


def _allowed_ratio(nodes: int) -> float:
    """Which part of the nodes may come of aliases."""
    if nodes <= _RATIO_FROM:
        return _RATIO_MAX
    part = min(1.0, (nodes - _RATIO_FROM) / (_RATIO_TO - _RATIO_FROM))
    return _RATIO_MAX - (_RATIO_MAX - _RATIO_MIN) * part


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, set):
        return {_key(key): None for key in value}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, int) and value not in _INT64:
        value = float(value) if value.bit_length() <= 1023 else math.inf
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"json: unsupported value: {'NaN' if math.isnan(value) else '+Inf' if value > 0 else '-Inf'}")
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return f"{key:g}" if isinstance(key, float) else str(key)
    raise TypeError(f"unsupported map key of type: {'null' if key is None else type(key).__name__}")
