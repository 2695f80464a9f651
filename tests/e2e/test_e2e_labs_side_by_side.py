"""Labs with booted machines at once on one host: none disturbs another; one that is killed leaves nothing behind."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from libvirt_at_hand import NEEDS_LIBVIRT

from labsim.edge_time import monotonic_s, wait_s
from labsim.entropy import Entropy
from labsim.machines.libvirt.marked import MarkedDomain, marked_domains
from labsim.machines.libvirt.session import SESSION_URI, session_uri

pytestmark = NEEDS_LIBVIRT
LAB = """\
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: side-by-side}
spec:
  lab:
    baseDomain: krnl.es
    infraEnvs: [{name: lab}]
    machines: [{name: worker, infraEnv: lab, cpus: 4, memory: 16GiB, disk: 120GiB}]
  steps:
    - boot: {machines: worker-*, from: discovery-iso}
    - expect: {agents: all, count: 1, state: known-unbound, within: 30m}
"""
JOINS = """\
    - approve: {agents: all}
    - createHostedCluster: {name: example, namespace: clusters, nodePool: {replicas: 1}}
    - expect: {agents: {cluster: example}, count: 1, state: added-to-existing-cluster, within: 120m}
"""
SPEED = "8"  # in-world seconds per real one, with four or five machines on two cores
WITHIN_S = 300.0
# What a machine's console says at the moments at which its lab is killed.
MOMENTS = {
    "booting": "init: up",
    "registered": "registered with status",
    "installing": "Writing image to disk 25%",
    "joined": "successfully registered node",
}
SEED = 4
FOREIGN = "labsim-side-by-side"


class Labs:
    """labsim's commands below one state folder, and the processes that run them."""

    def __init__(self, place: Path) -> None:
        self.state = place / "state"
        self.state.mkdir()
        self._scenario = place / "side-by-side.yaml"
        self._running: list[subprocess.Popen[str]] = []

    def write(self, scenario: str) -> None:
        self._scenario.write_text(scenario)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Begin a command; its output is one text."""
        command = [sys.executable, "-m", "labsim.cli.main", *map(str, arguments)]
        environment = {**os.environ, "XDG_STATE_HOME": str(self.state)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=self.state
        )
        self._running.append(process)
        return process

    def start_run(self, directory: Path) -> subprocess.Popen[str]:
        return self.start("run", self._scenario, "--run-dir", directory, *self._machines())

    def start_up(self) -> subprocess.Popen[str]:
        return self.start("up", self._scenario, "--foreground", *self._machines())

    def say(self, *arguments: object) -> None:
        done = self.start(*arguments)
        output, _ = done.communicate(timeout=WITHIN_S)
        assert done.returncode == 0, output

    def domains(self) -> list[MarkedDomain]:
        return [d for d in marked_domains(SESSION_URI) if d.folder and d.folder.is_relative_to(self.state)]

    def processes(self) -> list[str]:
        """Command lines of all processes, QEMU's among them, that name a file below the state folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it has ended
            if any(str(self.state) in word for word in words):
                found.append(" ".join(words))
        return found

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        for directory in [*self.state.glob("runs/*")]:
            self.start("down", directory).communicate(timeout=WITHIN_S)
        self.start("down", "--all").communicate(timeout=WITHIN_S)

    def _machines(self) -> list[str]:
        return ["--machines", "libvirt", "--profile", "small", "--speed", SPEED]


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[Labs]:
    made = Labs(tmp_path)
    yield made
    made.end()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """Somebody else's domain, volume and network, with names like ours: what of them is there."""
    import libvirt

    connection: Any = libvirt.open(session_uri())
    (tmp_path / "pool").mkdir()
    pool = connection.storagePoolDefineXML(
        f"<pool type='dir'><name>{FOREIGN}</name><target><path>{tmp_path / 'pool'}</path></target></pool>"
    )
    pool.create()
    volume = pool.createXML(f"<volume><name>{FOREIGN}.raw</name><capacity unit='MiB'>1</capacity></volume>")
    network = connection.networkDefineXML(f"<network><name>{FOREIGN}</name></network>")
    disk = f"<disk type='file' device='disk'><source file='{volume.path()}'/><target dev='vda' bus='virtio'/></disk>"
    domain = connection.defineXML(
        f"<domain type='qemu'><name>{FOREIGN}-worker-0</name><memory unit='MiB'>16</memory>"
        f"<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{disk}</devices></domain>"
    )

    def there() -> list[str]:
        pool.refresh()
        lists = (connection.listAllDomains(), pool.listAllVolumes(), connection.listAllNetworks())
        return sorted(one.name() for found in lists for one in found if one.name().startswith(FOREIGN))

    yield there
    for made in (domain, network):
        made.undefine()
    volume.delete()
    pool.destroy()
    pool.undefine()
    connection.close()


def wait_for(what: str, found: Callable[[], Any], process: subprocess.Popen[str], folder: Path) -> None:
    """Raises AssertionError, with the process's output and its consoles, when it has ended or the time is over."""
    deadline_s = monotonic_s() + WITHIN_S
    while not found():
        if process.poll() is not None or monotonic_s() > deadline_s:
            process.kill()
            assert process.stdout is not None
            raise AssertionError("\n".join([f"not seen: {what}", process.stdout.read(), *consoles(folder)]))
        wait_s(0.2)


def consoles(folder: Path) -> list[str]:
    return [log.read_text(errors="replace") for log in folder.rglob("console.log*")]


def console_says(folder: Path, words: str) -> bool:
    return any(words in text for text in consoles(folder))


def test_four_labs_of_one_machine_each_pass_at_once(labs: Labs) -> None:
    labs.write(LAB)
    runs = [labs.start_run(labs.state / "runs" / str(number)) for number in range(4)]
    for run in runs:
        output, _ = run.communicate(timeout=WITHIN_S)
        assert run.returncode == 0, output
    assert labs.domains() == []
    assert labs.processes() == []


def test_labs_killed_with_booted_machines_leave_nothing_after_down(
    labs: Labs, foreign: Callable[[], list[str]]
) -> None:
    theirs = foreign()
    assert len(theirs) == 3
    labs.write(LAB + JOINS)
    runs = {moment: labs.start_run(labs.state / "runs" / moment) for moment in MOMENTS}
    open_lab = labs.start_up()
    alive = len(runs) + 1
    wait_for("five domains", lambda: len(labs.domains()) == alive, open_lab, labs.state)

    wait_for("the open lab", lambda: list(labs.state.rglob("control.sock")), open_lab, labs.state)
    labs.say("boot", "worker-*")
    lab_folders = labs.state / "labsim" / "labs"
    wait_for("its machine", lambda: console_says(lab_folders, MOMENTS["booting"]), open_lab, lab_folders)
    down = labs.start("down", "--all")
    wait_s(Entropy(SEED).integer("down is killed after ms", 200, 1200) / 1000)
    for process in (open_lab, down):
        process.send_signal(signal.SIGKILL)
        process.wait(WITHIN_S)
    labs.say("down", "--all")
    alive -= 1
    assert len(labs.domains()) == alive
    assert [path for path in lab_folders.rglob("*") if path.is_file()] == []

    for moment, words in MOMENTS.items():
        directory, run = labs.state / "runs" / moment, runs[moment]
        wait_for(words, functools.partial(console_says, directory, words), run, directory)
        run.send_signal(signal.SIGKILL)
        run.wait(WITHIN_S)
        labs.say("down", directory)
        alive -= 1
        assert len(labs.domains()) == alive, f"killed while {moment}"
        assert not (directory / "lab").exists(), f"killed while {moment}"
    assert labs.processes() == []
    assert foreign() == theirs
