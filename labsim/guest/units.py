"""As much of a systemd unit as starting its program needs: ExecStart and Environment."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A service unit: the command it starts, and the environment it gives."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def parse_service(unit: Mapping[str, Any]) -> Service:
    """Read a unit as Ignition carries it (`contents` and `dropins`)."""
    texts = [str(unit.get("contents") or "")]
    texts += [str(dropin.get("contents") or "") for dropin in unit.get("dropins") or []]
    return _parsed("\n".join(texts))


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> Service:
    """A service from its text. All machines of an InfraEnv start the same: not to be changed."""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    for key, value in _service_lines(text):
        if key == "ExecStart":
            command = tuple(shlex.split(value.lstrip("-@:+!")))
        elif key == "Environment":
            for assignment in shlex.split(value):
                name, _, content = assignment.partition("=")
                environment[name] = content
    return Service(command, environment)


def _service_lines(text: str) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.append((key.strip(), value.strip()))
    return found


def parse_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Go-style flags: `-name value`, `--name=value`, `--switch`. Values of switches are "true"."""
    flags: dict[str, str] = {}
    waiting = ""
    for argument in arguments:
        if not argument.startswith("-") or argument == "-":
            if waiting:
                flags[waiting] = argument
            waiting = ""
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        flags[name] = value if equals else "true"
        waiting = "" if equals else name
    return flags
