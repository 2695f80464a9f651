"""What a run, a step or an invariant came to."""

from __future__ import annotations

import dataclasses
import enum

from labsim.errors import ExitCode


class Verdict(enum.StrEnum):
    """Inconclusive is never passed: something that the verdict depends on was not seen."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"


EXIT_CODES = {
    Verdict.PASSED: ExitCode.PASSED,
    Verdict.FAILED: ExitCode.CHECK_FAILED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    Verdict.SKIPPED: ExitCode.NOTHING_SELECTED,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One step of a run. Times are in-world seconds since the run's start; `page` explains a failure in full."""

    index: int
    title: str
    verdict: Verdict
    started_s: float
    ended_s: float
    message: str = ""
    page: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that did not hold, where and when."""

    invariant: str
    message: str
    at_s: float
    line: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A whole run: its verdict follows from its steps and its violations."""

    scenario: str
    seed: str
    machines: str
    steps: tuple[StepResult, ...]
    violations: tuple[Violation, ...]
    duration_s: float
    gaps: int = 0  # how often changes of a hub outside the process were not seen

    @property
    def verdict(self) -> Verdict:
        if self.violations or any(step.verdict is Verdict.FAILED for step in self.steps):
            return Verdict.FAILED
        if self.gaps or any(step.verdict is Verdict.INCONCLUSIVE for step in self.steps):
            return Verdict.INCONCLUSIVE
        return Verdict.PASSED if self.steps else Verdict.SKIPPED
