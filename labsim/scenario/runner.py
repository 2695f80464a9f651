"""Runs a scenario on a lab: its steps in order, its invariants all the time, and one verdict at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from labsim.errors import CheckFailed
from labsim.model.objects import Object
from labsim.model.scenario import Scenario
from labsim.scenario.invariants import INVARIANT_KINDS, Event, Invariant, standard_invariants
from labsim.scenario.steps import Lab, carry_out, title_of
from labsim.scenario.verdicts import RunResult, StepResult, Verdict, Violation


class RunningLab(Lab, Protocol):
    """A lab that tells of every write of its hub, and takes notes of what a scenario does to it."""

    seed: str
    machines_kind: str

    def on_write(self, listener: Callable[[Event], None]) -> None: ...
    def note_input(self, what: str, index: int) -> None: ...
    def line_number(self) -> int: ...
    def is_machine_stopped(self, agent: str) -> bool: ...
    def agent_of_machine_object(self, machine: Object) -> str: ...


class Progress(Protocol):
    """Who is told how a run goes."""

    def step_started(self, index: int, total: int, title: str) -> None: ...
    def step_progress(self, text: str) -> None: ...
    def step_ended(self, result: StepResult) -> None: ...


class Silent:
    """Nobody is told."""

    def step_started(self, index: int, total: int, title: str) -> None: ...
    def step_progress(self, text: str) -> None: ...
    def step_ended(self, result: StepResult) -> None: ...


class InvariantWatch:
    """Holds a run to its invariants: every write is shown to each of them."""

    def __init__(self, lab: RunningLab, invariants: list[Invariant] | None = None) -> None:
        self._lab = lab
        self.violations: list[Violation] = []
        self._invariants = invariants or standard_invariants(
            machine_excused=lambda machine: lab.is_machine_stopped(lab.agent_of_machine_object(machine)),
            agent_excused=lab.is_machine_stopped,
        )
        lab.on_write(self._saw)

    def _saw(self, event: Event) -> None:
        if event.kind not in INVARIANT_KINDS:
            return
        for invariant in self._invariants:
            for message in invariant.saw(event):
                self._broken(invariant.name, message)

    def finish(self) -> None:
        """Ask the liveness invariants at the end of the run."""
        for invariant in self._invariants:
            for message in invariant.finish(self._lab.now()):
                self._broken(invariant.name, message)

    def _broken(self, name: str, message: str) -> None:
        self.violations.append(
            Violation(
                invariant=name,
                message=message,
                at_s=self._lab.now() - self._lab.started_s,
                line=self._lab.line_number(),
            )
        )


def run_scenario(lab: RunningLab, scenario: Scenario, progress: Progress | None = None) -> RunResult:
    """Run every step until one fails; the steps after it are skipped."""
    tell = progress or Silent()
    watch = InvariantWatch(lab)
    results: list[StepResult] = []
    steps = scenario.spec.steps
    failed = False
    for index, step in enumerate(steps):
        title = title_of(step)
        started_s = lab.now() - lab.started_s
        if failed:
            results.append(_skipped(index, title, started_s))
            continue
        tell.step_started(index, len(steps), title)
        lab.note_input(title, index)
        verdict, message, page = Verdict.PASSED, "", ""
        try:
            carry_out(lab, step, tell.step_progress)
        except CheckFailed as error:
            verdict, message, page = Verdict.FAILED, error.message, error.hint
            failed = True
        result = StepResult(
            index=index,
            title=title,
            verdict=verdict,
            started_s=started_s,
            ended_s=lab.now() - lab.started_s,
            message=message,
            page=page,
        )
        results.append(result)
        tell.step_ended(result)
    watch.finish()
    return RunResult(
        scenario=scenario.metadata.name,
        seed=lab.seed,
        machines=lab.machines_kind,
        steps=tuple(results),
        violations=tuple(watch.violations),
        duration_s=lab.now() - lab.started_s,
    )


def _skipped(index: int, title: str, at_s: float) -> StepResult:
    return StepResult(index=index, title=title, verdict=Verdict.SKIPPED, started_s=at_s, ended_s=at_s)
