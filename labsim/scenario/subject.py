"""A lab as a scenario sees it: with a memory of its agents, and with every write told to the invariants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.kube.store import Revision
from labsim.lab.lab import Lab
from labsim.model.kinds import AGENT, AGENT_MACHINE
from labsim.model.objects import Object, dig, name_of, namespace_of
from labsim.scenario.invariants import INVARIANT_KINDS, Event
from labsim.scenario.tracking import AgentHistory


class ScenarioLab:
    """Adds to a lab what steps and invariants need; everything else is the lab's own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.agent_history = AgentHistory()
        self._listeners: list[Callable[[Event], None]] = []
        lab.on_revision(self._saw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lab, name)

    def on_write(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    @property
    def is_time_virtual(self) -> bool:
        return self.lab.world.pace.is_virtual

    @property
    def gaps(self) -> int:
        return self.lab.world.gaps

    def on_history_line(self, listener: Callable[[dict[str, Any]], None], *line_types: str) -> None:
        self.lab.world.history.listen(listener, *line_types)

    def note_input(self, what: str, index: int) -> None:
        self.lab.world.history.record("input", step=index, what=what)
        self.lab.world.engine.acting = "scenario"

    def line_number(self) -> int:
        return self.lab.world.history.count

    def agent_of_machine_object(self, machine: Object) -> str:
        """The name of the Agent that a CAPI Machine has claimed; "" where it has none."""
        agent_machine = self.lab.hub.get(AGENT_MACHINE, namespace_of(machine), name_of(machine))
        return "" if agent_machine is None else str(dig(agent_machine, "status", "agentRef", "name", default=""))

    def _saw(self, revision: Revision) -> None:
        kind = revision.kind.kind
        if kind not in INVARIANT_KINDS:
            return
        obj = revision.object
        at_s = self.lab.world.now()
        if revision.kind == AGENT:
            if str(revision.type) == "DELETED":
                self.agent_history.gone(revision.name)
            else:
                self.agent_history.saw(obj, at_s)
        event = Event(event=str(revision.type), kind=kind, obj=obj, at_s=at_s)
        for listener in self._listeners:
            listener(event)
