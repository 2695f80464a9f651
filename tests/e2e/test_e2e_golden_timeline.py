"""The documentation's story, instant by instant, as checked in: each line cites the fact sheet that it follows.

After a change that is meant to change the story:
    .venv/bin/pytest tests/e2e/test_e2e_golden_timeline.py --labsim-update-golden
and read the difference: every changed line has to agree with the sheet that it names.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from golden.citations import CITATIONS, EVENTS, INPUTS
from golden.timeline import hosts_of, timeline, told_events

from labsim.controllers.cim.instructions import Instructions
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import open_lab
from labsim.model.kinds import INFRA_ENV
from labsim.model.scenario import load_scenario
from labsim.scenario.runner import run_scenario
from labsim.scenario.subject import ScenarioLab
from labsim.scenario.verdicts import Verdict

SCENARIOS = Path(__file__).parents[2] / "scenarios"
GOLDEN = Path(__file__).parent / "golden"
SHEETS = ("host-lifecycle", "cim-resources", "capi-agent-provider", "hypershift-agent", "product-procedure")


@dataclass(frozen=True)
class Story:
    """What a run told: its history, with the answers to polls in it, and the service's events."""

    lines: list[dict[str, Any]]
    events: list[dict[str, Any]]
    start_s: float

    @property
    def told(self) -> list[str]:
        return timeline(self.lines)

    def states(self, agent: str) -> list[str]:
        """The states of an Agent in the order in which they were shown, by its hostname."""
        moves = (re.search(rf"Agent {agent} +state (?:\S+) -> (\S+)", line) for line in self.told)
        return [move[1] for move in moves if move]


def run_story(name: str, folder: Path) -> Story:
    """Run a shipped scenario with simulated machines, seed 1, in virtual time."""
    scenario = load_scenario(SCENARIOS / f"{name}.yaml")
    answer = Instructions.answer
    with (folder / "history.jsonl").open("w+b") as history, pytest.MonkeyPatch.context() as patch:
        opened = open_lab(scenario.spec.lab, LabRequest(name=name, folder=folder, history=history))
        lab: Any = opened.lab
        start_s = lab.now()

        def noted(self: Instructions, host: Any) -> dict[str, Any]:
            """The history names each request; what a poll was told is added here."""
            told = answer(self, host)
            steps = [step["step_type"] for step in told["instructions"] or ()]
            next_s, action = told.get("next_instruction_seconds", 0), told["post_step_action"]
            lab.world.history.record(
                "poll", host=host.id, status=host.status, steps=steps, next_s=next_s, action=action
            )
            return told

        patch.setattr(Instructions, "answer", noted)
        try:
            subject: Any = ScenarioLab(lab)
            lab.make()
            result = run_scenario(subject, scenario)
            assert result.verdict is Verdict.PASSED, [step.page for step in result.steps if step.message]
            lab.world.history.flush()
            history.seek(0)
            lines = [orjson.loads(line) for line in history]
            history.seek(0, 2)
            [infra_env] = lab.world.hub.list(INFRA_ENV)[0]
            events = orjson.loads(lab.fetch(infra_env["status"]["debugInfo"]["eventsURL"]).body)
        finally:
            opened.close()
    return Story(lines, events, start_s)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return run_story("scale-down-and-reuse", tmp_path_factory.mktemp("story"))


def compare(name: str, told: list[str], config: pytest.Config) -> None:
    path = GOLDEN / name
    if config.getoption("--labsim-update-golden", default=False):
        path.write_text("\n".join(told) + "\n")
        return
    before = path.read_text().splitlines()
    difference = "\n".join(difflib.unified_diff(before, told, "checked in", "this run", lineterm="", n=1))
    assert told == before, f"the story of {path.name} has changed:\n{difference[:20000]}"


def test_the_story_is_the_checked_in_one(story: Story, pytestconfig: pytest.Config) -> None:
    compare("scale-down-and-reuse.txt", story.told, pytestconfig)


def test_the_services_events_are_the_checked_in_ones(story: Story, pytestconfig: pytest.Config) -> None:
    told = told_events(story.events, hosts_of(story.lines), story.start_s)
    compare("scale-down-and-reuse.events.txt", told, pytestconfig)


def test_every_kind_of_line_cites_a_section_of_a_sheet() -> None:
    for kind, citation in {**CITATIONS, **EVENTS}.items():
        assert citation.startswith(SHEETS), kind
        if not citation.startswith("product-procedure"):
            assert re.search(r" \d", citation), f"{kind} names no section"
    assert set(INPUTS.values()) <= set(CITATIONS)


def test_every_line_carries_its_citation(story: Story) -> None:
    assert len(story.told) > 500
    for line in story.told:
        assert re.search(rf"\[({'|'.join(SHEETS)})[ ,][^\]]+\]$", line), line


DISCOVERED = ["discovering-unbound", "known-unbound"]
INSTALLED = [
    "binding",
    "discovering",
    "insufficient",
    "known",
    "installing",
    "installing-in-progress",
    "added-to-existing-cluster",
]


def released_agent(story: Story) -> str:
    """The hostname of the Agent that left its cluster."""
    for line in story.told:
        found = re.search(r"Agent (\S+) +clusterDeploymentName cleared", line)
        if found:
            return found[1]
    raise AssertionError("no Agent has left its cluster")


def test_a_released_agent_waits_for_its_user_and_is_used_again(story: Story) -> None:
    """host-lifecycle 7, the happy path of status events, and 1.5."""
    waiting = ["unbinding-pending-user-action"]
    wanted = [*DISCOVERED, *INSTALLED, *waiting, *DISCOVERED, *INSTALLED]
    agent = released_agent(story)
    assert without_flash(story.states(agent)) == wanted
    events = told_events(story.events, hosts_of(story.lines), story.start_s)
    told = [re.search(rf"Host {agent}: updated status from \S+ to (\S+)", line) for line in events]
    assert without_flash([move[1] for move in told if move]) == wanted[1:]


def without_flash(states: list[str]) -> list[str]:
    """The states without the one that a host may show after a long silence, between registering and its first poll
    (host-lifecycle 1.4: registering is no check-in)."""
    seen: list[str] = []
    for state in states:
        shown = "discovering-unbound" if state == "disconnected-unbound" else state
        if not seen or seen[-1] != shown:
            seen.append(shown)
    return seen


def test_a_reclaimed_agent_comes_back_by_itself(tmp_path: Path) -> None:
    """host-lifecycle 1.5 and 7: no ISO and no human on the way."""
    story = run_story("scale-down-and-reclaim", tmp_path)
    agent = released_agent(story)
    reclaimed = ["reclaiming", "reclaiming-rebooting"]
    assert story.states(agent) == [*DISCOVERED, *INSTALLED, *reclaimed, *DISCOVERED, *INSTALLED]
    told = story.told
    rebooting = next(i for i, line in enumerate(told) if "reclaiming -> reclaiming-rebooting" in line)
    back = next(i for i, line in enumerate(told) if "reclaiming-rebooting -> discovering-unbound" in line)
    between = "\n".join(told[rebooting:back])
    assert "reboot-for-reclaim; next 120 s, exit" in between
    assert f"machine {agent}" in between
    assert "boot discovery-disk" in between
    assert re.search(rf"Node {agent} +gone", between), "the Node goes before the Agent shows that it is free"
    bound = [line for line in told if f"Agent {agent}" in line and " Bound " in line]
    assert not any("reclaim" in line or "Unbinding" in line for line in bound), (
        "while reclaimed, it still counts as bound"
    )
