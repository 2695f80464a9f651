"""What steps of one machine share, and what a step results in."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from typing import Any

from labsim.guest import json_text
from labsim.guest.effects import Log, Task
from labsim.guest.settings import GuestSettings


@dataclasses.dataclass(frozen=True, slots=True)
class StepResult:
    """The reply of a step. `output` is text (mostly JSON); `ends_runner` lets the step runner end after it."""

    output: str = ""
    exit_code: int = 0
    error: str = ""
    ends_runner: bool = False


@dataclasses.dataclass(slots=True)
class StepContext:
    """One boot of one host, as its steps see it; outlives the step runners that come and go."""

    settings: GuestSettings
    host_id: str
    infra_env_id: str
    media: str = "discovery-iso"  # Boot.source; "disk" in the pod that reclaims a node
    installer: Any = None  # handle of the running installer, None while there is none
    journal: deque[str] = dataclasses.field(default_factory=lambda: deque(maxlen=200))
    inventory_version: int | None = None  # SystemVersion that `inventory_output` was read at
    inventory_output: str = ""

    def log(self, text: str, unit: str) -> Task[None]:
        """A line of the journal that logs-gather sends later."""
        self.journal.append(f"{unit}: {text}")
        yield Log(text, unit)


def json_argument(arguments: list[str]) -> Any:
    """The first argument as JSON; raises ValueError with a text for the reply."""
    if not arguments:
        raise ValueError("the step needs an argument and has none")
    return json_text.read(arguments[0])


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def json_output(document: Any) -> str:
    return _ENCODER.encode(document)
