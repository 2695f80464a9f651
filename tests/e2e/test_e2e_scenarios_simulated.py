"""Every shipped scenario passes on simulated machines, with more than one interleaving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import open_lab
from labsim.model.scenario import load_scenario
from labsim.report.resources import resource_lines
from labsim.report.run_directory import RunDirectory, judge
from labsim.scenario.runner import run_scenario
from labsim.scenario.subject import ScenarioLab
from labsim.scenario.verdicts import RunResult, Verdict

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").rglob("*.yaml"))


def run(path: Path, folder: Path, seed: str) -> tuple[RunResult, list[Any]]:
    scenario = load_scenario(path)
    directory = RunDirectory(folder / "run")
    with (
        directory.open_history() as history,
        open_lab(
            scenario.spec.lab,
            LabRequest(name=scenario.metadata.name, folder=folder, seed=seed, history=history.buffered),
        ) as opened,
    ):
        subject: Any = ScenarioLab(opened.lab)
        opened.lab.make()
        result = run_scenario(subject, scenario)
        directory.write_resources(resource_lines(opened.lab.world))
        directory.write_result(result)
        failures = opened.lab.world.engine.failures
    return result, failures


@pytest.mark.parametrize("seed", ["1", "2", "3"])
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_passes(path: Path, seed: str, tmp_path: Path) -> None:
    result, failures = run(path, tmp_path, seed)
    problems = [f"{step.title}: {step.message}\n{step.page}" for step in result.steps if step.message]
    problems += [f"{violation.invariant}: {violation.message}" for violation in result.violations]
    assert result.verdict is Verdict.PASSED, "\n".join(problems)
    assert failures == []
    judgement = judge(tmp_path / "run")
    assert (judgement.verdict, judgement.problems) == ("passed", ()), "the history leads to what is there"
