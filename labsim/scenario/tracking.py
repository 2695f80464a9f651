"""What a run knows about its agents beyond their present state: who was bound, who was released since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.model.machine_steps import AgentSelector
from labsim.model.objects import Object, dig, labels_of, name_of


def agent_state(agent: Object) -> str:
    """Upstream's host state, from `.status.debugInfo.state`."""
    status = agent.get("status")
    info = status.get("debugInfo") if status else None
    return str(info.get("state") or "") if info else ""


def agent_cluster(agent: Object) -> str | None:
    """The name of the ClusterDeployment that the Agent's spec asks for."""
    found = dig(agent, "spec", "clusterDeploymentName", "name")
    return None if found is None else str(found)


class AgentHistory:
    """Follows every version of the lab's agents, once, as the history tells them."""

    def __init__(self) -> None:
        self._bound: set[str] = set()
        self._released: set[str] = set()
        self._states: dict[str, list[tuple[float, str]]] = {}
        self.changed: list[str] = []  # the name of the agent of each change, in order: who looks again starts there

    def gone(self, name: str) -> None:
        """Take in that an Agent was deleted."""
        self.changed.append(name)

    def saw(self, agent: Object, at_s: float) -> None:
        """Take in one version of an Agent."""
        name = name_of(agent)
        self.changed.append(name)
        if agent_cluster(agent) is not None:
            self._bound.add(name)
            self._released.discard(name)
        elif name in self._bound:
            self._bound.discard(name)
            self._released.add(name)
        states = self._states.setdefault(name, [])
        state = agent_state(agent)
        if state and (not states or states[-1][1] != state):
            states.append((at_s, state))

    def is_released(self, name: str) -> bool:
        """Unbound since this run bound it, and not bound again."""
        return name in self._released

    def states(self, name: str) -> list[tuple[float, str]]:
        """The states that an agent went through, as (in-world seconds, state)."""
        return self._states.get(name, [])


def agent_test(
    selector: AgentSelector | str,
    *,
    history: AgentHistory,
    machine_of: Callable[[Object], str],
    matches: Callable[[str, str], bool],
) -> Callable[[Object], bool]:
    """Whether a selector of the scenario file means an agent."""
    if isinstance(selector, str):
        return lambda agent: True
    rules: list[tuple[Any, Callable[[Object, Any], bool]]] = [
        (selector.cluster, lambda agent, want: (agent_cluster(agent) or "none") == want),
        (selector.state, lambda agent, want: agent_state(agent) == want),
        (selector.released, lambda agent, want: history.is_released(name_of(agent)) == want),
        (selector.approved, lambda agent, want: bool(dig(agent, "spec", "approved")) == want),
        (selector.machines, lambda agent, want: matches(machine_of(agent), want)),
        (selector.labels, lambda agent, want: all(labels_of(agent).get(key) == want[key] for key in want)),
    ]
    asked = [(want, holds) for want, holds in rules if want is not None]
    return lambda agent: all(holds(agent, want) for want, holds in asked)
