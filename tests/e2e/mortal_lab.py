"""A lab in virtual time that is killed at chosen events, and goes on from its log as a new process would."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labsim.clock import VIRTUAL_EPOCH_S
from labsim.kube.store import Revision
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.lab_request import LabRequest
from labsim.model.scenario import Scenario
from labsim.scenario.subject import ScenarioLab
from labsim.world.durability import Durability, read_state

EVENTS_PER_SYNC = 20


class MortalLab(ScenarioLab):
    """The lab of a scenario; `deaths` are the numbers of executed events at which its process is killed."""

    def __init__(self, scenario: Scenario, folder: Path, seed: str, deaths: list[int]) -> None:
        self._spec = scenario.spec.lab
        self._folder = folder
        self._options = LabOptions.of(LabRequest(name=scenario.metadata.name, folder=folder, seed=seed))
        self._log = folder / "state.log"
        self._deaths = sorted(deaths)
        self._lived = 0  # events of the processes before
        self._line_listeners: list[tuple[Callable[[dict[str, Any]], None], tuple[str, ...]]] = []
        self._durability = Durability(self._log, {})
        self.died = 0
        self.failures: list[tuple[str, str]] = []
        super().__init__(Lab(self._spec, dataclasses.replace(self._options, durability=self._durability)))
        self.lab.make()
        self._durability.begin()

    @property
    def started_s(self) -> float:
        return VIRTUAL_EPOCH_S

    def on_history_line(self, listener: Callable[[dict[str, Any]], None], *line_types: str) -> None:
        self._line_listeners.append((listener, line_types))
        super().on_history_line(listener, *line_types)

    @property
    def events(self) -> int:
        """How many events all processes together have carried out."""
        return self._lived + self.lab.world.queue.executed

    def run_until(self, done: Callable[[], bool], deadline_s: float) -> bool:
        while True:
            self._durability.keep_now()  # what a step has done, and what it has seen, is acknowledged
            if done():
                return True
            due = min([self.events + EVENTS_PER_SYNC, *self._deaths[:1]])
            if not self.lab.run_until(functools.partial(self._has_come, due), deadline_s):
                return done()
            if self._deaths and self.events >= self._deaths[0]:
                self._deaths.pop(0)
                self._die()

    def _has_come(self, due: int) -> bool:
        return self.events >= due

    def _saw(self, revision: Revision) -> None:
        """What is lost has never been seen."""
        self._durability.tell(lambda: super(MortalLab, self)._saw(revision))

    def _die(self) -> None:
        """What has not been kept is lost; everything else stands in the log."""
        self.died += 1
        self.failures += self.lab.world.engine.failures
        self._lived += self.lab.world.queue.executed
        self._durability.close()
        log, kept = read_state(self._log)
        self._durability = Durability(self._log, kept.facts)
        options = dataclasses.replace(self._options, durability=self._durability, kept=kept, start_s=kept.now_s)
        self.lab = Lab(self._spec, options)
        self.lab.on_revision(self._saw)
        for listener, line_types in self._line_listeners:
            self.lab.world.history.listen(listener, *line_types)
        self.lab.resume()
        self._durability.go_on(log, kept.starts + 1)
