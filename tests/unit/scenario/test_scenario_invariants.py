"""Every invariant has a planted violation that it finds, and an ordinary story that it leaves alone."""

from __future__ import annotations

from typing import Any

from labsim.model.objects import Object
from labsim.scenario.invariants import (
    AGENT_PROCEEDS_WITHIN_S,
    MACHINE_GOES_WITHIN_S,
    ClaimedAgentsProceed,
    DeletedMachinesGo,
    Event,
    FreeAgentsCarryNoTrace,
    Invariant,
    OneClaimantPerAgent,
    OnlyApprovedAndSelectedInstall,
    standard_invariants,
)


def obj(kind: str, name: str, *, spec: Any = None, status: Any = None, **metadata: Any) -> Object:
    return {
        "kind": kind,
        "metadata": {"namespace": "ns", "name": name, **metadata},
        "spec": spec or {},
        "status": status or {},
    }


def agent(state: str, *, name: str = "a", cluster: str | None = None, **more: Any) -> Object:
    spec = {"approved": True, **more.pop("spec", {})}
    if cluster:
        spec["clusterDeploymentName"] = {"name": cluster, "namespace": "ns"}
    return obj("Agent", name, spec=spec, status={"debugInfo": {"state": state}, **more.pop("status", {})}, **more)


def agent_machine(name: str, agent_name: str, **metadata: Any) -> Object:
    return obj(
        "AgentMachine",
        name,
        status={"agentRef": {"namespace": "ns", "name": agent_name}},
        ownerReferences=[{"kind": "Machine", "name": name}],
        **metadata,
    )


def broken(invariant: Invariant, *objects: Object, event: str = "MODIFIED", end_s: float = 0.0) -> list[str]:
    found = []
    for one in objects:
        found += list(invariant.saw(Event(event=event, kind=one["kind"], obj=one, at_s=0.0)))
    return found + list(invariant.finish(end_s))


def test_two_living_claimants_of_one_agent_are_found() -> None:
    assert broken(OneClaimantPerAgent(), agent_machine("one", "a"), agent_machine("two", "a"))
    assert not broken(OneClaimantPerAgent(), agent_machine("one", "a"), agent_machine("two", "b"))


def test_a_claimant_whose_machine_is_going_does_not_count() -> None:
    going = obj("Machine", "one", deletionTimestamp="2026-01-01T00:00:00Z")
    assert not broken(OneClaimantPerAgent(), agent_machine("one", "a"), going, agent_machine("two", "a"))


def test_an_unapproved_agent_that_installs_is_found() -> None:
    assert broken(OnlyApprovedAndSelectedInstall(), agent("installing", cluster="c", spec={"approved": False}))
    assert not broken(OnlyApprovedAndSelectedInstall(), agent("installing", cluster="c"))


def test_an_agent_that_installs_for_a_selector_it_does_not_match_is_found() -> None:
    wants = obj("AgentMachine", "m", spec={"agentLabelSelector": {"matchLabels": {"size": "large"}}})
    claimed: dict[str, Any] = {"annotations": {"agentMachineRefNamespace": "ns"}}
    small = agent("installing", cluster="c", labels={"agentMachineRef": "m", "size": "small"}, **claimed)
    large = agent("installing", cluster="c", labels={"agentMachineRef": "m", "size": "large"}, **claimed)
    assert broken(OnlyApprovedAndSelectedInstall(), wants, small)
    assert not broken(OnlyApprovedAndSelectedInstall(), wants, large)


def test_a_free_agent_with_the_trace_of_a_cluster_is_found() -> None:
    token = {"ignitionEndpointTokenReference": {"namespace": "ns", "name": "t"}}
    assert broken(FreeAgentsCarryNoTrace(), agent("known-unbound", spec=token))
    assert broken(FreeAgentsCarryNoTrace(), agent("known-unbound", status={"progress": {"currentStage": "Done"}}))
    assert not broken(FreeAgentsCarryNoTrace(), agent("known-unbound"))
    assert not broken(FreeAgentsCarryNoTrace(), agent("known-unbound", labels={"agentMachineRef": "m"}, spec=token))


def test_a_deleted_machine_that_stays_is_found_unless_it_is_excused() -> None:
    going = obj("Machine", "m", deletionTimestamp="2026-01-01T00:00:00Z")
    late_s = MACHINE_GOES_WITHIN_S + 1
    assert broken(DeletedMachinesGo(), going, end_s=late_s)
    assert not broken(DeletedMachinesGo(), going, end_s=60)
    assert not broken(DeletedMachinesGo(lambda machine: True), going, end_s=late_s)
    gone = DeletedMachinesGo()
    broken(gone, going)
    assert not broken(gone, going, event="DELETED", end_s=late_s)


def test_a_claimed_agent_that_stays_where_it_is_is_found() -> None:
    late_s = AGENT_PROCEEDS_WITHIN_S + 1
    assert broken(ClaimedAgentsProceed(), agent("insufficient", cluster="c"), end_s=late_s)
    assert not broken(ClaimedAgentsProceed(), agent("added-to-existing-cluster", cluster="c"), end_s=late_s)
    assert not broken(ClaimedAgentsProceed(), agent("known-unbound"), end_s=late_s)
    assert not broken(ClaimedAgentsProceed(lambda name: True), agent("binding", cluster="c"), end_s=late_s)


def test_every_invariant_has_a_name_of_its_own() -> None:
    names = [entry.name for entry in standard_invariants(machine_excused=bool, agent_excused=bool)]
    assert len(names) == len(set(names)) >= 5
