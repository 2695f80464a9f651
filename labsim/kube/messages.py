"""The messages of the built-in kinds: fields with their protobuf numbers, types, and how lists and maps are merged.

`builtin_messages.json` lists the facts of the protobuf definitions of k8s.io/api and k8s.io/apimachinery (July 2026):
{message: {field: [number, type, {repeated, map, inline, mergeKey, strategy, listType, mapKeys, mapType}]}}. `inline` is
a message whose fields stand among those of its parent in JSON.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import orjson

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_PACKAGES = {
    "": "io.k8s.api.core",
    "apps": "io.k8s.api.apps",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
    "coordination.k8s.io": "io.k8s.api.coordination",
    "certificates.k8s.io": "io.k8s.api.certificates",
    "storage.k8s.io": "io.k8s.api.storage",
    "authentication.k8s.io": "io.k8s.api.authentication",
    "authorization.k8s.io": "io.k8s.api.authorization",
    "policy": "io.k8s.api.policy",
    "autoscaling": "io.k8s.api.autoscaling",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a message. `type` is a scalar ("string", "int64", ...) or a message's name."""

    name: str
    number: int
    type: str
    repeated: bool
    is_map: bool
    inline: bool
    merging: Mapping[str, Any]


@functools.cache
def _raw() -> dict[str, dict[str, list[Any]]]:
    text = resources.files("labsim.kube").joinpath("builtin_messages.json").read_bytes()
    loaded: dict[str, dict[str, list[Any]]] = orjson.loads(text)
    return loaded


@functools.cache
def fields_of(message: str) -> tuple[Field, ...]:
    """The fields of a message; none for an unknown one."""
    made = []
    for name, (number, kind, *more) in _raw().get(message, {}).items():
        marks = more[0] if more else {}
        merging = {key: marks[key] for key in marks if key not in ("repeated", "map", "inline")}
        made.append(Field(name, number, kind, "repeated" in marks, "map" in marks, "inline" in marks, merging))
    return tuple(made)


def is_message(name: str) -> bool:
    return name in _raw()


def message_name(group: str, version: str, kind: str) -> str:
    """The name under which a built-in kind's schema is published: `io.k8s.api.core.v1.Pod`."""
    if kind in ("DeleteOptions", "Status"):
        return META + kind
    return f"{_PACKAGES.get(group, 'io.k8s.api.' + group.partition('.')[0])}.{version}.{kind}"
