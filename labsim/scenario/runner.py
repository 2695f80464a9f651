"""Runs a scenario on a lab: its steps in order, its invariants all the time, and one verdict at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from labsim.errors import CheckFailed
from labsim.model.objects import Object
from labsim.model.scenario import Scenario
from labsim.scenario.invariants import INVARIANT_KINDS, Event, Invariant, standard_invariants
from labsim.scenario.steps import Lab, carry_out, title_of
from labsim.scenario.verdicts import RunResult, StepResult, Verdict, Violation

# How long a lab may take to settle after the last step, and how long it must then be quiet, in in-world seconds: longer
# than the longest interval at which anything looks again (full scans each 5 minutes, requeues each minute).
SETTLES_WITHIN_S = 900.0
QUIET_FOR_S = 400.0


class RunningLab(Lab, Protocol):
    """A lab that tells of every write of its hub, and takes notes of what a scenario does to it."""

    seed: str
    machines_kind: str
    is_time_virtual: bool
    gaps: int

    def on_write(self, listener: Callable[[Event], None]) -> None: ...
    def on_history_line(self, listener: Callable[[dict[str, Any]], None], *line_types: str) -> None: ...
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
        self._interested = {
            kind: [invariant for invariant in self._invariants if kind in invariant.kinds] for kind in INVARIANT_KINDS
        }
        self._quiet_writes: Counter[str] | None = None
        lab.on_write(self._saw)

    def _saw(self, event: Event) -> None:
        for invariant in self._interested.get(event.kind, ()):
            for message in invariant.saw(event):
                self._broken(invariant.name, message)

    def finish(self) -> None:
        """Ask the liveness invariants at the end of the run."""
        for invariant in self._invariants:
            for message in invariant.finish(self._lab.now()):
                self._broken(invariant.name, message)

    def settle(self) -> None:
        """Quiescence: a lab that nobody touches stops writing, Leases, Events and a kubelet's own Node apart."""
        self._lab.run_until(lambda: False, self._lab.now() + SETTLES_WITHIN_S)
        writes: Counter[str] = Counter()
        self._quiet_writes = writes
        self._lab.on_history_line(self._wrote, "write")
        self._lab.run_until(lambda: False, self._lab.now() + QUIET_FOR_S)
        self._quiet_writes = None
        for what, count in sorted(writes.items()):
            self._broken("settled-lab-stops-writing", f"{what} was written {count} time(s) in {QUIET_FOR_S:.0f} s")

    def _wrote(self, line: dict[str, Any]) -> None:
        if self._quiet_writes is None or line["kind"] in ("Lease", "Event"):
            return
        is_heartbeat = line["kind"] == "Node" and line["actor"] in self._lab.machine_names()
        if not is_heartbeat:
            place = "/".join(part for part in (line["namespace"], line["name"]) if part)
            self._quiet_writes[f"{line['kind']} {place} by {line['actor']}"] += 1

    def _broken(self, name: str, message: str) -> None:
        self.violations.append(
            Violation(
                invariant=name,
                message=message,
                at_s=self._lab.now() - self._lab.started_s,
                line=self._lab.line_number(),
            )
        )


def run_scenario(
    lab: RunningLab, scenario: Scenario, progress: Progress | None = None, *, settle: bool = True
) -> RunResult:
    """Run every step until one fails; the steps after it are skipped. `settle`: then see that the lab comes to rest."""
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
    if settle and steps and not failed and lab.is_time_virtual:
        watch.settle()
    lab.faults.mend(lab.faults.present())
    ended_s = lab.now() - lab.started_s
    return RunResult(
        scenario=scenario.metadata.name,
        seed=lab.seed,
        machines=lab.machines_kind,
        steps=tuple(results),
        violations=tuple(watch.violations),
        duration_s=ended_s,
        gaps=lab.gaps,
    )


def _skipped(index: int, title: str, at_s: float) -> StepResult:
    return StepResult(index=index, title=title, verdict=Verdict.SKIPPED, started_s=at_s, ended_s=at_s)
