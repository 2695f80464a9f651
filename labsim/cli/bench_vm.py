"""`labsim bench vm`: machines under libvirt, beside a bare boot of the same kernel by QEMU alone in the same run.

The ratios are what counts: an emulated machine is as quick as its host is. The bare boot is this: QEMU with the
machine type, memory and processor that labsim's machines have, started from an ISO that our builder made of the same
kernel and an initrd with nothing but busybox in it, until that has said its first word.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from labsim.cli.bench_figures import Row, figure
from labsim.discovery.bootable import bootable_base_image
from labsim.discovery.compression import gzip_fixed
from labsim.discovery.initramfs import BUSYBOX
from labsim.discovery.iso import IsoContent, write_bootable_iso
from labsim.discovery.kernel import find_kernel
from labsim.discovery.packages import file_of_package
from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import LabError
from labsim.guest import cpio
from labsim.lab.lab import Lab
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import open_lab
from labsim.lab.sizes import sizes_of
from labsim.machines.driver import BootSource
from labsim.model.objects import dig
from labsim.model.scenario import parse_scenario

PROFILE = "small"
SPEED = 15.0
BOOT_WITHIN_S = 120.0
REGISTER_WITHIN_S = 240.0  # real seconds
FIRST_WORD = "bare boot is up"
BUILD_AIM_S, REBUILD_AIM_S, DOWN_AIM_S = 5.0, 0.5, 3.0
REGISTER_AIM, THREE_AIM = 3.0, 2.5  # times the bare boot; times one machine
MEMORY_AIM_MIB = 256.0
IGNITION = b'{"ignition":{"version":"3.2.0"},"storage":{"files":[]}}'

_LAB = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {{name: bench-vm}}
spec:
  lab:
    infraEnvs: [{{name: lab}}]
    machines: [{{name: worker, count: {count}, infraEnv: lab}}]
  steps: []
"""


def measure_machines() -> list[Row]:
    """The figures. LabError where QEMU, libvirt or what an ISO is made of is missing."""
    with tempfile.TemporaryDirectory(prefix="labsim-bench-") as made:
        place = Path(made)
        memory_mib = sizes_of(PROFILE).memory_mib
        assert memory_mib is not None
        rows = _images(place)
        bare_s = _bare_boot_s(place, memory_mib)
        one_registered_s, one_known_s, _ = _lab(place / "one", count=1)
        _, three_known_s, down_s = _lab(place / "three", count=3)
        return [
            *rows,
            figure("bare boot: QEMU to the first program", bare_s, "s"),
            figure("one machine: power-on to Agent registered", one_registered_s, "s"),
            figure("  times the bare boot", one_registered_s / bare_s, "", target=REGISTER_AIM),
            figure("one machine: power-on to known-unbound", one_known_s, "s"),
            figure("three machines: power-on to known-unbound", three_known_s, "s"),
            figure("  times one machine", three_known_s / one_known_s, "", target=THREE_AIM),
            figure("memory of a machine", float(memory_mib), "MiB", target=MEMORY_AIM_MIB),
            figure("down of three machines", down_s, "s", target=DOWN_AIM_S),
        ]


def _images(place: Path) -> list[Row]:
    started_s = monotonic_s()
    base = bootable_base_image(place / "cache")
    built_s = monotonic_s() - started_s
    started_s = monotonic_s()
    base.overlay(IGNITION).write_to(place / "second.iso")
    rebuilt_s = monotonic_s() - started_s
    return [
        figure("ISO: built", built_s, "s", target=BUILD_AIM_S),
        figure("ISO: for a second InfraEnv", rebuilt_s, "s", target=REBUILD_AIM_S),
    ]


def _bare_boot_s(place: Path, memory_mib: int) -> float:
    """Real seconds from QEMU's start to the first word of the first program."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise LabError("QEMU is not installed", hint="sh setup/install-packages.sh")
    busybox = file_of_package(BUSYBOX, "busybox-static").read_bytes()
    init = f"#!/bin/busybox sh\necho {FIRST_WORD}\nwhile :; do /bin/busybox sleep 60; done\n"
    entries = [
        cpio.folder("bin"),
        cpio.plain_file("bin/busybox", busybox, 0o755),
        cpio.folder("dev"),
        cpio.character_device("dev/console", 5, 1),
        cpio.plain_file("init", init.encode(), 0o755),
    ]
    initrd = gzip_fixed(cpio.archive(entries), 1)
    iso = write_bootable_iso(place / "bare.iso", IsoContent(kernel=find_kernel().kernel.read_bytes(), initrd=initrd))
    console = place / "bare.log"
    console.touch()
    command = [qemu, "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(memory_mib)]
    command += ["-display", "none", "-nodefaults", "-no-user-config", "-serial", f"file:{console}"]
    command += ["-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=cd"]
    command += ["-drive", f"if=none,id=cd,media=cdrom,readonly=on,format=raw,file={iso}"]
    started_s = monotonic_s()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while FIRST_WORD not in console.read_text(errors="replace"):
            if process.poll() is not None:
                raise LabError("QEMU ended", hint=(process.communicate()[1] or "").strip()[-500:])
            if monotonic_s() - started_s > BOOT_WITHIN_S:
                raise LabError(f"the bare boot took longer than {BOOT_WITHIN_S:.0f} s", hint=console.read_text()[-500:])
            wait_s(0.02)
        return monotonic_s() - started_s
    finally:
        process.kill()
        process.communicate()


def _lab(folder: Path, *, count: int) -> tuple[float, float, float]:
    """Real seconds from power-on until all are registered, until all are known-unbound, and of the removal."""
    folder.mkdir()
    spec = parse_scenario(_LAB.format(count=count)).spec.lab
    request = LabRequest(name="bench", folder=folder, machines="libvirt", sizes=sizes_of(PROFILE), speed=SPEED)
    with open_lab(spec, request) as opened:
        lab = opened.lab
        lab.make()
        for machine in lab.machine_names():
            lab.insert_discovery_iso(machine)
        started_s = monotonic_s()
        for machine in lab.machine_names():
            lab.driver.boot(machine, BootSource.DISCOVERY_ISO)
        _wait(lab, "an Agent each", lambda: len(lab.agents()) == count)
        registered_s = monotonic_s() - started_s
        _wait(lab, "known-unbound", lambda: _states(lab) == ["known-unbound"] * count)
        known_s = monotonic_s() - started_s
        closing_s = monotonic_s()
    return registered_s, known_s, monotonic_s() - closing_s


def _states(lab: Lab) -> list[str]:
    return [str(dig(agent, "status", "debugInfo", "state", default="")) for agent in lab.agents()]


def _wait(lab: Lab, what: str, done: Callable[[], bool]) -> None:
    """Raises LabError, with the end of the consoles, when it did not come."""
    if not lab.run_until(done, lab.now() + REGISTER_WITHIN_S * SPEED):
        consoles = [lab.console_of(name).decode(errors="replace")[-500:] for name in lab.machine_names()]
        raise LabError(f"the machines did not reach: {what}", hint="\n".join(consoles))
