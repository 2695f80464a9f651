"""The state of a lab that stays open, on a disk: where it is kept, and what an earlier process left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labsim.durable_log import DurableLog
from labsim.edge_time import real_s
from labsim.lab.folder import STATE
from labsim.world.durability import Durability, KeptState, read_state


class LabState:
    """The log of one lab: new, or read again (`kept`)."""

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        """Raises LogFailed where there is no log to go on from."""
        self.path = folder / STATE
        self.kept: KeptState | None = None
        self._log: DurableLog | None = None
        self._durability: Durability | None = None
        if again:
            self._log, self.kept = read_state(self.path)

    @property
    def began_s(self) -> float:
        """When in-world time and this host's were the same."""
        return real_s() if self.kept is None else float(self.kept.facts["began_s"])

    @property
    def serving(self) -> dict[str, Any] | None:
        """Who the hub was."""
        return None if self.kept is None else self.kept.facts["serving"]

    def durability(self, serving: dict[str, Any], began_s: float) -> Durability:
        """What keeps a world, from `begin` on."""
        self._durability = Durability(self.path, {"serving": serving, "began_s": began_s})
        return self._durability

    def begin(self) -> None:
        """Everything is made, or as it was: it is kept from now on."""
        assert self._durability is not None
        if self._log is not None and self.kept is not None:
            self._durability.go_on(self._log, self.kept.starts + 1)
        else:
            self._durability.begin()

    def close(self) -> None:
        """Let go of the log."""
        if self._durability is not None:
            self._durability.close()
        elif self._log is not None:
            self._log.close()
