"""What the doctor says of hosts that are made up: each finding appears with its cause, and goes with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from labsim.errors import ExitCode
from labsim.lab.doctor.capacity import simulated, virtual
from labsim.lab.doctor.facts import Facts, Folder, Part, Route, SocketState
from labsim.lab.doctor.findings import Finding, Level, examine, exit_code
from labsim.lab.doctor.fixes import Fix
from labsim.lab.doctor.look import routes
from labsim.machines.profiles import MachineProfile, load_profiles

GIB = 1 << 30
GOOD = Facts(
    family="apt",
    uri="qemu:///session",
    architecture="x86_64",
    cpus=4,
    kvm_notice="",
    kvm_refused=False,
    memory_mib=16_384,
    folders=(Folder(purpose="labs", path="/labs", free_bytes=50 * GIB, writable=True),),
    image_bytes=25 << 20,
    present=frozenset(Part),
    unreadable_kernels=(),
    missing_modules=(),
    hypervisor_problem="",
    hypervisor_fix="",
    system_socket=SocketState.USABLE,
    bios=True,
    uefi=True,
    secure_boot=True,
    loopback=True,
    taken_node_ports=(),
    routes=(Route(network="192.168.1.0/24", card="eth0"),),
)


def bad(**changes: Any) -> list[Finding]:
    findings = examine(dataclasses.replace(GOOD, **changes))
    return [found for found in findings if found.level is not Level.OK]


def folder(purpose: str = "labs", free_bytes: int = 50 * GIB, writable: bool = True) -> tuple[Folder, ...]:
    return (Folder(purpose=purpose, path="/there", free_bytes=free_bytes, writable=writable),)


def test_a_good_host_has_nothing_to_mend() -> None:
    assert bad() == []
    assert exit_code(examine(GOOD), "libvirt") is ExitCode.PASSED


OK, FAILED = ExitCode.PASSED, ExitCode.LAB_FAILED


@pytest.mark.parametrize(
    ("changes", "level", "text", "fix", "simulated_exit", "libvirt_exit"),
    [
        ({"kvm_notice": "no KVM here"}, "warn", "no KVM here", "nested", OK, OK),
        ({"kvm_notice": "refused", "kvm_refused": True}, "warn", "refused", "-aG kvm", OK, OK),
        ({"architecture": "aarch64"}, "missing", "aarch64", "another host", OK, FAILED),
        ({"memory_mib": 100}, "missing", "100 MiB", "150 MiB", FAILED, FAILED),
        ({"memory_mib": 900}, "warn", "900 MiB", "1024 MiB", OK, OK),
        ({"folders": folder(free_bytes=0)}, "missing", "0 MiB free", "XDG_STATE_HOME", FAILED, FAILED),
        ({"folders": folder(free_bytes=66 << 20)}, "missing", "66 MiB", "XDG_STATE_HOME", OK, FAILED),
        ({"folders": folder("runs", writable=False)}, "missing", "cannot be written", "--run-dir", FAILED, FAILED),
        ({"folders": folder("base images", 0)}, "missing", "base images", "XDG_CACHE_HOME", FAILED, FAILED),
        ({"system_socket": SocketState.REFUSED}, "warn", "refuses", "-aG libvirt", OK, OK),
        ({"hypervisor_problem": "dead", "hypervisor_fix": "wake it"}, "missing", "dead", "wake it", OK, FAILED),
        ({"bios": False}, "missing", "SeaBIOS", "install seabios", OK, FAILED),
        ({"uefi": False, "secure_boot": False}, "warn", "no UEFI", "install ovmf", OK, OK),
        ({"secure_boot": False}, "warn", "without secure boot", "install ovmf", OK, OK),
        ({"missing_modules": ("orjson",)}, "missing", "orjson", "pip install", FAILED, FAILED),
        ({"loopback": False}, "missing", "127.0.0.1", "ip link", FAILED, FAILED),
        ({"taken_node_ports": tuple(range(30_000, 32_000))}, "warn", "768 of 2768", "ss -ltnp", OK, OK),
        ({"routes": (Route(network="10.0.0.0/8", card="tun0"),)}, "warn", "10.0.0.0/8 (tun0)", "another", OK, OK),
    ],
)
def test_each_finding_appears_with_its_cause(
    changes: dict[str, Any], level: str, text: str, fix: str, simulated_exit: ExitCode, libvirt_exit: ExitCode
) -> None:
    (found,) = bad(**changes)
    assert found.level == level
    assert text in found.text
    assert fix in found.fix.on("apt")
    findings = examine(dataclasses.replace(GOOD, **changes))
    assert exit_code(findings, "simulated") is simulated_exit
    assert exit_code(findings, "libvirt") is libvirt_exit


@pytest.mark.parametrize("part", list(Part))
def test_each_missing_part_is_named_with_both_families_commands(part: Part) -> None:
    (found,) = bad(present=frozenset(Part) - {part})
    assert found.text.startswith(part.value)
    assert found.fix.apt.startswith("sudo apt-get install ")
    assert found.fix.dnf.startswith("sudo dnf install ")
    expected = OK if part in (Part.KUBECTL, Part.DROPBEAR) else FAILED
    assert exit_code([found], "libvirt") is expected
    assert exit_code([found], "simulated") is OK


def test_a_kernel_that_cannot_be_read_is_one_finding() -> None:
    (found,) = bad(present=frozenset(Part) - {Part.KERNEL}, unreadable_kernels=("/boot/vmlinuz-6.8",))
    assert found.fix.apt == "sudo chmod a+r /boot/vmlinuz-6.8"


def test_a_network_that_is_in_objects_only_is_harmless() -> None:
    facts = dataclasses.replace(GOOD, routes=(Route(network="172.31.16.0/20", card="ens5"),))
    said = [found for found in examine(facts) if "172.31.16.0/20 (ens5)" in found.text]
    assert [found.level for found in said] == [Level.OK]


def test_a_fix_is_for_the_hosts_own_distribution() -> None:
    fix = Fix("apt it", "dnf it")
    assert [fix.on("apt"), fix.on("dnf"), fix.on("")] == ["apt it", "dnf it", "apt it (Fedora: dnf it)"]


def test_the_largest_lab_names_what_it_runs_out_of() -> None:
    small = MachineProfile(name="small", cpus=1, memory_mib=384, disk_bytes=GIB)
    roomy = dataclasses.replace(GOOD, cpus=100)
    in_hardware = virtual(roomy, small)
    assert (in_hardware.machines, in_hardware.limit) == ((16_384 - 662) // 448, "memory")
    assert virtual(dataclasses.replace(roomy, kvm_notice="emulated"), small).machines == (16_384 - 662) // 704
    assert virtual(dataclasses.replace(roomy, folders=folder(free_bytes=0)), small).machines == 0
    assert virtual(dataclasses.replace(roomy, folders=folder(free_bytes=200 << 20)), small).limit == "disk"
    few = virtual(dataclasses.replace(GOOD, cpus=2, kvm_notice="emulated"), small)
    assert (few.machines, few.limit) == (4, "processors")
    assert virtual(dataclasses.replace(GOOD, memory_mib=100), load_profiles()["default"]).machines == 0


def test_simulated_machines_end_at_memory_or_at_what_has_been_measured() -> None:
    assert simulated(GOOD).machines == 1_000
    tight = simulated(dataclasses.replace(GOOD, memory_mib=200))
    assert (tight.machines, tight.limit) == (100, "memory")


def test_routes_are_read_little_endian_and_the_default_route_is_none() -> None:
    table = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "*\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n"
    )
    assert list(routes(table)) == [Route(network="192.0.2.0/24", card="eth0")]
