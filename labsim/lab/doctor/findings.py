"""From a host's facts to findings: what is well, what is worse than it could be, what is missing, and the fix."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from collections.abc import Iterator

from labsim.errors import ExitCode
from labsim.kube.services import NODE_PORTS
from labsim.lab.doctor import fixes
from labsim.lab.doctor.capacity import HOST_RESERVE_MIB, LAB_PROCESS_MIB
from labsim.lab.doctor.facts import Facts, Part, SocketState
from labsim.lab.doctor.fixes import Fix, advice
from labsim.machines.libvirt.preflight import ARCHITECTURE, MIB, room_bytes

USER_NETWORK = "10.0.2.0/24"  # QEMU's user mode: the network that a machine sees
OBJECT_NETWORKS = ("10.132.0.0/14", "172.31.0.0/16")  # of hosted clusters: written in objects, no packet goes there
RUN_BYTES = 64 * MIB  # a run directory of a long scenario
ROUTES_SHOWN = 3


class Level(enum.StrEnum):
    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


class Needed(enum.StrEnum):
    """Which labs cannot be without it."""

    EVERY_LAB = "simulated"
    VIRTUAL_MACHINES = "libvirt"
    NONE = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's table."""

    area: str
    level: Level
    text: str
    fix: Fix = fixes.NONE
    needed: Needed = Needed.NONE


def examine(facts: Facts) -> list[Finding]:
    """Every finding, in the order in which a person reads them."""
    return [
        *_processor(facts),
        *_memory(facts),
        *_disk(facts),
        *_permissions(facts),
        *_hypervisor(facts),
        *_firmware(facts),
        *_packages(facts),
        *_ports(facts),
        *_subnets(facts),
    ]


def works(findings: list[Finding], machines: str) -> bool:
    """Whether labs of such machines ("simulated" or "libvirt") can be made."""
    needed = {Needed.EVERY_LAB} | ({Needed.VIRTUAL_MACHINES} if machines == "libvirt" else set())
    return not any(found.level is Level.MISSING and found.needed in needed for found in findings)


def exit_code(findings: list[Finding], machines: str) -> ExitCode:
    return ExitCode.PASSED if works(findings, machines) else ExitCode.LAB_FAILED


def _processor(facts: Facts) -> Iterator[Finding]:
    if facts.architecture != ARCHITECTURE:
        yield Finding(
            area="cpu",
            level=Level.MISSING,
            needed=Needed.VIRTUAL_MACHINES,
            text=f"this is {facts.architecture}; virtual machines are made for {ARCHITECTURE}",
            fix=advice("use simulated machines, or another host"),
        )
    emulated = f"{facts.cpus} processor(s); {facts.kvm_notice}"
    if not facts.kvm_notice:
        yield Finding(
            area="cpu", level=Level.OK, text=f"{facts.cpus} processor(s), hardware virtualisation (KVM) works"
        )
    elif facts.kvm_refused:
        yield Finding(area="cpu", level=Level.WARN, text=emulated, fix=_join_group("kvm"))
    else:
        text = "turn on VT-x/AMD-V in this host's firmware, or nested virtualisation where this host is a VM itself"
        yield Finding(area="cpu", level=Level.WARN, text=emulated, fix=advice(text))


def _join_group(group: str) -> Fix:
    return advice(f'sudo usermod -aG {group} "$USER", then log in again')


def _memory(facts: Facts) -> Iterator[Finding]:
    text = f"{facts.memory_mib} MiB can be had"
    if facts.memory_mib < LAB_PROCESS_MIB:
        fix = advice(f"end other programs: a simulated lab needs {LAB_PROCESS_MIB} MiB")
        yield Finding(area="memory", level=Level.MISSING, needed=Needed.EVERY_LAB, text=text, fix=fix)
    elif facts.memory_mib < 2 * HOST_RESERVE_MIB:
        fix = advice(f"end other programs: virtual machines want {2 * HOST_RESERVE_MIB} MiB and more")
        yield Finding(area="memory", level=Level.WARN, text=text, fix=fix)
    else:
        yield Finding(area="memory", level=Level.OK, text=text)


def _disk(facts: Facts) -> Iterator[Finding]:
    one_machine = room_bytes(facts.image_bytes, 1)
    for folder in facts.folders:
        text = f"{folder.purpose}: {folder.free_bytes // MIB} MiB free at {folder.path}"
        level, needed, fix = Level.OK, Needed.NONE, fixes.NONE
        if not folder.writable:
            level, needed = Level.MISSING, Needed.EVERY_LAB
            text, fix = f"{folder.purpose}: {folder.path} cannot be written", _elsewhere(folder.purpose)
        elif folder.free_bytes < RUN_BYTES:
            level, needed, fix = Level.MISSING, Needed.EVERY_LAB, _elsewhere(folder.purpose)
        elif folder.free_bytes < one_machine:
            level, needed, fix = Level.MISSING, Needed.VIRTUAL_MACHINES, _elsewhere(folder.purpose)
        yield Finding(area="disk", level=level, needed=needed, text=text, fix=fix)


def _elsewhere(purpose: str) -> Fix:
    how = {"labs": "set XDG_STATE_HOME", "base images": "set XDG_CACHE_HOME", "runs": "use --run-dir"}[purpose]
    return advice(f"free some space and see that you may write there, or take another disk: {how}")


def _permissions(facts: Facts) -> Iterator[Finding]:
    if facts.unreadable_kernels:
        yield Finding(
            area="permissions",
            level=Level.MISSING,
            needed=Needed.VIRTUAL_MACHINES,
            text=f"no kernel can be read: {', '.join(facts.unreadable_kernels)}",
            fix=advice(f"sudo chmod a+r {' '.join(facts.unreadable_kernels)}"),
        )
    match facts.system_socket:
        case SocketState.REFUSED:
            text = "the system's libvirt refuses this user; labs use your own session"
            yield Finding(area="permissions", level=Level.WARN, text=text, fix=_join_group("libvirt"))
        case SocketState.USABLE:
            yield Finding(area="permissions", level=Level.OK, text="the system's libvirt can be used (--connect)")
        case SocketState.ABSENT:
            text = "the system's libvirt does not run; labs use your own session where --connect names no other"
            yield Finding(area="permissions", level=Level.OK, text=text)


def _hypervisor(facts: Facts) -> Iterator[Finding]:
    if facts.hypervisor_problem:
        yield Finding(
            area="hypervisor",
            level=Level.MISSING,
            needed=Needed.VIRTUAL_MACHINES,
            text=facts.hypervisor_problem,
            fix=advice(facts.hypervisor_fix),
        )
    else:
        yield Finding(area="hypervisor", level=Level.OK, text=f"{facts.uri} makes machines")


def _firmware(facts: Facts) -> Iterator[Finding]:
    if facts.bios:
        yield Finding(area="firmware", level=Level.OK, text="BIOS")
    else:
        need = Needed.VIRTUAL_MACHINES
        text = "no BIOS for machines (SeaBIOS)"
        yield Finding(area="firmware", level=Level.MISSING, needed=need, text=text, fix=fixes.SEABIOS)
    if not facts.uefi:
        text = "no UEFI (OVMF), so no secure boot: machines start by BIOS only"
        yield Finding(area="firmware", level=Level.WARN, text=text, fix=fixes.FIRMWARE)
    elif not facts.secure_boot:
        text = "UEFI (OVMF), without secure boot"
        yield Finding(area="firmware", level=Level.WARN, text=text, fix=fixes.FIRMWARE)
    else:
        yield Finding(area="firmware", level=Level.OK, text="UEFI (OVMF), with and without secure boot")


_FOR_WHAT: dict[Part, str] = {
    Part.QEMU: "runs virtual machines",
    Part.LIBVIRT: "manages virtual machines",
    Part.BINDING: "lets labsim talk to libvirt",
    Part.ISOLINUX: "starts a discovery ISO",
    Part.SYSLINUX: "starts a discovery ISO",
    Part.XORRISO: "writes a discovery ISO",
    Part.BUSYBOX: "goes into a discovery ISO",
    Part.LDD: "finds the libraries that go into a discovery ISO",
    Part.ZSTD: "unpacks the drivers that go into a discovery ISO",
    Part.OPENSSL: "goes into a discovery ISO",
    Part.KERNEL: "goes into a discovery ISO",
    Part.DROPBEAR: "goes into a discovery ISO, for `labsim ssh` and the journals of failed runs",
    Part.KUBECTL: "for your own look at a lab's hub; `labsim get` does without",
}


def _packages(facts: Facts) -> Iterator[Finding]:
    if facts.missing_modules:
        yield Finding(
            area="packages",
            level=Level.MISSING,
            needed=Needed.EVERY_LAB,
            text=f"Python modules are missing: {', '.join(facts.missing_modules)}",
            fix=advice("install labsim again with what it needs: pip install ."),
        )
    there = [part.value for part in Part if part in facts.present]
    if there:
        yield Finding(area="packages", level=Level.OK, text=", ".join(there))
    for part in Part:
        if part in facts.present or (part is Part.KERNEL and facts.unreadable_kernels):
            continue
        optional = part in (Part.KUBECTL, Part.DROPBEAR)
        yield Finding(
            area="packages",
            level=Level.WARN if optional else Level.MISSING,
            needed=Needed.NONE if optional else Needed.VIRTUAL_MACHINES,
            text=f"{part.value} is not here ({_FOR_WHAT[part]})",
            fix=fixes.of_part(part),
        )


def _ports(facts: Facts) -> Iterator[Finding]:
    first, last = NODE_PORTS
    count = last - first + 1
    free = count - len(facts.taken_node_ports)
    if not facts.loopback:
        fix = advice("bring the loopback card up: sudo ip link set lo up")
        text = "nothing can listen on 127.0.0.1"
        yield Finding(area="ports", level=Level.MISSING, needed=Needed.EVERY_LAB, text=text, fix=fix)
    elif free < count // 2:
        fix = advice(f"see who has them: ss -ltnp 'sport >= :{first} and sport <= :{last}'")
        text = f"{free} of {count} node ports ({first}-{last}) are free"
        yield Finding(area="ports", level=Level.WARN, text=text, fix=fix)
    else:
        text = f"{free} of {count} node ports ({first}-{last}) are free; a hub takes any free port"
        yield Finding(area="ports", level=Level.OK, text=text)


def _subnets(facts: Facts) -> Iterator[Finding]:
    hit = _overlapping(facts, USER_NETWORK)
    if hit:
        text = f"machines see {USER_NETWORK} as their own network, which the host reaches as {hit}"
        fix = advice(
            "none needed for a lab's own hub; a hub (--hub plain) in there is out of reach: give it another address"
        )
        yield Finding(area="subnets", level=Level.WARN, text=text, fix=fix)
    else:
        yield Finding(area="subnets", level=Level.OK, text=f"{USER_NETWORK} (machines) meets no route of the host")
    for network in OBJECT_NETWORKS:
        hit = _overlapping(facts, network)
        if hit:
            text = f"{network} (hosted clusters) meets {hit}; harmless: it is in objects only"
            yield Finding(area="subnets", level=Level.OK, text=text)


def _overlapping(facts: Facts, network: str) -> str:
    """The host's routes that overlap, as text; empty where none does."""
    ours = ipaddress.ip_network(network)
    hits = [f"{route.network} ({route.card})" for route in facts.routes if ours.overlaps(_network(route.network))]
    more = f" and {len(hits) - ROUTES_SHOWN} more" if len(hits) > ROUTES_SHOWN else ""
    return ", ".join(hits[:ROUTES_SHOWN]) + more


def _network(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text)
