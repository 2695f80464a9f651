"""Which Agents are free, in which order they are tried, and whom an Agent wakes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from labsim.controllers.agent_provider.links import AgentMachineLinks
from labsim.controllers.agent_provider.pool import AgentPool, is_claimable
from labsim.controllers.runtime.effects import Key
from labsim.entropy import Entropy
from labsim.model.kinds import AGENT, AGENT_MACHINE
from labsim.model.objects import Object, new

GOOD = {"Bound": "False", "Connected": "True", "Validated": "True"}


def agent(name: str, *, approved: bool = True, labels: dict[str, str] | None = None, **statuses: str) -> Object:
    made = new(AGENT, "agents", name, spec={"approved": approved})
    made["metadata"]["labels"] = labels or {}
    values = {**GOOD, **statuses}
    made["status"] = {"conditions": [{"type": kind, "status": value} for kind, value in values.items() if value]}
    return made


def agent_machine(name: str, namespace: str = "one", selector: Any = None, agent_ref: str = "") -> Object:
    made = new(AGENT_MACHINE, namespace, name, spec={"agentLabelSelector": selector or {}})
    if agent_ref:
        made["status"] = {"agentRef": {"namespace": "agents", "name": agent_ref}}
    return made


def test_a_condition_that_is_missing_is_not_met() -> None:
    assert is_claimable(agent("a"))
    assert not is_claimable(agent("a", approved=False))
    for kind in GOOD:
        for value in ("", "Unknown"):
            statuses: dict[str, Any] = {kind: value}
            assert not is_claimable(agent("a", **statuses)), (kind, value)
    assert not is_claimable(agent("a", Bound="True"))


def test_the_order_depends_on_the_seed_and_not_on_the_other_agents() -> None:
    def order(seed: int, names: list[str]) -> list[str]:
        pool = AgentPool(Entropy(seed))
        for name in names:
            pool.observe(None, agent(name))
        return list(pool.candidates("agents", "one/machine"))

    names = [f"agent-{number}" for number in range(12)]
    assert sorted(order(1, names)) == sorted(names)
    assert order(1, names) == order(1, list(reversed(names)))
    assert len({tuple(order(seed, names)) for seed in range(5)}) > 1
    without = [name for name in order(1, names) if name != "agent-3"]
    assert order(1, [name for name in names if name != "agent-3"]) == without


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=40))
def test_the_pool_holds_exactly_the_free_agents(events: list[tuple[int, bool, bool]]) -> None:
    pool = AgentPool(Entropy(7))
    present: dict[str, Object] = {}
    for number, exists, free in events:
        name = f"agent-{number}"
        before = present.pop(name, None)
        after = agent(name, approved=free) if exists else None
        if after is not None:
            present[name] = after
        if before is not None or after is not None:
            pool.observe(before, after)
    free_names = sorted(name for name, obj in present.items() if is_claimable(obj))
    assert sorted(pool.candidates("agents", "x")) == free_names
    assert pool.count("agents") == len(free_names)


def links_with(*machines: Object) -> AgentMachineLinks:
    links = AgentMachineLinks(AgentPool(Entropy(1)))
    for machine in machines:
        links.observe(None, machine)
    return links


def wake(links: AgentMachineLinks, after: Object, before: Object | None = None) -> list[Key]:
    links.agent_changed(before, after)
    keys = links.of_agent(after)
    return keys + (links.of_agent(before) if before is not None else [])


def test_a_claimed_agent_wakes_its_claimant_only() -> None:
    links = links_with(agent_machine("mine", agent_ref="a"), agent_machine("waits"))
    claimed = agent("a", labels={"agentMachineRef": "mine"})
    claimed["metadata"]["annotations"] = {"agentMachineRefNamespace": "one"}
    assert wake(links, claimed, before=agent("a")) == [Key("one", "mine")]


def test_a_free_agent_wakes_those_that_it_could_serve() -> None:
    links = links_with(
        agent_machine("blue", selector={"matchLabels": {"colour": "blue"}}),
        agent_machine("red", selector={"matchLabels": {"colour": "red"}}),
        agent_machine("held-up"),
    )
    links.is_asking(Key("one", "blue"), "agents")
    links.is_asking(Key("one", "red"), "agents")
    woken = wake(links, agent("a", labels={"colour": "red"}))
    assert woken == [Key("one", "held-up"), Key("one", "red")]


def test_as_many_are_woken_as_there_are_free_agents() -> None:
    machines = [agent_machine(f"m{number}") for number in range(10)]
    links = links_with(*machines)
    for machine in machines:
        links.is_asking(Key("one", machine["metadata"]["name"]), "agents")
    assert len(wake(links, agent("a"))) == 1
    assert len(wake(links, agent("b"))) == 2


def test_an_agent_that_is_not_free_wakes_nobody() -> None:
    links = links_with(agent_machine("waits"))
    assert wake(links, agent("a", Validated="False")) == []
