"""How a lab is to be opened, beside what its file says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import IO

from labsim.lab.folder import LEDGER
from labsim.lab.hub_choice import OUR_OWN, HubChoice
from labsim.lab.lab_state import LabState
from labsim.lab.sizes import Sizes


def silent(text: str) -> None:
    """Nobody listens."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabRequest:
    """What whoever opens a lab chooses.

    folder: for ISOs, volumes and consoles; the ledger is in it where no other place is given. machines: `simulated` or
    `libvirt`. speed: in-world seconds in a real one; 0 is virtual time, or the default of what cannot have it.
    connect: the hypervisor's URI, "" for the user's own session. port: of the hub, 0 for any that is free.
    history: where its lines go, with the objects' contents or only their digests. talk: told what is being done.
    state: keeps the lab's state on a disk.
    """

    name: str
    folder: Path
    ledger_path: Path | None = None
    machines: str = "simulated"
    sizes: Sizes = Sizes()  # noqa: RUF009  (frozen)
    seed: str = "1"
    speed: float = 0.0
    connect: str = ""
    port: int = 0
    history: IO[bytes] | None = None
    history_contents: bool = True
    talk: Callable[[str], None] = silent
    hub: HubChoice = OUR_OWN
    state: LabState | None = None

    @property
    def ledger(self) -> Path:
        return self.ledger_path or self.folder / LEDGER

    def at_speed(self, default: float) -> LabRequest:
        """The same in paced time: at the speed that was asked for, or at a default one."""
        return self if self.speed else dataclasses.replace(self, speed=default)
