"""Figures of the bench: what was measured beside what is aimed at."""

from __future__ import annotations

import sys
from typing import Any

from labsim.cli.output import Format, print_document

Row = dict[str, Any]


def figure(what: str, value: float, unit: str, *, target: float | None = None) -> Row:
    """A row. `target` is the most that the value should be, in its unit."""
    row: Row = {"what": what, "value": round(value, 3) if isinstance(value, float) else value, "unit": unit}
    if target is not None:
        row |= {"target": target, "reached": value <= target}
    return row


def print_figures(rows: list[Row], output: Format) -> None:
    """The rows on stdout: a table for a person, a document for a program."""
    if output in (Format.JSON, Format.YAML):
        print_document(rows, output)
    else:
        sys.stdout.write(table(rows))


def table(rows: list[Row]) -> str:
    """The figures for a person."""
    lines = [f"{'FIGURE':<50} {'MEASURED':>12} {'AT MOST':>12}  REACHED"]
    for row in rows:
        measured = f"{row['value']:g} {row['unit']}".rstrip()
        target = f"{row['target']:g} {row['unit']}" if "target" in row else ""
        reached = {True: "yes", False: "no", None: ""}[row.get("reached")]
        lines.append(f"{row['what']:<50} {measured:>12} {target:>12}  {reached}".rstrip())
    return "\n".join(lines) + "\n"
