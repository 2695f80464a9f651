"""Why a wait ran out, on one page: which object is stuck, how it came there, and what its machine shows."""

from __future__ import annotations

from typing import Protocol

from labsim.model.objects import Object, dig, name_of, namespace_of
from labsim.model.quantities import format_duration
from labsim.scenario.tracking import AgentHistory, agent_cluster, agent_state

CONSOLE_LINES = 15
OBJECTS_SHOWN = 3


class Evidence(Protocol):
    """Where an explanation gets its evidence."""

    agent_history: AgentHistory
    started_s: float

    def machine_of(self, agent: Object) -> str: ...
    def power_of(self, machine: str) -> str: ...
    def console_of(self, machine: str) -> bytes: ...


def explanation(lab: Evidence, wanted: str, seen: str, waited_s: float, stuck: tuple[Object, ...]) -> str:
    """The page for a wait that ran out."""
    lines = [f"waited {format_duration(waited_s)} for {wanted}", f"and saw at the end: {seen}", ""]
    for obj in stuck[:OBJECTS_SHOWN]:
        lines += _about(lab, obj)
    if len(stuck) > OBJECTS_SHOWN:
        lines.append(f"... and {len(stuck) - OBJECTS_SHOWN} more")
    if not stuck:
        lines.append("No object matches the selection, so there is none to look at.")
    return "\n".join(lines)


def _about(lab: Evidence, obj: Object) -> list[str]:
    place = "/".join(part for part in (namespace_of(obj), name_of(obj)) if part)
    lines = [f"{obj['kind']} {place}"]
    if obj["kind"] == "Agent":
        lines += _about_agent(lab, obj)
    for condition in dig(obj, "status", "conditions", default=()):
        if condition.get("status") != "True":
            message = str(condition.get("message", "")).strip().replace("\n", "\n" + " " * 8)
            lines.append(
                f"    {condition['type']}={condition.get('status')} {condition.get('reason', '')} {message}".rstrip()
            )
    lines.append("")
    return lines


def _about_agent(lab: Evidence, agent: Object) -> list[str]:
    machine = lab.machine_of(agent)
    lines = [
        f"    state {agent_state(agent)}: {dig(agent, 'status', 'debugInfo', 'stateInfo', default='')}",
        f"    approved {bool(dig(agent, 'spec', 'approved'))}, cluster {agent_cluster(agent) or 'none'}",
    ]
    states = lab.agent_history.states(name_of(agent))[-6:]
    if states:
        steps = ", ".join(f"{state} at {format_duration(at_s - lab.started_s)}" for at_s, state in states)
        lines.append(f"    last transitions: {steps}")
    for category, checks in sorted(dig(agent, "status", "validationsInfo", default={}).items()):
        lines += [
            f"    validation {category}/{check.get('id')} {check['status']}: {check.get('message', '')}"
            for check in checks
            if check.get("status") in ("failure", "error", "pending")
        ]
    lines.append(f"    machine {machine}: power {lab.power_of(machine)}; the end of its console:")
    console = lab.console_of(machine).decode(errors="replace").splitlines()[-CONSOLE_LINES:]
    lines += [f"        {line}" for line in console] or ["        (nothing printed)"]
    return lines
