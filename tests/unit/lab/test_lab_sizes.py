"""How big a profile makes machines."""

from __future__ import annotations

import pytest

from labsim.lab.sizes import sizes_of
from labsim.model.machine_group import MachineGroup


@pytest.mark.parametrize(("firmware", "memory_mib"), [("bios", 256), ("uefi", 384), ("uefi-secure", 384)])
def test_uefi_keeps_memory_that_a_small_machine_needs(firmware: str, memory_mib: int) -> None:
    group = MachineGroup.model_validate({"name": "worker", "infraEnv": "lab", "firmware": firmware})
    assert sizes_of("small").of(group)[1] == memory_mib
    assert sizes_of("default").of(group)[1] == 16 * 1024
