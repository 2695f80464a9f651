"""AllMachinesReady and AllNodesHealthy: how a NodePool speaks about its Machines (fact sheet, section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from labsim.controllers.hypershift.desired import Condition
from labsim.model.objects import Object, condition_of, dig, name_of

MESSAGE_LIMIT = 1000  # characters; upstream cuts longer lists
_CUT = "... too many similar errors\n"
_COUNT_ONLY = re.compile(r"^\d+ of \d+ completed$")


def all_machines_ready(node_pool: Object, machines: Sequence[Object]) -> Condition:
    return _summary(node_pool, machines, "Ready", "WaitingForInfrastructure", "ready")


def all_nodes_healthy(node_pool: Object, machines: Sequence[Object]) -> Condition:
    return _summary(node_pool, machines, "NodeHealthy", "WaitingForNodeRef", "healthy")


def _summary(node_pool: Object, machines: Sequence[Object], kind: str, missing: str, word: str) -> Condition:
    if not machines:
        if not dig(node_pool, "spec", "autoScaling") and not dig(node_pool, "spec", "replicas", default=0):
            return Condition("False", "AsExpected", "NodePool set to no replicas")
        return Condition("False", "NotFound", "No Machines are created")
    reasons: set[str] = set()
    lines: list[str] = []
    for machine in machines:
        entry = condition_of(machine, kind)
        if entry is not None and entry.get("status") == "True":
            continue
        reason = (entry or {}).get("reason") or missing
        message = str((entry or {}).get("message") or "")
        reasons.add(reason)
        # A count of finished steps says nothing here.
        shown = "" if _COUNT_ONLY.match(message) else message
        lines.append(f"Machine {name_of(machine)}: {reason}{': ' + shown if shown else ''}\n")
    if not lines:
        return Condition("True", "AsExpected", "All is well")
    text = f"{len(lines)} of {len(machines)} machines are not {word}\n" + "".join(lines)
    if len(text) > MESSAGE_LIMIT:
        text = text[: text.rfind("\n", 0, MESSAGE_LIMIT) + 1] + _CUT
    return Condition("False", ",".join(sorted(reasons)), text)
