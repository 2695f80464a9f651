"""Machine profiles: named sizes for machines, read from vm-templates/profiles.yaml or a person's own file."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import yaml

from labsim.errors import InvalidFile, UsageError
from labsim.machines.templates import template_directory

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d+)\s*([KMGT]iB|B)?")
_FIELDS = ("cpus", "memory", "disk")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MachineProfile:
    """The size of a machine."""

    name: str
    cpus: int
    memory_mib: int
    disk_bytes: int


def _size_bytes(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    return int(match[1]) * _UNITS[match[2] or ""] if match else None


def load_profiles(file: Path | None = None) -> dict[str, MachineProfile]:
    """The profiles of `file`, or the shipped ones. Raises InvalidFile with every mistake of the file."""
    path = file or template_directory() / "profiles.yaml"
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InvalidFile(path.name, [("", str(error), "")]) from error
    problems: list[tuple[str, str, str]] = []
    if not isinstance(document, dict):
        raise InvalidFile(path.name, [("", "is not a table of profiles", "write `name: {cpus: 4, ...}`")])
    profiles = {str(name): _profile(str(name), entry, problems) for name, entry in document.items()}
    if problems:
        raise InvalidFile(path.name, problems)
    return {name: profile for name, profile in profiles.items() if profile is not None}


def _profile(name: str, entry: Any, problems: list[tuple[str, str, str]]) -> MachineProfile | None:
    """One profile; its mistakes go to `problems`. Any: it comes from a file that a person wrote."""
    before = len(problems)
    if not isinstance(entry, dict):
        problems.append((name, "is not a profile", f"give {', '.join(_FIELDS)}"))
        return None
    problems += [(f"{name}.{field}", "is missing", "") for field in _FIELDS if field not in entry]
    problems += [
        (f"{name}.{field}", "is unknown", f"one of {', '.join(_FIELDS)}") for field in set(entry) - set(_FIELDS)
    ]
    cpus = entry.get("cpus")
    if "cpus" in entry and (type(cpus) is not int or cpus < 1):
        problems.append((f"{name}.cpus", f"{cpus!r} is not a number of processors", "1 or more"))
    sizes = {field: _size_bytes(str(entry[field])) for field in ("memory", "disk") if field in entry}
    problems += [
        (f"{name}.{field}", f"{entry[field]!r} is not a size", "as 16GiB") for field, v in sizes.items() if not v
    ]
    if len(problems) > before:
        return None
    memory, disk = sizes["memory"] or 0, sizes["disk"] or 0
    return MachineProfile(name=name, cpus=int(entry["cpus"]), memory_mib=memory >> 20, disk_bytes=disk)


def profile(name: str, file: Path | None = None) -> MachineProfile:
    """The profile called `name`."""
    profiles = load_profiles(file)
    if name not in profiles:
        raise UsageError(f"there is no machine profile {name!r}", hint=f"known profiles: {', '.join(sorted(profiles))}")
    return profiles[name]
