"""The largest lab that fits: machines of a size, by memory, disk and processors."""

from __future__ import annotations

import dataclasses

from labsim.lab.doctor.facts import Facts
from labsim.machines.libvirt.domain_xml import TCG_CACHE_MIB
from labsim.machines.libvirt.preflight import room_bytes
from labsim.machines.profiles import MachineProfile

HOST_RESERVE_MIB = 512  # left to the host's other programs
LAB_PROCESS_MIB = 150
# `labsim bench agents`: 1,000 machines in less than 500 MiB. More may fit; nobody has measured it.
SIMULATED_MACHINES_PER_MIB = 2
SIMULATED_MACHINES_MEASURED = 1_000
QEMU_MIB = 64  # QEMU's own, beside the guest's memory
# Rules of thumb. A lab machine idles between polls; emulated, its boot alone keeps a processor busy.
VIRTUAL_CPUS_PER_CPU = 8
EMULATED_CPUS_PER_CPU = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many machines of a profile fit, and what they run out of first. The profile is "" for simulated ones."""

    driver: str
    profile: str
    machines: int
    limit: str


def simulated(facts: Facts) -> Capacity:
    free_mib = max(0, facts.memory_mib - LAB_PROCESS_MIB)
    by_memory = free_mib * SIMULATED_MACHINES_PER_MIB
    if by_memory >= SIMULATED_MACHINES_MEASURED:
        return Capacity(
            driver="simulated", profile="", machines=SIMULATED_MACHINES_MEASURED, limit="what has been measured"
        )
    return Capacity(driver="simulated", profile="", machines=by_memory, limit="memory")


def virtual(facts: Facts, profile: MachineProfile) -> Capacity:
    """What fits where all that virtual machines need is installed."""
    emulated = bool(facts.kvm_notice)
    each_mib = profile.memory_mib + QEMU_MIB + (TCG_CACHE_MIB if emulated else 0)
    per_cpu = EMULATED_CPUS_PER_CPU if emulated else VIRTUAL_CPUS_PER_CPU
    base, one = room_bytes(facts.image_bytes, 0), room_bytes(facts.image_bytes, 1)
    free_bytes = min((folder.free_bytes for folder in facts.folders), default=0)
    by = {
        "memory": (facts.memory_mib - HOST_RESERVE_MIB - LAB_PROCESS_MIB) // each_mib,
        "disk": (free_bytes - base) // (one - base),
        "processors": facts.cpus * per_cpu // profile.cpus,
    }
    limit = min(by, key=lambda name: by[name])
    return Capacity(driver="libvirt", profile=profile.name, machines=max(0, by[limit]), limit=limit)
