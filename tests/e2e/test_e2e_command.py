"""The labsim command as a person meets it: exit codes, messages, run directories."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from labsim.edge_time import monotonic_s, wait_s

SCENARIOS = Path(__file__).parents[2] / "scenarios"
STORY = SCENARIOS / "scale-down-and-reuse.yaml"


def labsim(*arguments: object, state: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    command = [sys.executable, "-m", "labsim.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, cwd=state)
    assert "Traceback" not in done.stderr, done.stderr
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("story")
    labsim("run", STORY, "--run-dir", folder / "run", state=folder)
    return folder / "run"


def test_a_run_leaves_a_directory_that_can_be_judged_again(story: Path) -> None:
    names = {path.name for path in story.iterdir()}
    assert {"scenario.yaml", "run.json", "history.jsonl", "results.json", "junit.xml", "resources.jsonl"} <= names
    assert json.loads((story / "run.json").read_text())["seed"] == "1"
    judged = labsim("check", story, state=story.parent)
    assert judged.stdout.startswith("passed")
    suite = ElementTree.parse(story / "junit.xml").getroot()[0]
    assert suite.get("failures") == "0"
    assert int(suite.get("tests", "0")) == len(json.loads((story / "results.json").read_text())["steps"])


def test_a_run_that_deleted_a_hosted_cluster_can_be_judged_again(tmp_path: Path) -> None:
    scenario = SCENARIOS / "hosted-cluster-deleted-and-agents-reused.yaml"
    labsim("run", scenario, "--run-dir", tmp_path / "run", state=tmp_path)
    assert labsim("check", tmp_path / "run", state=tmp_path).stdout.startswith("passed")


def test_a_tampered_run_is_found_out(story: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in story.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    history = (copy / "history.jsonl").read_bytes()
    (copy / "history.jsonl").write_bytes(history.replace(b'"approved":true', b'"approved":false', 1))
    assert labsim("check", copy, state=tmp_path, check=1).stdout.startswith("failed")


def test_a_run_with_a_gap_is_inconclusive(story: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in story.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    with (copy / "history.jsonl").open("ab") as history:
        history.write(b'{"n":999999,"t":1.0,"type":"gap","store":"hub","kind":"Agent"}\n')
    judged = labsim("check", copy, state=tmp_path, check=3).stdout
    assert judged.startswith("inconclusive")
    assert "changes of Agent of hub were not seen" in judged


def test_no_secret_is_left_in_a_run_directory(story: Path) -> None:
    for path in story.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"BEGIN EC PRIVATE KEY" not in data, path
            assert b"eyJhbGciOiJFUzI1NiI" not in data, path


def test_a_wrong_file_gives_all_its_mistakes_and_exit_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(STORY.read_text().replace("known-unbound", "know-unbound").replace("within: 60m", "within: 60"))
    done = labsim("run", bad, state=tmp_path, check=2)
    assert "did you mean known-unbound?" in done.stderr
    assert "write a number and a unit" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("run", "missing.yaml"), 2, "cannot be read"),
        (("run", STORY, "--machines", "toy"), 2, "unknown machines"),
        (("run", STORY, "--profile", "tiny"), 2, "known profiles"),
        (("run", STORY, "--hub", "moon"), 2, "unknown hub"),
        (("down", "nothing"), 2, "there is no lab"),
        (("boot", "worker-0"), 2, "no lab is up"),
        (("check", "nowhere"), 2, "no complete run directory"),
        (("frobnicate",), 2, "No such command"),
        (("run", STORY, "--speed", "0"), 2, "--speed"),
        (("run", STORY, "--output", "xml"), 2, "--output"),
        (("up", STORY, "--port", "70000"), 2, "--port"),
        (("up", STORY, "--name", "a/b"), 2, "cannot be a lab's name"),
        (("status", "-o", "xml"), 2, "unknown output"),
        (("iso", "inspect", STORY), 2, "is not an ISO image"),
        (("iso", "build", "x.iso", "--ignition", STORY), 2, "is no Ignition"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: tuple[object, ...], code: int, text: str, tmp_path: Path) -> None:
    assert text in labsim(*arguments, state=tmp_path, check=code).stderr


def test_an_expectation_that_fails_explains_itself(tmp_path: Path) -> None:
    failing = tmp_path / "failing.yaml"
    lines = STORY.read_text().splitlines()
    steps = next(index for index, line in enumerate(lines) if line.strip() == "steps:")
    wait = "    - expect: {agents: all, count: 3, state: added-to-existing-cluster, within: 20m}"
    failing.write_text("\n".join([*lines[: steps + 3], wait]) + "\n")
    done = labsim("run", failing, "--run-dir", tmp_path / "run", state=tmp_path, check=1)
    assert "known-unbound" in done.stderr
    assert "last transitions" in done.stderr
    assert "the end of its console" in done.stderr
    assert "replay: labsim run" in done.stderr
    assert "FAILED" in done.stdout


def test_a_scenario_without_steps_selects_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text(STORY.read_text().split("  steps:")[0] + "  steps: []\n")
    labsim("run", empty, "--run-dir", tmp_path / "run", state=tmp_path, check=5)


def test_a_lab_is_left_open_looked_at_and_removed(tmp_path: Path) -> None:
    name = labsim("up", STORY, "--speed", "200", state=tmp_path).stdout.strip()
    try:
        assert "worker-0" in labsim("status", state=tmp_path).stdout
        kubeconfig = Path(labsim("status", "-o", "kubeconfig", state=tmp_path).stdout.strip())
        assert kubeconfig.stat().st_mode & 0o077 == 0
        assert "boots from discovery-iso" in labsim("boot", "worker-*", state=tmp_path).stdout
        assert "up already" in labsim("up", STORY, state=tmp_path, check=4).stderr
    finally:
        labsim("down", name, state=tmp_path)
    assert "no lab is up" in labsim("status", state=tmp_path).stderr
    assert list((tmp_path / "labsim" / "labs").iterdir()) == []


def wait_until_machines_boot(run: Path) -> None:
    deadline_s = monotonic_s() + 60
    while not list(run.glob("lab/iso/*.iso")):
        assert monotonic_s() < deadline_s, "no machine has got its ISO"
        wait_s(0.05)


def test_a_run_that_was_killed_is_cleaned_up_by_its_directory(tmp_path: Path) -> None:
    long = tmp_path / "long.yaml"
    head = STORY.read_text().split("  steps:")[0]
    long.write_text(head + "  steps:\n    - boot: {machines: worker-*, from: discovery-iso}\n    - wait: {for: 10h}\n")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "labsim.cli.main", "run", str(long), "--speed", "1", "--run-dir", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until_machines_boot(run)
        (run / "ledger.jsonl").touch()  # simulated machines make nothing outside the process
        assert "is not over" in labsim("down", run, state=tmp_path, check=4).stderr
    finally:
        process.kill()
        process.communicate(timeout=30)
    labsim("down", run, state=tmp_path)
    assert not (run / "lab").exists()
    assert (run / "history.jsonl").exists()


def test_two_signals_at_once_still_clean_up(tmp_path: Path) -> None:
    """Found when a group of processes was ended: the second signal broke off the clean-up of the first."""
    long = tmp_path / "long.yaml"
    head = STORY.read_text().split("  steps:")[0]
    long.write_text(head + "  steps:\n    - boot: {machines: worker-*, from: discovery-iso}\n    - wait: {for: 10h}\n")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "labsim.cli.main", "run", str(long), "--speed", "1", "--run-dir", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until_machines_boot(run)
    process.terminate()
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=30)
    assert process.returncode == 130, talk
    assert not (run / "lab").exists()


def test_down_works_after_kill_9(tmp_path: Path) -> None:
    name = labsim("up", STORY, "--speed", "50", state=tmp_path).stdout.strip()
    facts = json.loads((tmp_path / "labsim" / "labs" / name / "lab.json").read_text())
    os.kill(facts["pid"], 9)
    labsim("status", state=tmp_path, check=4)
    labsim("down", name, state=tmp_path)
    assert list((tmp_path / "labsim" / "labs").iterdir()) == []


def test_a_run_is_repeated_with_other_seeds_in_directories_of_their_own(tmp_path: Path) -> None:
    scenario = SCENARIOS / "label-selector.yaml"
    done = labsim("run", scenario, "--repeat", "3", "--seed", "5", "--run-dir", tmp_path / "all", state=tmp_path)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        f"label-selector-seed{seed}-1" for seed in (5, 6, 7)
    ]
    assert done.stdout.splitlines()[-1] == "3 runs: 3 passed"
    histories = {path.read_bytes() for path in (tmp_path / "all").glob("*/history.jsonl")}
    assert len(histories) == 3, "a seed is an interleaving"


def test_a_repeated_run_that_fails_names_its_seeds(tmp_path: Path) -> None:
    failing = tmp_path / "failing.yaml"
    failing.write_text((SCENARIOS / "label-selector.yaml").read_text().replace("count: 3, state", "count: 4, state"))
    done = labsim("run", failing, "--repeat", "2", state=tmp_path, check=1)
    last = "2 runs: 2 failed; not passed: label-selector seed 1, label-selector seed 2"
    assert done.stdout.splitlines()[-1] == last


def test_a_kept_lab_is_looked_at_after_its_run_and_removed(tmp_path: Path) -> None:
    kept = labsim("run", STORY, "--keep", "--run-dir", tmp_path / "run", "-o", "json", state=tmp_path)
    try:
        assert json.loads(kept.stdout)[0]["lab"] == "scale-down-and-reuse"
        assert labsim("check", tmp_path / "run", state=tmp_path).stdout.startswith("passed")
        rows = json.loads(labsim("status", "-o", "json", state=tmp_path).stdout)
        assert [row["cluster"] for row in rows].count("example") == 2
        assert labsim("get", "np", "-o", "name", state=tmp_path).stdout == "nodepool.hypershift.openshift.io/example\n"
        assert "NodePool example has 3" in labsim("scale", "example", "--replicas", "3", state=tmp_path).stdout
        assert "is up already" in labsim("run", STORY, "--keep", state=tmp_path, check=4).stderr
        history = (tmp_path / "run" / "history.jsonl").read_bytes()
        assert labsim("reboot", "worker-0", "--from", "disk", state=tmp_path).stdout == "worker-0 boots from disk\n"
        assert (tmp_path / "run" / "history.jsonl").read_bytes() == history, "the run is over: its evidence stands"
    finally:
        labsim("down", state=tmp_path)
    assert list((tmp_path / "labsim" / "labs").iterdir()) == []
    assert labsim("check", tmp_path / "run", state=tmp_path).stdout.startswith("passed")


def test_a_kept_run_that_is_interrupted_is_removed(tmp_path: Path) -> None:
    long = tmp_path / "long.yaml"
    head = STORY.read_text().split("  steps:")[0]
    long.write_text(head + "  steps:\n    - boot: {machines: worker-*, from: discovery-iso}\n    - wait: {for: 10h}\n")
    command = [sys.executable, "-m", "labsim.cli.main", "run", str(long), "--keep", "--speed", "1", "--run-dir", "run"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    labs = tmp_path / "labsim" / "labs"
    deadline_s = monotonic_s() + 60
    while not list(labs.glob("*/iso/*.iso")):
        assert monotonic_s() < deadline_s, "no machine has got its ISO"
        wait_s(0.05)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk
    assert list(labs.iterdir()) == []


def test_what_is_asked_of_a_lab_is_printed_in_every_form(tmp_path: Path) -> None:
    labsim("up", SCENARIOS / "label-selector.yaml", "--speed", "200", state=tmp_path)
    try:
        labsim("boot", "*", state=tmp_path)
        narrow = labsim("get", "infraenvs", state=tmp_path).stdout.splitlines()
        assert narrow[0].startswith("NAMESPACE   NAME")
        assert len(labsim("status", "-o", "wide", state=tmp_path).stdout.splitlines()[0].split()) == 7
        assert json.loads(labsim("get", "infraenv", "lab", "-o", "json", state=tmp_path).stdout)["kind"] == "InfraEnv"
        assert "kind: InfraEnv" in labsim("get", "InfraEnv", "-o", "yaml", state=tmp_path).stdout
        assert labsim("get", "ns", "labsim", "-o", "name", state=tmp_path).stdout == "namespace/labsim\n"
        assert "registered" in wait_for_console(tmp_path)
    finally:
        labsim("down", state=tmp_path)


def wait_for_console(state: Path) -> str:
    deadline_s = monotonic_s() + 60
    while "registered" not in (text := labsim("console", "worker-0", state=state).stdout):
        assert monotonic_s() < deadline_s, text
    return text
