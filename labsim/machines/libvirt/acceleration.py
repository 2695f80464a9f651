"""Whether this host can run machines in hardware (KVM), or has to emulate every instruction (TCG)."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from pathlib import Path

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_API_VERSION = 12


@dataclasses.dataclass(frozen=True, slots=True)
class Acceleration:
    """`notice` says in one line why machines will be slow; empty when KVM is used. `refused`: KVM is there, and this
    user may not open it."""

    kvm: bool
    notice: str = ""
    refused: bool = False


def find_acceleration(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> Acceleration:
    """Look at the processor's flags first: the device may exist, and even make a VM, where KVM cannot run one."""
    if not _virtualisation_flags(cpuinfo):
        return _emulated("the processor offers neither vmx nor svm")
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return _emulated(f"{device} cannot be opened ({error.strerror})", refused=isinstance(error, PermissionError))
    try:
        if fcntl.ioctl(descriptor, _KVM_GET_API_VERSION) != _KVM_API_VERSION:
            return _emulated(f"{device} speaks another version of KVM")
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as error:
        return _emulated(f"{device} does not work ({error.strerror})")
    finally:
        os.close(descriptor)
    return Acceleration(True)


def _virtualisation_flags(cpuinfo: Path) -> bool:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    if not flags and any(line.startswith("CPU implementer") for line in lines):
        return True  # an ARM processor does not tell there: making a VM will
    return bool({"vmx", "svm"} & set(flags.partition(":")[2].split()))


def _emulated(why: str, *, refused: bool = False) -> Acceleration:
    notice = f"no KVM here: {why}; machines run under software emulation (TCG), many times slower"
    return Acceleration(False, notice, refused)
