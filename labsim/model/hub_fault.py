"""The step of a scenario that lets the hub go wrong towards some of its clients."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from labsim.model.scenario_parts import Duration, Part

CLEAR = "clear"
_GOES_WITH: dict[str, tuple[str, ...]] = {
    "by": ("delay", "reorder"),
    "how": ("cut", "lose-answer"),
    "count": ("lose-answer", "lose-write"),
    "dataLoss": ("lose-write",),
}
_HOW = {"cut": ("end", "reset", "expired"), "lose-answer": ("reset", "timeout")}


class HubFaultStep(Part):
    """A fault of the hub towards some of its clients, which stays until a step clears it, or the lab ends."""

    fault: Literal["delay", "reorder", "freeze", "cut", "lose-answer", "lose-write", "clear"]
    program: str = ""
    """Whom it meets: a pattern of the user agent; a simulated component is `labsim/<component>`."""
    user: str = ""
    connection: str = ""
    kind: str = ""
    """Only of this kind, as kubectl takes it."""
    by: Duration | None = None
    """How late, of delay; the most that anything is late, of reorder."""
    how: Literal["end", "reset", "expired", "timeout"] | None = None
    count: int | None = Field(default=None, ge=1)
    data_loss: bool | None = Field(default=None, alias="dataLoss")
    """Needed by lose-write, which no cluster does that has not lost data."""

    @model_validator(mode="after")
    def _fits(self) -> HubFaultStep:
        given = {"by": self.by, "how": self.how, "count": self.count, "dataLoss": self.data_loss}
        for field, faults in _GOES_WITH.items():
            if given[field] is not None and self.fault not in faults:
                raise ValueError(f"{field} goes with {' and '.join(faults)}, not with {self.fault}")
        if self.how is not None and self.how not in _HOW[self.fault]:
            raise ValueError(f"how of {self.fault} is one of {', '.join(_HOW[self.fault])}")
        if self.by is None and self.fault in _GOES_WITH["by"]:
            raise ValueError(f"{self.fault} needs by")
        if self.fault == "lose-write" and not self.data_loss:
            raise ValueError("lose-write needs dataLoss: true, because no sound cluster does it")
        if bool(self.program or self.user or self.connection) == (self.fault == CLEAR):
            met = "meets nobody" if self.fault == CLEAR else "needs at least one of program, user, connection"
            raise ValueError(f"{self.fault} {met}")
        return self

    def command(self) -> dict[str, Any]:
        """The same as a command of labsim.lab.hub_faults."""
        return {
            "fault": self.fault,
            "who": {"program": self.program, "user": self.user, "connection": self.connection, "kind": self.kind},
            "seconds": self.by,
            "how": self.how,
            "count": self.count,
            "dataLoss": self.data_loss,
        }

    def __str__(self) -> str:
        who = [self.program, self.user, self.connection]
        return " ".join(["hub fault", self.fault, *(f"of {word}" for word in who if word), self.kind]).rstrip()
