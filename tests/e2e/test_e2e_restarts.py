"""A lab that is killed and restarted again and again passes its scenarios as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mortal_lab import MortalLab

from labsim.entropy import Entropy
from labsim.model.scenario import load_scenario
from labsim.scenario.invariants import Event
from labsim.scenario.runner import run_scenario
from labsim.scenario.verdicts import Verdict

SCENARIOS = Path(__file__).parents[2] / "scenarios"
NAMES = ("scale-down-and-reuse", "scale-down-and-reclaim", "two-hosted-clusters-one-pool")
DEATHS = 12
EVENTS = 5500  # that each of these scenarios has at least


@pytest.mark.parametrize("seed", ["1", "2"])
@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_passes_over_deaths(name: str, seed: str, tmp_path: Path) -> None:
    scenario = load_scenario(SCENARIOS / f"{name}.yaml")
    entropy = Entropy(seed)
    lab = MortalLab(
        scenario, tmp_path, seed, [entropy.integer(f"{name}/{number}", 50, EVENTS) for number in range(DEATHS)]
    )
    agents: dict[str, set[str]] = {}

    def saw(event: Event) -> None:
        if event.kind == "Agent":
            agents.setdefault(event.obj["metadata"]["name"], set()).add(event.obj["metadata"]["uid"])

    lab.on_write(saw)
    subject: Any = lab
    result = run_scenario(subject, scenario)
    problems = [f"{step.title}: {step.message}\n{step.page}" for step in result.steps if step.message]
    problems += [f"{violation.invariant}: {violation.message}" for violation in result.violations]
    assert result.verdict is Verdict.PASSED, "\n".join(problems)
    assert lab.died == DEATHS
    assert lab.failures + lab.lab.world.engine.failures == []
    assert [len(uids) for uids in agents.values()] == [1] * len(scenario.spec.lab.machines[0].machine_names())
