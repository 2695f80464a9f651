"""`labsim doctor`: what this host can carry, for people and for programs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from labsim.cli.output import Format, print_document, print_table
from labsim.errors import UsageError
from labsim.lab.doctor.capacity import Capacity, simulated, virtual
from labsim.lab.doctor.findings import Finding, Level, examine, exit_code, works
from labsim.lab.doctor.look import look
from labsim.machines.profiles import load_profiles

MACHINES = ("simulated", "libvirt")


def see_doctor(machines: str, connect: str, output: Format) -> int:
    """Print the findings; returns 4 where labs of such machines cannot be made."""
    if machines not in MACHINES:
        raise UsageError(f"there are no machines {machines!r}", hint=f"one of {', '.join(MACHINES)}")
    facts = look(connect)
    findings = examine(facts)
    usable = {name: works(findings, name) for name in MACHINES}
    largest = [simulated(facts), *(virtual(facts, profile) for profile in load_profiles().values())]
    if output in (Format.JSON, Format.YAML):
        print_document(document(findings, usable, largest), output)
    elif output is Format.NAME:
        sys.stdout.write("".join(f"{name}\n" for name in MACHINES if usable[name]))
    else:
        print_findings(findings, usable, largest, facts.family)
    return int(exit_code(findings, machines))


def document(findings: Sequence[Finding], usable: dict[str, bool], largest: Sequence[Capacity]) -> dict[str, Any]:
    """For programs: which machines can be used, every finding with its fixes, the largest labs."""
    rows = [
        {
            "area": found.area,
            "level": found.level.value,
            "text": found.text,
            "neededBy": found.needed.value,
            "fix": dataclasses.asdict(found.fix),
        }
        for found in findings
    ]
    labs = [{**dataclasses.asdict(one), "usable": usable[one.driver]} for one in largest]
    return {"usable": usable, "findings": rows, "largestLabs": labs}


def print_findings(
    findings: Sequence[Finding], usable: dict[str, bool], largest: Sequence[Capacity], family: str
) -> None:
    """The table: a line for each finding, and its fix below it."""
    lines: list[tuple[str, str, str]] = []
    for found in findings:
        lines.append((found.level.value, found.area, found.text))
        if found.level is not Level.OK:
            lines.append(("", "", f"fix: {found.fix.on(family)}"))
    print_table(("", "AREA", "FINDING"), lines)
    sys.stdout.write("\n")
    rows = [
        (one.driver, one.profile or "any", str(one.machines), one.limit if usable[one.driver] else "not usable yet")
        for one in largest
    ]
    print_table(("LARGEST LAB", "PROFILE", "MACHINES", "ENDS AT"), rows)
    sys.stdout.write("\n")
    for name in MACHINES:
        sys.stdout.write(f"{name} machines: {'work here' if usable[name] else 'do not work here'}\n")
