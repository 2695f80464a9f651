"""`labsim hub clients`, `labsim hub fault` and `labsim fault` as a person meets them: a lab that is open, and its exit
codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

STORY = Path(__file__).parents[2] / "scenarios" / "scale-down-and-reuse.yaml"
Labsim = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def labsim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labsim]:
    """A command beside a lab that is open."""
    state = tmp_path_factory.mktemp("state")
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "labsim.cli.main", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    assert run("up", STORY).returncode == 0
    yield run
    assert run("down", "--all").returncode == 0


def faults(labsim: Labsim) -> Any:
    return json.loads(labsim("hub", "fault", "list", "-o", "json").stdout)


def test_faults_are_switched_on_listed_and_cleared(labsim: Labsim) -> None:
    frozen = labsim("hub", "fault", "freeze", "--program", "labsim/agentProvider", "--kind", "agents")
    assert frozen.returncode == 0, frozen.stderr
    assert labsim("hub", "fault", "delay", "1m30s", "--user", "nobody").returncode == 0
    assert labsim("hub", "fault", "lose-write", "--data-loss", "--count", 2, "--connection", "10.*").returncode == 0
    shown = [(row["fault"], row["who"]) for row in faults(labsim)]
    assert shown == [
        ("freeze", "program labsim/agentProvider, kind agents.agent-install.openshift.io"),
        ("delay", "user nobody"),
        ("lose-write", "connection 10.*"),
    ]
    assert labsim("hub", "fault", "clear", faults(labsim)[0]["number"]).returncode == 0
    assert [row["fault"] for row in faults(labsim)] == ["delay", "lose-write"]
    assert labsim("hub", "fault", "clear").stdout.count("is off") == 2
    assert labsim("hub", "fault", "clear").stdout == "no fault is on\n"


def test_the_clients_are_listed_with_what_they_watch(labsim: Labsim) -> None:
    rows = {row["program"]: row for row in json.loads(labsim("hub", "clients", "-o", "json").stdout)}
    assert "agents" in rows["labsim/cim"]["watching"].split(",")
    table = labsim("hub", "clients").stdout
    assert max(map(len, table.splitlines())) < 160


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (("freeze",), 2, "whom it meets", "labsim hub clients"),
        (("delay", "5", "--program", "x"), 2, "no duration", ""),
        (("freeze", "--program", "x", "--kind", "agnts"), 2, "no resource 'agnts'", "did you mean agent"),
        (("freeze", "--program", "x", "--at", "1"), 2, "cannot stop at revision 1", "the present one"),
        (("cut", "--program", "x", "--how", "gently"), 2, "'gently' is not known", "end, reset, expired"),
        (("cut", "--program", "x"), 5, "no open watch", "labsim hub clients"),
        (("lose-answer", "--program", "x", "--how", "end"), 2, "'end' is not known", "reset, timeout"),
        (("lose-write", "--program", "x"), 2, "data loss", "--data-loss"),
        (("clear", "77"), 5, "no fault 77", "faults that are on: none"),
    ],
)
def test_what_cannot_be_done_says_why_and_what_to_do(
    labsim: Labsim, arguments: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    done = labsim("hub", "fault", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert hint in done.stderr


def test_a_scenario_with_a_fault_needs_the_embedded_hub(tmp_path: Path) -> None:
    scenario = STORY.with_name("stale-agents-cache.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "labsim.cli.main", "run", str(scenario), "--hub", "plain", "--run-dir", "run"],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "needs the embedded hub" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_faults_of_machines_are_switched_on_listed_and_cleared(labsim: Labsim) -> None:
    pulled = labsim("fault", "cable-out", "worker-*")
    assert pulled.returncode == 0, pulled.stderr
    assert labsim("fault", "blocked", "worker-0", "--service", "ignition-server").returncode == 0
    assert labsim("fault", "clock-skew", "worker-0", "--behind", "30m").returncode == 0
    rows = json.loads(labsim("fault", "list", "-o", "json").stdout)
    machines = pulled.stdout.count("cable-out of worker-")
    assert [(row["fault"], row["details"]) for row in rows[machines:]] == [
        ("blocked", "ignition-server"),
        ("clock-skew", "30m behind"),
    ]
    assert labsim("fault", "clear", rows[0]["number"]).returncode == 0
    assert labsim("fault", "clear").stdout.count("is off") == machines + 1
    assert labsim("fault", "clear").stdout == "no fault is on\n"


def test_a_fault_of_a_machine_that_makes_no_sense_is_refused(labsim: Labsim) -> None:
    nothing = labsim("fault", "blocked", "worker-0")
    assert nothing.returncode == 2
    assert "blocked needs exactly one of service, port, name" in nothing.stderr
    nobody = labsim("fault", "power-cut", "nobody")
    assert nobody.returncode != 0
    assert "no machine matches nobody" in nobody.stderr
    drive = labsim("fault", "media-out", "worker-0")
    assert drive.returncode != 0
    assert "has no ISO in its CD drive" in drive.stderr
