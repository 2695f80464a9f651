"""The faults of a machine, and the steps of a scenario that bring one and mend it."""

from __future__ import annotations

import enum
from typing import Any, Literal

from pydantic import Field, model_validator

from labsim.model.machine_steps import Machines
from labsim.model.quantities import format_duration
from labsim.model.scenario_parts import Duration, Part


class MachineFault(enum.StrEnum):
    """What goes wrong with a machine, or between it and what it wants to reach."""

    POWER_CUT = "power-cut"
    CABLE_OUT = "cable-out"
    MEDIA_OUT = "media-out"
    BLOCKED = "blocked"
    CLOCK_SKEW = "clock-skew"
    DISK_FAILING = "disk-failing"


# What a machine asks for over the network, by the names of the fabric's endpoints.
Service = Literal["assisted-service", "assisted-image-service", "ignition-server", "kube-apiserver", "konnectivity"]
_GOES_WITH = {
    "service": MachineFault.BLOCKED,
    "port": MachineFault.BLOCKED,
    "name": MachineFault.BLOCKED,
    "ahead": MachineFault.CLOCK_SKEW,
    "behind": MachineFault.CLOCK_SKEW,
    "full": MachineFault.DISK_FAILING,
}


class FaultDetails(Part):
    """A fault, and what belongs to it."""

    what: Literal["power-cut", "cable-out", "media-out", "blocked", "clock-skew", "disk-failing"]
    service: Service | None = None
    """Of blocked: what the machine does not reach, wherever it is published."""
    port: int | None = Field(default=None, ge=1, le=65_535)
    """Of blocked: a port that the machine does not reach, on any host."""
    name: str | None = None
    """Of blocked: a name that the machine is told no address of."""
    ahead: Duration | None = None
    """Of clock-skew: how much later it is on the machine than it is."""
    behind: Duration | None = None
    """Of clock-skew: how much earlier."""
    full: bool | None = None
    """Of disk-failing: there is no space left, instead of errors of the device."""

    @model_validator(mode="after")
    def _fits(self) -> FaultDetails:
        given = [field for field in _GOES_WITH if getattr(self, field) is not None]
        for field in given:
            if self.fault is not _GOES_WITH[field]:
                raise ValueError(f"{field} goes with {_GOES_WITH[field]}, not with {self.what}")
        if self.fault is MachineFault.BLOCKED and len(given) != 1:
            raise ValueError("blocked needs exactly one of service, port, name")
        if self.fault is MachineFault.CLOCK_SKEW and len(given) != 1:
            raise ValueError("clock-skew needs either ahead or behind")
        return self

    @property
    def fault(self) -> MachineFault:
        return MachineFault(self.what)

    @property
    def skew_s(self) -> float:
        """What a skewed clock adds to the time."""
        return (self.ahead or 0.0) - (self.behind or 0.0)

    @property
    def place(self) -> str | int:
        """What is blocked."""
        return self.service or self.port or self.name or ""

    def particulars(self) -> str:
        """What belongs to the fault, for a person."""
        if self.fault is MachineFault.CLOCK_SKEW:
            return f"{format_duration(abs(self.skew_s))} {'ahead' if self.ahead is not None else 'behind'}"
        if self.fault is MachineFault.DISK_FAILING:
            return "no space left" if self.full else "input/output errors"
        if self.fault is not MachineFault.BLOCKED:
            return ""
        return f"port {self.port}" if self.port is not None else str(self.place)

    def __str__(self) -> str:
        return f"{self.what} {self.particulars()}".rstrip()


class FaultStep(FaultDetails):
    """A fault of machines, which stays until a step mends it, or the run ends."""

    machines: Machines


class MendStep(Part):
    """The end of faults of machines: what was taken away comes back."""

    machines: Machines
    what: Literal["power-cut", "cable-out", "media-out", "blocked", "clock-skew", "disk-failing"] | None = None
    """All faults, where it is left out."""


def fault_of(document: dict[str, Any]) -> FaultDetails:
    """The fault of a command. Raises pydantic's ValidationError."""
    return FaultDetails.model_validate(document)
