"""What wakes an AgentMachine: what it looks at, not every event; and any event where its last write was lost."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from capi_world import AGENTS, CapiWorld

from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT, AGENT_MACHINE, MACHINE, Kind
from labsim.model.objects import dig, name_of


def wakes(world: CapiWorld, actor: str) -> int:
    lines = (orjson.loads(line) for line in world.sink.getvalue().splitlines())
    return sum(line["type"] == "wake" and line["actor"] == actor for line in lines)


def claimed(world: CapiWorld) -> tuple[str, str, str]:
    """Namespace, Machine and Agent of a claim about which nothing moves any more."""
    world.cim_sleeps = True
    namespace = world.control_plane()
    world.agents(1)
    world.machine_set(namespace, 1)
    world.run_until(lambda: len(world.claims) == 1, 30)
    agent = world.claims[0][0]
    world.agent_state(agent, "installing")
    world.run_for(20)
    return namespace, name_of(world.all(MACHINE, namespace)[0]), agent


@pytest.mark.parametrize(
    ("body", "subresource"),
    [
        ({"metadata": {"annotations": {"note": "of a person"}}}, ""),
        ({"spec": {"hostname": "renamed"}}, ""),
        ({"status": {"progress": {"installationPercentage": 7}}}, "status"),
    ],
)
def test_what_an_agent_machine_does_not_look_at_on_its_agent_does_not_wake_it(body: Any, subresource: str) -> None:
    world = CapiWorld()
    _, _, agent = claimed(world)
    before = wakes(world, "agentProvider/agentmachine")
    world.patch(AGENT, AGENTS, agent, body, subresource)
    world.run_for(5)
    assert wakes(world, "agentProvider/agentmachine") == before


def test_a_claim_taken_off_by_hand_is_put_on_again() -> None:
    world = CapiWorld()
    _, machine, agent = claimed(world)
    world.patch(AGENT, AGENTS, agent, {"metadata": {"labels": {"agentMachineRef": None}}})
    world.run_for(1)
    assert dig(world.find(AGENT, AGENTS, agent), "metadata", "labels", "agentMachineRef") == machine


def test_the_status_that_a_controller_writes_wakes_itself_no_more() -> None:
    world = CapiWorld()
    namespace, machine, agent = claimed(world)
    before = wakes(world, "agentProvider/agentmachine"), wakes(world, "capi/machine")
    condition = {"type": "Installed", "status": "False", "reason": "InstallationInProgress", "message": "half"}
    others = [
        entry for entry in dig(world.find(AGENT, AGENTS, agent), "status", "conditions") if entry["type"] != "Installed"
    ]
    world.patch(AGENT, AGENTS, agent, {"status": {"conditions": [*others, condition]}}, "status")
    world.run_for(5)
    assert world.says(AGENT_MACHINE, namespace, machine, "Installed")[3] == "half"
    assert world.says(MACHINE, namespace, machine, "InfrastructureReady")[1] == "InstallationInProgress"
    after = wakes(world, "agentProvider/agentmachine"), wakes(world, "capi/machine")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)


def test_a_write_that_was_lost_is_repaired_at_the_next_event_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    world = CapiWorld()
    namespace, machine, agent = claimed(world)
    real = world.hub.patch
    lost: list[str] = []

    def refusing(kind: Kind, place: str, name: str, body: Any, **options: Any) -> Any:
        if kind is AGENT_MACHINE and not lost:
            lost.append(name)
            raise ApiError(500, "InternalError", "the database is away")
        return real(kind, place, name, body, **options)

    monkeypatch.setattr(world.hub, "patch", refusing)
    conditions = [
        {**entry, "status": "True", "message": "done"} if entry["type"] == "Installed" else entry
        for entry in dig(world.find(AGENT, AGENTS, agent), "status", "conditions")
    ]
    world.patch(AGENT, AGENTS, agent, {"status": {"conditions": conditions}}, "status")
    world.run_for(5)
    assert lost == [machine]
    assert world.says(AGENT_MACHINE, namespace, machine, "Installed")[0] == "False"
    world.patch(AGENT, AGENTS, agent, {"status": {"progress": {"installationPercentage": 7}}}, "status")
    world.run_for(5)
    assert world.says(AGENT_MACHINE, namespace, machine, "Installed")[0] == "True"
