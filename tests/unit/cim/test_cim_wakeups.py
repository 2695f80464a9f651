"""Reconciles are level-triggered: lost, doubled and reordered wake-ups change nothing in the end."""

from __future__ import annotations

import functools
from typing import Any

from cim_lab import CimWorld, FakeAgent
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.controllers.runtime.effects import Key
from labsim.controllers.runtime.queue import WorkQueue
from labsim.model.kinds import AGENT

HOSTS = tuple(f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abc")
CLUSTER = {"clusterDeploymentName": {"namespace": "clusters-example", "name": "example"}}


class Meddler:
    """Drops or doubles the wake-ups of Agents and ClusterDeployments, as a list of numbers says."""

    def __init__(self, world: CimWorld, choices: list[int]) -> None:
        self._choices = choices
        self._world = world
        self.active = True
        self._queues = world.world.engine.services["assisted-service"][1].queues
        for name in ("agent", "cluster-deployment", "infraenv"):
            self._wrap(self._queues[name])

    def _wrap(self, queue: WorkQueue) -> None:
        add = queue.add

        def meddled(key: Key, cause: str) -> None:
            choice = self._choices.pop() if self.active and self._choices else 1
            if choice == 0:
                return
            for _ in range(choice):
                add(key, cause)

        queue.add = meddled  # type: ignore[method-assign]

    def nudge(self) -> None:
        """What a resync does: every Agent is looked at once more."""
        self.active = False
        for host_id in HOSTS:
            self._queues["agent"].add(Key("agents", host_id), "resync")
        self._queues["cluster-deployment"].add(Key("clusters-example", "example"), "resync")


def _play(choices: list[int] | None, order: list[int]) -> list[Any]:
    world = CimWorld()
    world.infra_env()
    world.cluster()
    agents = [FakeAgent(world, host_id, f"worker-{number}") for number, host_id in enumerate(HOSTS)]
    for agent in agents:
        assert agent.register().status == 201
    meddler = Meddler(world, choices) if choices is not None else None
    for number in order:
        agents[number % 3].work()
        world.run(9)
    for agent in agents:
        agent.work()
    world.run(70)
    for host_id in HOSTS[:2]:
        world.patch_agent(CLUSTER, host_id)
        world.run(1)
    _carry_on(world, agents, 4)
    if meddler is not None:
        meddler.nudge()
    _carry_on(world, agents, 7)
    return [_shown(world, host_id) for host_id in HOSTS]


def _carry_on(world: CimWorld, agents: list[FakeAgent], minutes: int) -> None:
    for _ in range(minutes):
        for agent in agents:
            if agent.work() == "exit":
                agent.register()
        world.run(61)


@functools.lru_cache(maxsize=1)
def _calm() -> list[Any]:
    states = _play(None, [0, 1, 2])
    assert [state[0] for state in states] == ["known", "known", "known-unbound"]
    return states


def _shown(world: CimWorld, host_id: str) -> Any:
    agent = world.hub.get(AGENT, "agents", host_id)
    status = agent["status"]
    conditions = {entry["type"]: (entry["status"], entry["reason"]) for entry in status["conditions"]}
    return (
        status["debugInfo"]["state"],
        status["kind"],
        status["role"],
        agent["spec"],
        agent["metadata"]["labels"],
        conditions,
    )


@given(st.lists(st.integers(0, 2), max_size=60), st.permutations([0, 1, 2]))
@settings(max_examples=12, deadline=None)
def test_lost_doubled_and_reordered_wake_ups_change_nothing(choices: list[int], order: list[int]) -> None:
    assert _play(list(choices), order) == _calm()
