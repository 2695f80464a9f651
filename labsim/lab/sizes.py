"""Machine sizes and CIM's hardware minimums, which a profile changes together: a VM reports its true inventory."""

from __future__ import annotations

import dataclasses

from labsim.errors import UsageError
from labsim.model.scenario import MachineGroup

MIB = 2**20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How big machines are. None keeps what the scenario says; minimums of None are upstream's."""

    profile: str = "default"
    cpus: int | None = None
    memory_mib: int | None = None
    disk_bytes: int | None = None
    minimum_cpus: int | None = None
    minimum_memory_mib: int | None = None
    minimum_disk_gb: int | None = None

    def of(self, group: MachineGroup) -> tuple[int, int, int]:
        """(cpus, memory in MiB, disk in bytes) of a group's machines."""
        return (
            self.cpus or group.cpus,
            self.memory_mib or group.memory // MIB,
            self.disk_bytes or group.disk,
        )


PROFILES = {
    "default": Sizes(),
    "small": Sizes(
        profile="small",
        cpus=1,
        memory_mib=384,
        disk_bytes=2**30,
        minimum_cpus=1,
        minimum_memory_mib=256,
        minimum_disk_gb=1,
    ),
}


def sizes_of(profile: str) -> Sizes:
    """The sizes of a profile; UsageError names the known ones."""
    found = PROFILES.get(profile)
    if found is None:
        raise UsageError(f"unknown profile {profile!r}", hint=f"known profiles: {', '.join(PROFILES)}")
    return found
