"""Every shipped scenario passes on simulated machines, with more than one interleaving, and with late watches too."""

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


def must_pass(path: Path, folder: Path, seed: str) -> None:
    result, failures = run(path, folder, seed)
    problems = [f"{step.title}: {step.message}\n{step.page}" for step in result.steps if step.message]
    problems += [f"{violation.invariant}: {violation.message}" for violation in result.violations]
    assert result.verdict is Verdict.PASSED, "\n".join(problems)
    assert failures == []
    judgement = judge(folder / "run")
    assert (judgement.verdict, judgement.problems) == ("passed", ()), "the history leads to what is there"


@pytest.mark.parametrize("seed", ["1", "2", "3"])
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_passes(path: Path, seed: str, tmp_path: Path) -> None:
    must_pass(path, tmp_path, seed)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_passes_while_the_components_watches_overtake_each_other(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text.count("\n  steps:\n") == 1
    fault = "    - hubFault: {fault: reorder, by: 5s, program: labsim/*}\n"
    reordered = tmp_path / path.name
    reordered.write_text(text.replace("\n  steps:\n", f"\n  steps:\n{fault}"))
    must_pass(reordered, tmp_path, "1")
