"""A lookout, which asks only the agents that changed, sees what a look at all of them sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labsim.model.machine_steps import AgentSelector
from labsim.model.objects import Object
from labsim.model.scenario import ExpectStep
from labsim.scenario.expectations import Lookout, look
from labsim.scenario.tracking import AgentHistory


class FewAgents:
    """A lab that is nothing but its agents."""

    hub: Any = None

    def __init__(self) -> None:
        self.agent_history = AgentHistory()
        self._agents: dict[str, Object] = {}

    def agents(self) -> list[Object]:
        return list(self._agents.values())

    def agent_named(self, name: str) -> Object | None:
        return self._agents.get(name)

    def machine_of(self, agent: Object) -> str:
        return f"worker-{agent['metadata']['name']}"

    def hosted_client(self, cluster: str) -> None:
        return None

    def write(self, name: str, state: str, cluster: str | None = None, **spec: Any) -> None:
        if cluster is not None:
            spec["clusterDeploymentName"] = {"name": cluster}
        self._agents[name] = {"metadata": {"name": name}, "spec": spec, "status": {"debugInfo": {"state": state}}}
        self.agent_history.saw(self._agents[name], 0.0)

    def delete(self, name: str) -> None:
        del self._agents[name]
        self.agent_history.gone(name)


def expecting(agents: Any, count: int, state: str | None = None) -> ExpectStep:
    selector = agents if isinstance(agents, str) else AgentSelector.model_validate(agents)
    return ExpectStep.model_validate({"agents": selector, "count": count, "state": state, "within": "1m"})


@pytest.mark.parametrize(
    "step",
    [
        expecting("all", 2, "known"),
        expecting({"cluster": "example"}, 1, "known"),
        expecting({"cluster": "none"}, 1),
        expecting({"released": True}, 1, "known"),
        expecting({"machines": "worker-b"}, 1, "known"),
        expecting({"approved": True}, 0),
    ],
)
def test_a_lookout_agrees_with_a_look_after_each_change(step: ExpectStep) -> None:
    lab = FewAgents()
    lookout = Lookout(lab, step)
    changes: list[Callable[[], None]] = [
        lambda: None,
        lambda: lab.write("a", "discovering"),
        lambda: lab.write("a", "known", approved=True),
        lambda: lab.write("b", "known", "example"),
        lambda: lab.write("b", "known"),
        lambda: lab.write("a", "known", "example"),
        lambda: lab.write("a", ""),
        lambda: lab.delete("a"),
        lambda: lab.write("a", "known"),
    ]
    held = []
    for change in changes:
        change()
        seen, whole = lookout.look(), look(lab, step)
        assert (seen.holds, seen.seen) == (whole.holds, whole.seen)
        held.append(seen.holds)
    assert len(set(held)) == 2


def test_two_changes_between_two_looks_are_both_seen() -> None:
    lab = FewAgents()
    lookout = Lookout(lab, expecting("all", 2, "known"))
    assert not lookout.look().holds
    lab.write("a", "known")
    lab.write("b", "known")
    assert lookout.look().holds
