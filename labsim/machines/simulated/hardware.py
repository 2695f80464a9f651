"""What of a machine's hardware may be changed by hand after it was made, as JSON can say it."""

from __future__ import annotations

import dataclasses
from typing import Any

from labsim.machines.driver import BootSource, DiskSpec, MachineSpec, NicSpec

Document = dict[str, Any]


def hardware_document(spec: MachineSpec) -> Document:
    """Disks, cards and boot order of a machine."""
    return {
        "disks": [dataclasses.asdict(disk) for disk in spec.disks],
        "nics": [dataclasses.asdict(nic) for nic in spec.nics],
        "bootOrder": [source.value for source in spec.boot_order],
    }


def with_hardware(spec: MachineSpec, document: Document) -> MachineSpec:
    """The machine with the hardware of a document."""
    return dataclasses.replace(
        spec,
        disks=tuple(DiskSpec(**disk) for disk in document["disks"]),
        nics=tuple(NicSpec(**nic) for nic in document["nics"]),
        boot_order=tuple(BootSource(source) for source in document["bootOrder"]),
    )
