"""The steps of a scenario that do something to machines themselves, and whom steps mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from labsim.model.machine_group import Disk, Nic, Source
from labsim.model.scenario_parts import Duration, Part, State

SnapshotName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class AgentSelector(Part):
    """Which of the lab's agents: every field given must hold."""

    cluster: str | None = None
    """A hosted cluster's name, or `none` for agents that no cluster has."""
    state: State | None = None
    released: bool | None = None
    """Unbound since this run bound it, until bound again; from the history."""
    approved: bool | None = None
    machines: str | None = None
    labels: dict[str, str] | None = None


Agents = Literal["all"] | AgentSelector


class OfAgents(Part):
    agents: Agents


Machines = str | list[str] | OfAgents


class MachineStep(Part):
    machines: Machines

    def options(self) -> dict[str, Any]:
        """What labsim.lab.machine_commands is told beside the machine."""
        return self.model_dump(exclude={"machines"}, exclude_none=True)


class BootStep(MachineStep):
    source: Source = Field(alias="from")
    for_good: bool = Field(default=False, alias="forGood")
    """The machine's own boot order begins with it from now on; otherwise it is one pick in the boot menu."""


class StopStep(MachineStep):
    graceful: bool = False
    """Its power button is pressed, and the step waits until the system has shut down; otherwise the power is cut."""
    within: Duration = 240.0
    """How long a graceful stop may take."""


class ResetStep(MachineStep):
    """The reset button."""


class PauseStep(MachineStep):
    """The processors stand still."""


class ResumeStep(MachineStep):
    """Paused machines go on."""


class SnapshotStep(MachineStep):
    """What is on the disks of machines that are off is kept."""

    name: SnapshotName


class RevertStep(MachineStep):
    """Machines are cut off, and their disks hold what they did at the snapshot."""

    to: SnapshotName


class PlugStep(MachineStep):
    """A disk or a card goes into machines, also while they run."""

    disk: Disk | None = None
    """On the bus virtio or scsi. Its name is the next free one: vdb, sda."""
    nic: Nic | None = None

    @model_validator(mode="after")
    def _one_device(self) -> PlugStep:
        if (self.disk is None) == (self.nic is None):
            raise ValueError("plug needs exactly one of disk and nic")
        if self.disk is not None and self.disk.bus not in ("virtio", "scsi"):
            raise ValueError(f"a {self.disk.bus} disk cannot be plugged into a machine: take bus virtio or scsi")
        return self

    def options(self) -> dict[str, Any]:
        return {"device": self.disk or self.nic}


class UnplugStep(MachineStep):
    device: str
    """A disk's name or a card's MAC address."""


STEPS: dict[str, type[MachineStep]] = {
    "boot": BootStep,
    "reboot": BootStep,
    "stop": StopStep,
    "reset": ResetStep,
    "pause": PauseStep,
    "resume": ResumeStep,
    "snapshot": SnapshotStep,
    "revert": RevertStep,
    "plug": PlugStep,
    "unplug": UnplugStep,
}
