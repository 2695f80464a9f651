"""How results are printed: tables for people, json, yaml and names for programs. Talk goes to stderr."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from typing import Any

import orjson


class Format(enum.StrEnum):
    """What `-o` takes. A wide table has the columns that a narrow one leaves out."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def talk(text: str) -> None:
    """Say something to the person."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_document(document: Any, form: Format) -> None:
    """Anything that is made of dictionaries and lists, as JSON or YAML."""
    if form is Format.YAML:
        import yaml  # seldom wanted, and slow to load

        sys.stdout.write(yaml.safe_dump(document, sort_keys=False))
    else:
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str], form: Format, wide: Sequence[str] = ()) -> None:
    """Dictionaries as they are (json, yaml), by the first of `columns` (name), or as a table of the columns."""
    if form in (Format.JSON, Format.YAML):
        print_document(list(rows), form)
    elif form is Format.NAME:
        sys.stdout.write("".join(f"{row[columns[0]]}\n" for row in rows))
    else:
        shown = [*columns, *(wide if form is Format.WIDE else ())]
        print_table([column.upper() for column in shown], [[str(row.get(c, "")) for c in shown] for row in rows])


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cells[index]) for cells in (head, *rows)) for index in range(len(head))]
    for cells in (head, *rows):
        line = "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
