"""How a run shows its progress to a person: a line per step, and the last thing seen while a step waits."""

from __future__ import annotations

import sys
from typing import TextIO

from labsim.edge_time import monotonic_s
from labsim.model.quantities import format_duration
from labsim.scenario.verdicts import StepResult, Verdict

MARKS = {Verdict.PASSED: "ok", Verdict.FAILED: "FAILED", Verdict.INCONCLUSIVE: "??", Verdict.SKIPPED: "skipped"}
REDRAW_EVERY_S = 0.1


class TerminalProgress:
    """Writes to stderr. On a terminal the line of the running step is rewritten in place."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._line = ""
        self._drawn_s = 0.0

    def talk(self, text: str) -> None:
        """A line about what labsim is doing."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def step_started(self, index: int, total: int, title: str) -> None:
        self._line = f"{index + 1:>3}/{total} {title}"
        if self._live:
            self._draw(self._line)

    def step_progress(self, text: str) -> None:
        if self._live and monotonic_s() - self._drawn_s > REDRAW_EVERY_S:
            self._draw(f"{self._line}  [{text}]")

    def step_ended(self, result: StepResult) -> None:
        if self._live:
            self._stream.write("\r\x1b[2K")
        took = format_duration(result.ended_s - result.started_s)
        self._stream.write(f"{self._line}  {MARKS[result.verdict]} ({took})\n")
        if result.verdict is Verdict.FAILED:
            page = "\n".join(f"      {line}".rstrip() for line in (result.page or "").splitlines())
            self._stream.write(f"      {result.message}\n" + (f"\n{page}\n" if page else ""))
        self._stream.flush()

    def _draw(self, text: str) -> None:
        self._drawn_s = monotonic_s()
        self._stream.write("\r\x1b[2K" + text[:158])
        self._stream.flush()
