"""The conditions of an AgentMachine: what its Agent reports, summed up as Ready (v1beta1 contract)."""

from __future__ import annotations

from labsim.controllers.capi.conditions import ERROR, INFO, WARNING, mark_false, mark_true, summarize
from labsim.model.objects import Object, condition_status, dig

RESERVED = "AgentReserved"
INSTALLED = "Installed"
# The conditions that follow the Agent's own of the second name.
FOLLOWING = (
    ("AgentSpecSynced", "SpecSynced"),
    ("AgentValidated", "Validated"),
    ("AgentRequirementsMet", "RequirementsMet"),
    (INSTALLED, "Installed"),
)
ALL = (RESERVED, *(kind for kind, _ in FOLLOWING))
INSTALLATION_FAILED = "InstallationFailed"


def without_agent(agent_machine: Object, error: str, *, now_s: float) -> None:
    """No Agent yet: none fits, or `error` says why it was not looked for."""
    if error:
        mark_false(agent_machine, RESERVED, "AgentNotYetFound", INFO, error, now_s=now_s)
    else:
        mark_false(agent_machine, RESERVED, "NoSuitableAgents", WARNING, now_s=now_s)
    for kind, _ in FOLLOWING:
        mark_false(agent_machine, kind, "AgentNotYetFound", INFO, "Agent not yet reserved", now_s=now_s)
    _sum_up(agent_machine, now_s)


def from_agent(agent_machine: Object, agent: Object, *, now_s: float) -> None:
    """What the claimed Agent reports."""
    mark_true(agent_machine, RESERVED, now_s=now_s)
    reported = {entry["type"]: entry for entry in dig(agent, "status", "conditions", default=())}
    for kind, source in FOLLOWING:
        found = reported.get(source)
        if found is not None and found["status"] == "True":
            mark_true(agent_machine, kind, now_s=now_s)
            continue
        reason = "" if found is None else found.get("reason", "")
        severity = INFO if kind == INSTALLED and reason != INSTALLATION_FAILED else ERROR
        message = "" if found is None else found.get("message", "")
        mark_false(agent_machine, kind, reason, severity, message, now_s=now_s)
    _sum_up(agent_machine, now_s)


def _sum_up(agent_machine: Object, now_s: float) -> None:
    summarize(agent_machine, ALL, now_s=now_s, count_steps=True)
    if condition_status(agent_machine, "Ready") == "True":
        agent_machine["status"]["ready"] = True
    else:
        agent_machine["status"].pop("ready", None)  # upstream's types leave out a false one
