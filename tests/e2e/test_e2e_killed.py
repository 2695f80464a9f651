"""Killed anywhere in up, run or down: `labsim down` then leaves nothing of ours, and everything of others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from libvirt_at_hand import NEEDS_LIBVIRT

from labsim.entropy import Entropy
from labsim.machines.libvirt.marked import marked_domains
from labsim.machines.libvirt.session import SESSION_URI, session_uri

pytestmark = NEEDS_LIBVIRT
POINTS_OF_EACH = {"up": 40, "run": 40, "down": 15}  # and five more with booted machines: test_e2e_labs_side_by_side
SEED = 4
SCENARIO = """\
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: killed}
spec:
  lab:
    baseDomain: krnl.es
    infraEnvs: [{name: lab}]
    machines: [{name: worker, count: 2, infraEnv: lab, cpus: 4, memory: 16GiB, disk: 120GiB}]
  steps:
    - wait: {for: 1s}
"""
FOREIGN_UUID = "5b0c1c52-6f0e-4c6c-8f7c-f0e100000000"


class Commands:
    """labsim in forks of one process, each killed at the point that is asked for."""

    def __init__(self, state: Path, iso: Path) -> None:
        self.state = state
        self._iso = iso
        self._counter = state.parent / "changes"
        script = Path(__file__).with_name("killed_at_a_point.py")
        self._log = (state.parent / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def say(self, *arguments: str, point: int = 0) -> int:
        """The exit code; minus nine when it was killed."""
        command = {"arguments": arguments, "point": point, "state": str(self.state), "iso": str(self._iso)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**command, "counter": str(self._counter)}) + "\n")
        self._process.stdin.flush()
        while True:
            line = self._process.stdout.readline()
            assert line, (self.state.parent / "log").read_text()
            if line.startswith("exit "):
                return int(line.split()[1])

    def changes(self) -> int:
        return int(self._counter.read_text())

    def close(self) -> None:
        self._process.communicate()
        self._log.close()


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    from labsim.discovery.base_image import plain_base_image

    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "killed.yaml").write_text(SCENARIO)
    commands = Commands(state, plain_base_image(tmp_path / "iso").path)
    yield commands
    commands.close()


@pytest.fixture
def foreign(commands: Commands) -> Iterator[list[Path]]:
    """Somebody else's domain with a name like ours, its volume, and a file and a folder beside our labs."""
    import libvirt

    theirs = commands.state / "labsim" / "labs" / "theirs"
    theirs.mkdir(parents=True)
    files = [theirs / "volume.raw", theirs.parent / "notes.txt"]
    for file in files:
        file.write_text("theirs")
    connection: Any = libvirt.open(session_uri())
    disk = f"<disk type='file' device='disk'><source file='{files[0]}'/><target dev='vda' bus='virtio'/></disk>"
    domain = connection.defineXML(
        f"<domain type='qemu'><name>labsim-killed-worker-0</name><uuid>{FOREIGN_UUID}</uuid>"
        f"<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>"
        f"<devices>{disk}</devices></domain>"
    )
    yield files
    domain.undefine()  # fails where it is gone
    connection.close()


def left_of_ours(state: Path, foreign: list[Path]) -> list[str]:
    """Domains, and files below the state folder other than a run's evidence."""
    domains = [d.uuid for d in marked_domains(SESSION_URI) if d.folder is None or d.folder.is_relative_to(state)]
    labs = state / "labsim" / "labs"
    files = [str(path) for path in labs.rglob("*") if path not in foreign and path != foreign[0].parent]
    return [*domains, *files, *(str(path) for path in state.glob("runs/*/lab"))]


def remove(commands: Commands) -> None:
    assert commands.say("down", "--all") == 0
    for ledger in commands.state.glob("runs/*/ledger.jsonl"):
        assert commands.say("down", str(ledger.parent)) == 0
    shutil.rmtree(commands.state / "runs", ignore_errors=True)


def test_killed_at_any_point_leaves_nothing_after_down(commands: Commands, foreign: list[Path]) -> None:
    scenario = str(commands.state.parent / "killed.yaml")
    lines = {
        "up": ("up", scenario, "--machines", "libvirt", "--profile", "small", "--foreground"),
        "run": (
            "run",
            scenario,
            "--machines",
            "libvirt",
            "--profile",
            "small",
            "--run-dir",
            str(commands.state / "runs" / "one"),
        ),
        "down": ("down", "--all"),
    }
    chance = Entropy(SEED)
    assert commands.say(*lines["up"]) == 0
    in_up = commands.changes()
    assert commands.say(*lines["run"]) == 0
    in_run = commands.changes()
    shutil.rmtree(commands.state / "runs")
    late = in_up // 2
    assert commands.say(*lines["up"], point=late) == -9
    assert any(d.folder and d.folder.is_relative_to(commands.state) for d in marked_domains(SESSION_URI))
    assert commands.say(*lines["down"]) == 0
    totals = {"up": in_up, "run": in_run, "down": commands.changes()}
    for command, count in POINTS_OF_EACH.items():
        assert totals[command] >= count
        for number in range(count):
            low, high = (totals[command] * step // count for step in (number, number + 1))
            point = chance.integer(f"{command} {number}", low + 1, high)  # one in each part
            if command == "down":
                assert commands.say(*lines["up"], point=late) == -9
            assert commands.say(*lines[command], point=point) == -9, f"{command} at {point} of {totals[command]}"
            remove(commands)
            assert left_of_ours(commands.state, foreign) == [], f"{command} at {point} of {totals[command]}"
            assert [file.read_text() for file in foreign] == ["theirs", "theirs"]
