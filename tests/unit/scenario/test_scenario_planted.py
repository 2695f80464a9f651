"""Each invariant has a violation, planted in a running lab, that makes its run fail: from the store to the verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labsim.model.kinds import AGENT, AGENT_MACHINE, MACHINE
from labsim.model.objects import Object, new
from labsim.model.scenario import parse_scenario
from labsim.scenario.invariants import standard_invariants
from labsim.scenario.runner import run_scenario

TEXT = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: planted}
spec:
  lab:
    infraEnvs: [{name: lab}]
    machines: [{name: worker, count: 1, infraEnv: lab}]
  steps:
    - boot: {machines: worker-*, from: discovery-iso}
    - expect: {agents: all, count: 1, state: known-unbound, within: 15m}
    - wait: {for: 4h}
"""
PLANTED_AFTER_S = 1200.0
NAMESPACE = "labsim"
PROVIDER = "capi-provider.agent-install.openshift.io/v1beta1"


def agent_of(one: Any) -> Object:
    (agent,) = one.agents()
    found: Object = agent
    return found


def patched(one: Any, body: Object, subresource: str = "") -> None:
    one.hub.patch(AGENT, NAMESPACE, agent_of(one)["metadata"]["name"], body, subresource=subresource)


def two_claimants(one: Any) -> None:
    for name in ("first", "second"):
        one.hub.create(new(AGENT_MACHINE, NAMESPACE, name, spec={}), AGENT_MACHINE)
        reference = {"namespace": NAMESPACE, "name": agent_of(one)["metadata"]["name"]}
        one.hub.patch(AGENT_MACHINE, NAMESPACE, name, {"status": {"agentRef": reference}}, subresource="status")


def an_installation_without_approval(one: Any) -> None:
    patched(one, {"status": {"debugInfo": {"state": "installing"}}}, "status")


def an_installation_for_another_selector(one: Any) -> None:
    selector = {"matchLabels": {"size": "large"}}
    one.hub.create(new(AGENT_MACHINE, NAMESPACE, "large", spec={"agentLabelSelector": selector}), AGENT_MACHINE)
    claim = {"labels": {"agentMachineRef": "large"}, "annotations": {"agentMachineRefNamespace": NAMESPACE}}
    patched(one, {"metadata": claim, "spec": {"approved": True}})
    patched(one, {"status": {"debugInfo": {"state": "installing"}}}, "status")


def a_trace_of_a_cluster(one: Any) -> None:
    patched(one, {"spec": {"machineConfigPool": "ignition"}})


def a_machine_that_never_goes(one: Any) -> None:
    machine = new(MACHINE, NAMESPACE, "stays")
    machine["metadata"]["finalizers"] = ["planted/stays"]
    reference = {"apiVersion": PROVIDER, "kind": "AgentMachine", "name": "none", "namespace": NAMESPACE}
    machine["spec"] = {"clusterName": "none", "bootstrap": {"dataSecretName": "none"}, "infrastructureRef": reference}
    one.hub.create(machine, MACHINE)
    one.hub.delete(MACHINE, NAMESPACE, "stays")


def a_claim_that_leads_nowhere(one: Any) -> None:
    patched(one, {"spec": {"clusterDeploymentName": {"name": "none", "namespace": NAMESPACE}}})


VIOLATIONS: list[tuple[str, Callable[[Any], None]]] = [
    ("one-claimant-per-agent", two_claimants),
    ("only-approved-and-selected-install", an_installation_without_approval),
    ("only-approved-and-selected-install", an_installation_for_another_selector),
    ("free-agents-carry-no-trace", a_trace_of_a_cluster),
    ("deleted-machines-go", a_machine_that_never_goes),
    ("claimed-agents-proceed", a_claim_that_leads_nowhere),
]


def test_every_invariant_has_a_planted_violation() -> None:
    known = {entry.name for entry in standard_invariants(machine_excused=bool, agent_excused=bool)}
    assert known == {name for name, _ in VIOLATIONS}, "settled-lab-stops-writing has its own: test_scenario_quiescence"


@pytest.mark.parametrize(("invariant", "plant"), VIOLATIONS, ids=[plant.__name__ for _, plant in VIOLATIONS])
def test_a_planted_violation_makes_the_run_fail(
    invariant: str, plant: Callable[[Any], None], lab: Callable[[str], Any]
) -> None:
    one = lab(TEXT)
    one.world.queue.call_later(PLANTED_AFTER_S, lambda: plant(one), "planted")
    result = run_scenario(one, parse_scenario(TEXT), settle=False)
    assert [step.verdict for step in result.steps] == ["passed"] * 3
    assert result.verdict == "failed"
    assert {violation.invariant for violation in result.violations} == {invariant}
    assert result.violations[0].at_s >= PLANTED_AFTER_S


def test_the_same_run_without_a_violation_passes(lab: Callable[[str], Any]) -> None:
    result = run_scenario(lab(TEXT), parse_scenario(TEXT), settle=False)
    assert (result.verdict, result.violations) == ("passed", ())
