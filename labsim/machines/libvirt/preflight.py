"""What must be there before a lab of virtual machines is begun: the hypervisor, an emulator, room on the disk."""

from __future__ import annotations

import dataclasses
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labsim.errors import LabError, UsageError, system_errors
from labsim.guest.record_store import STORE_BYTES
from labsim.machines.libvirt.connection import Connection
from labsim.machines.libvirt.errors import INSTALL_HINT

ARCHITECTURE, MACHINE_TYPE, EMULATED = "x86_64", "q35", "qemu"
MIB = 1 << 20
CONSOLE_BYTES = MIB
SLACK_BYTES = 2 * MIB


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """What a lab's machines ask of the hypervisor beside what every machine does."""

    uefi: bool = False
    secure_boot: bool = False
    tpm: bool = False


def check_hypervisor(uri: str, needs: Needs = Needs()) -> None:
    """Raises a LabError with a hint where no machine could be made: no binding, nobody answers, no emulator, or no
    firmware or TPM of the kind that is asked for."""
    if "ssh" in urlsplit(uri).scheme or urlsplit(uri).netloc:
        raise UsageError(f"the hypervisor at {uri} is on another host", hint="this version makes machines on its own")
    connection = Connection(uri)
    try:
        check_needs(needs, connection.call(_domain_capabilities))
    finally:
        connection.close()


def _domain_capabilities(hypervisor: Any) -> str:
    kind = hypervisor.getType()
    if kind != "QEMU":
        raise UsageError(f"the hypervisor is {kind}, not QEMU", hint="qemu:///session needs no rights")
    capabilities = hypervisor.getCapabilities()
    if f"<arch name='{ARCHITECTURE}'>" not in capabilities:
        raise LabError(f"libvirt finds no QEMU for {ARCHITECTURE}", hint=INSTALL_HINT)
    return str(hypervisor.getDomainCapabilities(None, ARCHITECTURE, MACHINE_TYPE, EMULATED, 0))


def check_needs(needs: Needs, capabilities: str) -> None:
    """Raises a LabError where libvirt's domain capabilities (XML) lack what is needed."""
    root = ET.fromstring(capabilities)  # noqa: S314 - written by the user's own hypervisor

    def offers(place: str, value: str) -> bool:
        return any(element.text == value for element in root.iterfind(f"./{place}/value"))

    wanted = {
        "UEFI firmware": (needs.uefi, offers("os/enum[@name='firmware']", "efi"), "ovmf"),
        "firmware for secure boot": (
            needs.secure_boot,
            offers("os/loader/enum[@name='secure']", "yes"),
            "ovmf",
        ),
        "a virtual TPM": (needs.tpm, offers("devices/tpm/enum[@name='backendModel']", "emulator"), "swtpm swtpm-tools"),
    }
    for what, (is_needed, is_there, packages) in wanted.items():
        if is_needed and not is_there:
            raise LabError(f"the hypervisor has no {what.removeprefix('a ')}", hint=f"apt-get install {packages}")


def room_bytes(image_bytes: int, machines: int) -> int:
    """What a lab of so many machines takes of the disk: its ISO, and what each machine writes on its own."""
    return image_bytes + SLACK_BYTES + machines * (image_bytes + STORE_BYTES + CONSOLE_BYTES)


def check_room(folder: Path, base_iso: Path, machines: int) -> None:
    """Raises a LabError where the disk of `folder` cannot hold an ISO and what each machine will write on its own."""
    with system_errors(f"looking at {folder}"):
        image_bytes = base_iso.stat().st_size
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    needed = room_bytes(image_bytes, machines)
    if free < needed:
        raise LabError(
            f"the disk of {folder} is too full: {free // MIB} MiB are free, {machines} machine(s) need {needed // MIB}",
            hint="free some disk space, choose a place on another disk, or take fewer machines",
        )
