"""Two hosted clusters that share one pool of Agents."""

from __future__ import annotations

from capi_world import CapiWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.model.kinds import AGENT_MACHINE
from labsim.model.objects import dig


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), agents=st.integers(1, 6), first=st.integers(1, 4), second=st.integers(1, 4))
def test_no_agent_is_claimed_twice(seed: int, agents: int, first: int, second: int) -> None:
    world = CapiWorld(seed)
    one = world.control_plane("one", infra_id="one-infra")
    two = world.control_plane("two", infra_id="two-infra")
    world.agents(agents)
    world.machine_set(one, first, "pool-one", infra_id="one-infra")
    world.machine_set(two, second, "pool-two", infra_id="two-infra")
    world.run_for(30)
    claimed = [
        dig(machine, "status", "agentRef", "name")
        for namespace in (one, two)
        for machine in world.all(AGENT_MACHINE, namespace)
        if dig(machine, "status", "agentRef")
    ]
    assert len(claimed) == len(set(claimed)) == min(agents, first + second)
    assert len(world.claims) == len(claimed), "each Agent was claimed exactly once"
    assert world.engine.failures == []


def test_seeds_explore_who_gets_which_agent() -> None:
    outcomes = set()
    for seed in range(6):
        world = CapiWorld(seed)
        namespace = world.control_plane()
        world.agents(6)
        world.machine_set(namespace, 1)
        world.run_for(10)
        outcomes.add(world.claims[0][0])
    assert len(outcomes) > 1
