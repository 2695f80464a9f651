"""What an expectation looks at, and how it says what it saw."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from labsim.hub.client import HubClient
from labsim.model.kinds import ALL_KINDS, MACHINE, NODE, NODE_POOL, Kind
from labsim.model.machine_steps import Agents
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_of,
    condition_status,
    is_deleting,
    name_of,
    namespace_of,
)
from labsim.model.scenario import ExpectStep
from labsim.scenario.tracking import AgentHistory, agent_state, agent_test


class Observed(Protocol):
    """What an expectation needs of a lab."""

    hub: HubClient
    agent_history: AgentHistory

    def agents(self) -> list[Object]:
        """The Agents of this lab's machines."""
        ...

    def agent_named(self, name: str) -> Object | None:
        """The Agent of one of this lab's machines; None while there is none."""
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
    return list(filter(_test(lab, selector), lab.agents()))


def _test(lab: Observed, selector: Agents) -> Callable[[Object], bool]:
    return agent_test(selector, history=lab.agent_history, machine_of=lab.machine_of, matches=fnmatch.fnmatchcase)


def look(lab: Observed, step: ExpectStep) -> Look:
    """Evaluate an expectation at the present revision. An empty selection fails, unless `count: 0` is asked for."""
    if step.agents is not None:
        return _agents(lab, step, step.agents)
    if step.nodes is not None:
        return _nodes(lab, step, step.nodes.hosted_cluster)
    if step.machines is not None:
        return _machines(lab, step, step.machines.node_pool)
    return _object(lab, step)


class Lookout:
    """An expectation that is looked at again and again while others change the world.

    Looks are cheap: of agents, only those that changed since the last look are asked again, and `stuck` stays empty.
    """

    def __init__(self, lab: Observed, step: ExpectStep) -> None:
        self._lab = lab
        self._step = step
        self._states: dict[str, str] = {}  # the state of each selected agent
        self._tally: Counter[str] = Counter()  # how many of them are in each state
        self._position: int | None = None  # how many changes of agents the last look had seen; None before the first
        self._last = Look(False, "nothing yet")
        self._is_meant = None if step.agents is None else _test(lab, step.agents)

    def look(self) -> Look:
        """Evaluate at the present revision."""
        step, lab = self._step, self._lab
        if step.agents is None or self._is_meant is None:
            return look(lab, step)
        changed = lab.agent_history.changed
        if self._position == len(changed):
            return self._last
        if self._position is None:
            self._states = {name_of(agent): agent_state(agent) for agent in selected_agents(lab, step.agents)}
            self._tally = Counter(self._states.values())
        elif not sum(self._moved(name, self._is_meant) for name in changed[self._position :]):
            self._position = len(changed)
            return self._last
        self._position = len(changed)
        count = len(self._states)
        is_right = step.state is None or self._tally[step.state] == count
        self._last = Look(_count_holds(step, count) and is_right, _agents_seen(count, self._tally))
        return self._last

    def _moved(self, name: str, is_meant: Callable[[Object], bool]) -> bool:
        """Look at one agent again; whether what it adds to the whole has changed."""
        before = self._states.get(name)
        agent = self._lab.agent_named(name)
        state = agent_state(agent) if agent is not None and is_meant(agent) else None
        if state == before:
            return False
        if before is not None:
            self._tally[before] -= 1
            del self._states[name]
        if state is not None:
            self._tally[state] += 1
            self._states[name] = state
        return True


def _agents_seen(count: int, states: Counter[str]) -> str:
    return f"{count} agent(s)" + (f": {_tally(states)}" if count else "")


def _agents(lab: Observed, step: ExpectStep, selector: Agents) -> Look:
    agents = selected_agents(lab, selector)
    seen = _agents_seen(len(agents), Counter(agent_state(agent) for agent in agents))
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
    return ", ".join(f"{count} {state or '(no state)'}" for state, count in sorted(states.items()) if count)


def wanted(step: ExpectStep) -> str:
    """The expectation in words, for titles and failures."""
    count = "" if step.count is None else f"{step.count} "
    if step.agents is not None:
        which = (
            ""
            if step.agents == "all"
            else " with "
            + ", ".join(f"{key}={value}" for key, value in step.agents.model_dump(exclude_none=True).items())
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
