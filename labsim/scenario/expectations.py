"""What an expectation looks at, and how it says what it saw."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import Counter
from typing import Protocol

from labsim.hub.client import HubClient
from labsim.model.kinds import ALL_KINDS, MACHINE, NODE, NODE_POOL, Kind
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_of,
    condition_status,
    is_deleting,
    name_of,
    namespace_of,
)
from labsim.model.scenario import Agents, ExpectStep
from labsim.scenario.tracking import AgentHistory, agent_state, select_agents


class Observed(Protocol):
    """What an expectation needs of a lab."""

    hub: HubClient
    agent_history: AgentHistory

    def agents(self) -> list[Object]:
        """The Agents of this lab's machines."""
        ...

    def machine_of(self, agent: Object) -> str: ...
    def hosted_client(self, cluster: str) -> HubClient | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """One look at the world: whether the expectation holds, what was seen, and the objects that stand in its way."""

    holds: bool
    seen: str
    stuck: tuple[Object, ...] = ()


def selected_agents(lab: Observed, selector: Agents) -> list[Object]:
    """The lab's agents that a selector means."""
    return select_agents(
        lab.agents(),
        selector,
        history=lab.agent_history,
        machine_of=lab.machine_of,
        matches=fnmatch.fnmatchcase,
    )


def look(lab: Observed, step: ExpectStep) -> Look:
    """Evaluate an expectation at the present revision. An empty selection fails, unless `count: 0` is asked for."""
    if step.agents is not None:
        return _agents(lab, step, step.agents)
    if step.nodes is not None:
        return _nodes(lab, step, step.nodes.hosted_cluster)
    if step.machines is not None:
        return _machines(lab, step, step.machines.node_pool)
    return _object(lab, step)


def _agents(lab: Observed, step: ExpectStep, selector: Agents) -> Look:
    agents = selected_agents(lab, selector)
    states = Counter(agent_state(agent) or "(no state)" for agent in agents)
    seen = f"{len(agents)} agent(s)" + (f": {_tally(states)}" if agents else "")
    wrong = tuple(agent for agent in agents if step.state is not None and agent_state(agent) != step.state)
    return Look(_count_holds(step, len(agents)) and not wrong, seen, wrong or tuple(agents))


def _nodes(lab: Observed, step: ExpectStep, cluster: str) -> Look:
    client = lab.hosted_client(cluster)
    if client is None:
        return Look(False, f"the API of hosted cluster {cluster} does not answer")
    nodes = client.list(NODE)
    ready = [node for node in nodes if condition_status(node, "Ready") == "True"]
    seen = f"{len(nodes)} node(s), {len(ready)} Ready"
    wrong = [node for node in nodes if step.ready is not None and (node in ready) != step.ready]
    return Look(_count_holds(step, len(nodes)) and not wrong, seen, tuple(wrong or nodes))


def _machines(lab: Observed, step: ExpectStep, node_pool: str) -> Look:
    pools = {f"{namespace_of(pool)}/{name_of(pool)}" for pool in lab.hub.list(NODE_POOL) if name_of(pool) == node_pool}
    machines = [
        machine
        for machine in lab.hub.list(MACHINE)
        if annotations_of(machine).get("hypershift.openshift.io/nodePool") in pools
    ]
    deleting = sum(is_deleting(machine) for machine in machines)
    seen = f"{len(machines)} Machine(s)" + (f", {deleting} of them deleting" if deleting else "")
    return Look(_count_holds(step, len(machines)), seen, tuple(machines))


def _object(lab: Observed, step: ExpectStep) -> Look:
    """Every object whose name matches must have the condition; `*` in a name stands for anything."""
    if step.object is None or step.condition is None:
        raise ValueError("an expectation without a subject: the scenario model admits none")
    kind = kind_named(step.object.kind)
    listed = lab.hub.list(kind, step.object.namespace)
    found = [obj for obj in listed if fnmatch.fnmatchcase(name_of(obj), step.object.name)]
    if not found:
        return Look(False, f"there is no {kind} {step.object.name}")
    wrong, seen = [], ""
    for obj in found:
        condition = condition_of(obj, step.condition.type) or {}
        status, reason = condition.get("status", "absent"), condition.get("reason", "")
        if status != step.condition.status or step.condition.reason not in (None, reason):
            wrong.append(obj)
        if obj is found[0] or obj in wrong:
            message = str(condition.get("message", "")).strip()
            seen = f"{step.condition.type} of {name_of(obj)} is {status} {reason}" + (f": {message}" if message else "")
    return Look(_count_holds(step, len(found)) and not wrong, seen, tuple(wrong))


def kind_named(name: str) -> Kind:
    """The kind with this Kind or plural name; ValueError for an unknown one."""
    for kind in ALL_KINDS:
        if name.lower() in (kind.kind.lower(), kind.plural, kind.qualified):
            return kind
    raise ValueError(f"unknown kind {name!r}")


def _count_holds(step: ExpectStep, found: int) -> bool:
    return found == step.count if step.count is not None else found > 0


def _tally(states: Counter[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def wanted(step: ExpectStep) -> str:
    """The expectation in words, for titles and failures."""
    count = "" if step.count is None else f"{step.count} "
    if step.agents is not None:
        which = (
            ""
            if step.agents == "all"
            else " with "
            + ", ".join(
                f"{key}={value}"
                for key, value in step.agents.model_dump(exclude_none=True).items()  # type: ignore[union-attr]
            )
        )
        return f"{count}agents{which}" + (f" in {step.state}" if step.state else "")
    if step.nodes is not None:
        return f"{count}{'Ready ' if step.ready else ''}nodes of {step.nodes.hosted_cluster}"
    if step.machines is not None:
        return f"{count}Machines of NodePool {step.machines.node_pool}"
    if step.object is None or step.condition is None:
        return "nothing"
    reason = f" ({step.condition.reason})" if step.condition.reason else ""
    return f"{step.object.kind} {step.object.name}: {step.condition.type}={step.condition.status}{reason}"
