"""One virtual machine: a run that fails keeps its evidence, and the kept lab's machine is logged in to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from libvirt_at_hand import NEEDS_LIBVIRT

from labsim.discovery.login import DROPBEAR_PACKAGE, server_programs
from labsim.edge_time import monotonic_s

SCENARIO = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: login}
spec:
  lab:
    infraEnvs: [{name: lab}]
    machines: [{name: worker, infraEnv: lab}]
  steps:
    - boot: {machines: worker-0, from: discovery-iso}
    - expect: {agents: all, count: 1, within: 60m}
    - expect: {agents: all, count: 2, within: 1s}
"""
SPEED = "8"
WITHIN_S = 200

pytestmark = [
    *NEEDS_LIBVIRT,
    pytest.mark.skipif(not server_programs(), reason=f"machines have no login here, missing: {DROPBEAR_PACKAGE}"),
]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    labsim(tmp_path / "state", "down", "--all")


def labsim(state: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "labsim.cli.main", *arguments]
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    return subprocess.run(command, input=stdin, capture_output=True, timeout=WITHIN_S, check=False, env=environment)


def test_a_failed_run_keeps_journals_and_its_kept_machine_lets_its_lab_in(state: Path, tmp_path: Path) -> None:
    file, run = tmp_path / "login.yaml", tmp_path / "run"
    file.write_text(SCENARIO)
    options = ["--machines", "libvirt", "--profile", "small", "--speed", SPEED, "--keep", "--run-dir", str(run)]
    done = labsim(state, "run", str(file), *options)
    assert done.returncode == 1, done.stderr.decode()

    evidence = run / "machines" / "worker-0"
    journal = (evidence / "journal.log").read_text()
    assert "guest: started from discovery-iso" in journal
    assert (evidence / "agent.log").read_text().splitlines()[0].startswith("agent: ")
    assert "<domain " in (evidence / "domain.xml").read_text()
    assert "qemu-system-x86_64" in (evidence / "qemu.log").read_text()
    events = [json.loads(line)["event"] for line in (evidence / "libvirt-events.jsonl").read_text().splitlines()]
    assert events[0] == "defined"
    assert "started" in events
    assert "lease" in json.loads((evidence / "leases.json").read_text())
    written = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert b"PRIVATE KEY" not in written

    # By its own port, with its own shell: not the simulated one's.
    done = labsim(state, "ssh", "worker-0", "--", "cat /proc/1/comm; sudo journalctl -u agent -n 1; exit 7")
    assert done.returncode == 7, done.stderr.decode()
    assert b"agent: " in done.stdout
    first_key = (state / "labsim" / "labs" / "login" / "known_hosts").read_text()
    assert first_key.startswith("worker-0.login ssh-ed25519 ")

    (tmp_path / "there").write_bytes(bytes(range(256)) * 1000)
    assert labsim(state, "cp", str(tmp_path / "there"), "worker-0:/tmp/").returncode == 0
    assert labsim(state, "cp", "worker-0:/tmp/there", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()

    boot = labsim(state, "ssh", "worker-0", "--", "cat /proc/sys/kernel/random/boot_id").stdout
    done = labsim(state, "reboot", "worker-0", "--inside")
    assert done.returncode == 0, done.stderr.decode()
    deadline_s = monotonic_s() + WITHIN_S
    while labsim(state, "ssh", "worker-0", "--", "cat /proc/sys/kernel/random/boot_id").stdout in (b"", boot):
        assert monotonic_s() < deadline_s, "it has not come back"
    done = labsim(state, "ssh", "worker-0", "--", "ls /tmp/there")  # its host key is a new one
    assert done.returncode != 0
    assert b"/tmp/there: No such file" in done.stderr, done.stderr.decode()
    assert (state / "labsim" / "labs" / "login" / "known_hosts").read_text() != first_key
