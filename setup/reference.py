"""Writes docs/reference/: the command line and the scenario file, from the code itself. `make reference` runs it.

With --check nothing is written: it says which page is out of date, and exits with 1.
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo

from labsim.cli.main import app
from labsim.model import machine_group, machine_steps, scenario

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
WRITTEN = "Written by `make reference`; change the code, not this page."
EXIT_CODES = """## Exit codes

| code | meaning |
|---|---|
| 0 | passed |
| 1 | a check failed: an expectation, an invariant, or `labsim check` |
| 2 | usage, or an invalid file; nothing was made |
| 3 | inconclusive, which is never counted as passed |
| 4 | the lab could not be made, or could not go on; what was made is removed |
| 5 | nothing was selected: no step, no such machine, no such object |
| 70 | a bug of labsim |
| 130 | interrupted, and cleaned up |

Results go to stdout, talk and progress to stderr. `-o json|yaml|name|wide` is for programs; `table` is for people.
"""


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    schema = scenario.json_schema()
    return {
        "cli.md": cli_page(),
        "scenario.md": scenario_page(schema),
        "scenario.schema.json": json.dumps(schema, indent=2) + "\n",
    }


def cli_page() -> str:
    lines = ["# The command line", "", WRITTEN, ""]
    for path, callback in sorted(_commands(app, ("labsim",)), key=lambda command: command[0]):
        parameters = list(_parameters(callback))
        arguments = [name.upper() for name, _, info, _ in parameters if isinstance(info, ArgumentInfo)]
        lines += [f"## {' '.join([*path, *arguments])}", "", inspect.getdoc(callback) or "", ""]
        if parameters:
            lines += ["| | meaning | default |", "|---|---|---|", *(_row(*one) for one in parameters), ""]
    return "\n".join([*lines, EXIT_CODES])


def _commands(group: typer.Typer, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for command in group.registered_commands:
        yield (*path, command.name or command.callback.__name__), command.callback
    for child in group.registered_groups:
        yield from _commands(child.typer_instance, (*path, str(child.name)))


def _parameters(callback: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, type, what typer knows of it, default) of each parameter of a command."""
    hints = typing.get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = typing.get_args(hints[name])
        yield name, kind, info, parameter.default


def _row(name: str, kind: Any, info: Any, default: Any) -> str:
    if isinstance(info, ArgumentInfo):
        shown_name = f"`{name.upper()}`"
    else:
        first = [info.default] if str(info.default).startswith("--") else []  # where typer keeps it in an Annotated
        options = [*first, *(info.param_decls or ())] or [f"--{name.replace('_', '-')}"]
        shown_name = ", ".join(f"`{option}`" for option in options)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        shown_name += " " + "\\|".join(str(member.value) for member in kind)
    text = str(info.help or "").replace("|", "\\|")
    if info.envvar:
        text += f" Also from `{info.envvar}`."
    if default is inspect.Parameter.empty:
        return f"| {shown_name} | {text} | required |"
    shown = "" if default in (None, "", False) else f"`{getattr(default, 'value', default)}`"
    return f"| {shown_name} | {text} | {shown} |"


def scenario_page(schema: dict[str, Any]) -> str:
    """A table for each part of the file, in the order in which a reader meets them."""
    documented = _field_texts()
    lines = ["# The scenario file, field by field", "", WRITTEN, ""]
    lines += [
        "[The guide](../guides/scenarios.md) says what it is for; `scenario.schema.json` is the same for editors.",
        "",
    ]
    definitions: dict[str, Any] = {"Scenario": schema, **schema["$defs"]}
    for name in _reached(definitions):
        part = definitions[name]
        if "properties" not in part:
            continue
        text = documented.get((name, ""), "")
        lines += [f"## {name}", "", *([text, ""] if text else []), "| field | type | default | |", "|---|---|---|---|"]
        for field, spec in part["properties"].items():
            default = "required" if field in part.get("required", []) else _default(spec)
            lines.append(f"| `{field}` | {_type(spec)} | {default} | {documented.get((name, field), '')} |")
        lines.append("")
    return "\n".join(lines)


def _reached(definitions: dict[str, Any]) -> list[str]:
    order = ["Scenario"]
    for name in order:
        for reference in json.dumps(definitions[name].get("properties", {})).split('"#/$defs/')[1:]:
            found = reference.partition('"')[0]
            if found not in order:
                order.append(found)
    return order


def _type(spec: dict[str, Any]) -> str:
    if "$ref" in spec:
        name = spec["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf", "allOf"):
        if union in spec:
            return " or ".join(_type(entry) for entry in spec[union] if entry.get("type") != "null")
    if "const" in spec:
        return f"`{spec['const']}`"
    if "enum" in spec:
        known = [f"`{value}`" for value in spec["enum"]]
        return " or ".join(known) if len(known) < 8 else "a state of an agent"
    if spec.get("type") == "array":
        return f"list of {_type(spec['items'])}"
    if spec.get("type") == "object":
        return f"mapping to {_type(spec.get('additionalProperties', {}))}"
    example = f", for example `{spec['examples'][0]}`" if spec.get("examples") else ""
    return str(spec.get("type", "anything")) + example


def _default(spec: dict[str, Any]) -> str:
    if "default" not in spec or spec["default"] in (None, "", {}, []):
        return ""
    default = spec["default"]
    if isinstance(default, dict):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _field_texts() -> dict[tuple[str, str], str]:
    """The text below a field of a model, by the class's name and the field's name in the file."""
    texts: dict[tuple[str, str], str] = {}
    modules = (machine_group, machine_steps, scenario)
    parsed = [(module, entry) for module in modules for entry in ast.parse(inspect.getsource(module)).body]
    for module, entry in parsed:
        if not isinstance(entry, ast.ClassDef):
            continue
        fields = getattr(module, entry.name).model_fields
        texts[entry.name, ""] = " ".join((ast.get_docstring(entry) or "").split())
        for before, after in zip(entry.body, entry.body[1:], strict=False):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if is_text and isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
                name = before.target.id
                alias = fields[name].alias if name in fields else None
                texts[entry.name, alias or name] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]
    return texts


def main() -> int:
    wrong = []
    for name, text in pages().items():
        path = FOLDER / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text:
                wrong.append(name)
        else:
            path.write_text(text)
    for name in wrong:
        sys.stderr.write(f"docs/reference/{name} is out of date: make reference\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
