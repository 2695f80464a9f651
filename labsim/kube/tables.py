"""Tables: what a server answers to a client that prints for people (meta.k8s.io/v1 Table).

Built-in kinds have the columns of upstream's printers (builtin_columns.py), custom resources those of their CRD.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from labsim.kube.column_paths import BadPath, compile_path
from labsim.model.objects import Object, parse_timestamp

NAME_DESCRIPTION = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
CREATED_DESCRIPTION = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)

Cell = Callable[[Object, float], Any]  # the value of a cell for an object at an in-world time


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column. Those with a priority above 0 show with `-o wide` only."""

    name: str
    cell: Cell
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0

    def definition(self) -> Object:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


def human_duration(seconds: float) -> str:
    """A span as kubectl prints ages: `5s`, `3m20s`, `2d5h` (k8s.io/apimachinery/pkg/util/duration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 60 * 2:
        return f"{max(whole, 0)}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 60 * 3:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _pair(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def age(stamp: Any, now_s: float) -> str:
    """The age of an RFC 3339 time; `<unknown>` for none, `<invalid>` for what is no time."""
    if not stamp:
        return "<unknown>"
    try:
        return human_duration(now_s - parse_timestamp(str(stamp)))
    except ValueError:
        return "<invalid>"


def name_column() -> Column:
    return Column("Name", lambda obj, _: obj["metadata"].get("name", ""), "string", "name", NAME_DESCRIPTION)


def age_column(description: str = CREATED_DESCRIPTION) -> Column:
    return Column(
        "Age", lambda obj, now_s: age(obj["metadata"].get("creationTimestamp"), now_s), "string", "", description
    )


def default_columns() -> tuple[Column, ...]:
    """The columns of built-in kinds that have no printer of their own."""
    created = Column(
        "Created At", lambda obj, _: obj["metadata"].get("creationTimestamp"), "date", "", CREATED_DESCRIPTION
    )
    return (name_column(), created)


def custom_columns(printer_columns: Sequence[Mapping[str, Any]] | None) -> tuple[Column, ...]:
    """The columns of a custom resource: Name, then the CRD's additionalPrinterColumns (Age where there are none)."""
    if not printer_columns:
        printer_columns = ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
                            "description": CREATED_DESCRIPTION},)  # fmt: skip
    return (name_column(), *(_custom_column(definition) for definition in printer_columns))


def table(
    columns: Sequence[Column],
    objects: Iterable[Object],
    *,
    now_s: float,
    metadata: Object,
    include: str = "Metadata",
    version: str = "v1",
    with_columns: bool = True,
) -> Object:
    """A Table of objects. `include` says what each row carries: None, Metadata or Object."""
    made: Object = {"kind": "Table", "apiVersion": f"meta.k8s.io/{version}", "metadata": metadata}
    made["columnDefinitions"] = [column.definition() for column in columns] if with_columns else []
    made["rows"] = [
        {"cells": [column.cell(obj, now_s) for column in columns], "object": _row_object(obj, include, version)}
        for obj in objects
    ]
    return made


def partial_metadata(obj: Object, version: str = "v1") -> Object:
    """An object reduced to its metadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj["metadata"]}


def _row_object(obj: Object, include: str, version: str) -> Object | None:
    if include == "None":
        return None
    return obj if include == "Object" else partial_metadata(obj, version)


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def _custom_column(definition: Mapping[str, Any]) -> Column:
    path, kind = definition["jsonPath"], definition["type"]
    described = definition.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
    try:
        read = compile_path(path)
    except BadPath:
        return Column(definition["name"], lambda _obj, _now: None, kind, definition.get("format", ""), described)

    def cell(obj: Object, now_s: float) -> Any:
        values = read(obj)
        return _typed(kind, values[0], now_s) if values else None

    return Column(
        definition["name"], cell, kind, definition.get("format", ""), described, definition.get("priority", 0)
    )


def _typed(kind: str, value: Any, now_s: float) -> Any:
    """A value as its column's type shows it; what does not fit the type is left empty."""
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if number else None
    if kind == "number":
        return float(value) if number else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date":
        return age(value, now_s) if isinstance(value, str) else "<invalid>"
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
