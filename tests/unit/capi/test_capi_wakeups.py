"""Wake-ups that are lost, doubled or late lead to the same end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from capi_world import AGENTS, CapiWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.controllers.agent_provider import AgentProvider
from labsim.controllers.capi import Capi
from labsim.controllers.kube import KubeControllers
from labsim.controllers.runtime.component import Component
from labsim.controllers.runtime.effects import Controller, Enqueue, Handler, Key, Program, Result
from labsim.entropy import Entropy
from labsim.model.kinds import AGENT, AGENT_CLUSTER, AGENT_MACHINE, MACHINE, MACHINE_SET, NODE
from labsim.model.objects import dig, labels_of, name_of

RESYNC_S = 45.0  # a wake-up that is lost comes again with the next resync


class Careless:
    """A component whose wake-ups get lost (until a resync), are doubled, or come late."""

    def __init__(self, inner: Component, entropy: Entropy) -> None:
        self.name = inner.name
        self._entropy = entropy.child(f"careless/{inner.name}")
        self._inner = inner
        self._counts: dict[tuple[str, Key], int] = {}

    def controllers(self) -> Sequence[Controller]:
        return [
            dataclasses.replace(controller, reconcile=self._wrapped(controller))
            for controller in self._inner.controllers()
        ]

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()

    def _wrapped(self, controller: Controller) -> Callable[[Key], Program[Result]]:
        def reconcile(key: Key) -> Program[Result]:
            count = self._counts.get((controller.name, key), 0)
            self._counts[controller.name, key] = count + 1
            purpose = f"{controller.name}/{key}/{count}"
            chance = self._entropy.integer(purpose, 0, 9)
            if chance == 0:
                return Result(RESYNC_S)
            if chance == 1:
                return Result(self._entropy.uniform(f"{purpose}/late", 0.01, 3.0))
            if chance == 2:
                yield Enqueue(controller.name, key, self._entropy.uniform(f"{purpose}/again", 0.0, 0.2))
            return (yield from controller.reconcile(key))

        return reconcile


def story(seed: int, *, careless: bool) -> CapiWorld:
    """Three Agents; scale to 2, up to 3, down to 1."""

    def made(kind: Callable[[Entropy], Component]) -> Callable[[Entropy], Component]:
        return (lambda entropy: Careless(kind(entropy), entropy)) if careless else kind

    components = [made(AgentProvider), made(Capi), made(lambda entropy: KubeControllers())]
    world = CapiWorld(seed, components=components, install_s=120)
    namespace = world.control_plane()
    world.agents(3)
    # Machines that come before their AgentCluster has its ClusterDeployment are a hazard of upstream's own.
    world.run_until(lambda: bool(dig(world.find(AGENT_CLUSTER, namespace, "example"), "status", "ready")), 600)
    world.machine_set(namespace, 2)
    world.run_for(900)
    world.scale(namespace, 3)
    world.run_for(900)
    world.scale(namespace, 1)
    world.run_for(1500)
    return world


def outcome(world: CapiWorld) -> object:
    """The end of the story, without generated names and without which Agent went where."""
    namespace = "clusters-example"
    machine_set = world.find(MACHINE_SET, namespace, "pool")
    assert machine_set is not None
    status = machine_set["status"]
    return (
        world.phases(namespace),
        [status[field] for field in ("replicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas")],
        [bool(dig(entry, "status", "ready")) for entry in world.all(AGENT_MACHINE, namespace)],
        sorted(dig(agent, "status", "debugInfo", "state") for agent in world.all(AGENT, AGENTS)),
        len([agent for agent in world.all(AGENT, AGENTS) if "agentMachineRef" in labels_of(agent)]),
        len(world.all(NODE, server=world.hosted["clusters-example/example"])),
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 100_000))
def test_the_end_is_the_same(seed: int) -> None:
    disturbed = story(seed, careless=True)
    assert outcome(disturbed) == outcome(story(0, careless=False))
    assert disturbed.engine.failures == []
    survivors = [name_of(machine) for machine in disturbed.all(MACHINE, "clusters-example")]
    labelled = [labels_of(agent).get("agentMachineRef") for agent in disturbed.all(AGENT, AGENTS)]
    assert [label for label in labelled if label] == survivors


def test_the_careless_world_really_loses_wake_ups() -> None:
    calm, disturbed = story(3, careless=False), story(3, careless=True)
    assert disturbed.sink.getvalue() != calm.sink.getvalue()
    assert calm.sink.getvalue() == story(3, careless=False).sink.getvalue(), "one seed, one history"
