"""Machine sizes and CIM's hardware minimums, which a profile changes together: a VM reports its true inventory."""

from __future__ import annotations

import dataclasses

from labsim.machines.profiles import profile as machine_profile
from labsim.model.machine_group import MachineGroup

MIB = 2**20
GB = 10**9
UEFI_KEEPS_MIB = 128  # more than BIOS does, while an ISO is being started


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

    def of(self, group: MachineGroup) -> tuple[int, int, list[int]]:
        """(cpus, memory in MiB, disks in bytes) of a group's machines. Disks beside the first are at most as large."""
        first, *others = (disk.size for disk in group.all_disks())
        return (
            self.cpus or group.cpus,
            group.memory // MIB if self.memory_mib is None else self.memory_mib + _firmware_mib(group),
            [self.disk_bytes or first, *(min(size, self.disk_bytes or size) for size in others)],
        )


def _firmware_mib(group: MachineGroup) -> int:
    return 0 if group.firmware == "bios" else UEFI_KEEPS_MIB


def sizes_of(profile: str) -> Sizes:
    """The sizes of a profile of vm-templates/profiles.yaml; "default" keeps what the scenario says.

    A smaller profile lowers CIM's minimums to what its machines have: a guest sees up to a third less memory than it
    was given, because the kernel and its initrd keep some. Raises UsageError, naming the known profiles.
    """
    found = machine_profile(profile)
    if profile == "default":
        return Sizes()
    return Sizes(
        profile=profile,
        cpus=found.cpus,
        memory_mib=found.memory_mib,
        disk_bytes=found.disk_bytes,
        minimum_cpus=found.cpus,
        minimum_memory_mib=found.memory_mib * 2 // 3,
        minimum_disk_gb=found.disk_bytes // GB,
    )
