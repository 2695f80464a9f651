"""--hub kind, as far as it goes without a container runtime: what kind is called with, and what is cleaned up.

The real kind, where it is on PATH, runs with a docker that only writes down what it is asked: that shows that kind
takes our configuration, and which container it would start. No cluster was ever started here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import LabError
from labsim.hub.embedded.bare import BareHub
from labsim.hub.kind.command import PROVIDER, KindCommand
from labsim.hub.kind.configuration import configuration
from labsim.kube.users import ADMIN
from labsim.lab.kind import LEDGER_KIND
from labsim.lab.ledger import Ledger

SCENARIO = Path(__file__).parents[2] / "scenarios" / "documentation-layout.yaml"
SYSTEM = "/usr/bin:/bin"
DOCKER = """#!/bin/sh
echo "docker $*" >> {log}
case "$1" in
  info) case "$*" in *format*) echo '{{"SecurityOptions":["name=cgroupns"],"CgroupVersion":"2"}}';; esac;;
  -v) echo "Docker version 27.0.0, build 0";;
  network) echo aaaa;;
  run) echo "no containers here" >&2; exit 125;;
esac
exit 0
"""
# A kind whose cluster is an API server that runs already.
KIND = """#!/bin/sh
echo "kind $*" >> {log}
case "$1 $2" in
  "create cluster")
    cat > {log}.config; echo "$4" > {log}.clusters
    while [ $# -gt 0 ]; do [ "$1" = --kubeconfig ] && cp {kubeconfig} "$2"; shift; done;;
  "delete cluster") rm -f {log}.clusters;;
  "get clusters") cat {log}.clusters 2>/dev/null;;
esac
exit 0
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH beside the system's programs (which have no kind and no working runtime)."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(PROVIDER, raising=False)
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_what_is_missing_is_said_with_a_hint(programs: Path) -> None:
    with pytest.raises(LabError, match="kind is not on PATH") as no_kind:
        KindCommand.found()
    assert "kind.sigs.k8s.io" in no_kind.value.hint
    put(programs, "kind", "#!/bin/sh\n")
    with pytest.raises(LabError, match="docker, podman or nerdctl, which is not on PATH"):
        KindCommand.found()
    put(programs, "docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    with pytest.raises(LabError, match="docker: Cannot connect to the Docker daemon") as dead:
        KindCommand.found()
    assert "docker info" in dead.value.hint
    assert int(dead.value.exit_code) == 4


def test_the_first_runtime_that_answers_is_used(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(programs, "kind", "#!/bin/sh\n")
    put(programs, "docker", "#!/bin/sh\nexit 1\n")
    put(programs, "podman", "#!/bin/sh\nexit 0\n")
    assert KindCommand.found().runtime == "podman"
    monkeypatch.setenv(PROVIDER, "docker")
    with pytest.raises(LabError, match="no container runtime answers"):
        KindCommand.found()


def test_a_failure_of_kind_is_told_by_its_error_line(programs: Path) -> None:
    put(programs, "kind", "#!/bin/sh\necho 'Creating cluster' >&2\necho 'ERROR: failed: port is taken' >&2\nexit 1\n")
    with pytest.raises(LabError, match=r"create the cluster x: ERROR: failed: port is taken"):
        KindCommand("docker").create("x", configuration("x"), programs / "kubeconfig")


def test_the_configuration_maps_what_was_asked_for_and_nothing_else() -> None:
    plain = yaml.safe_load(configuration("labsim-x"))
    assert plain["networking"] == {"apiServerAddress": "127.0.0.1"}
    assert plain["nodes"] == [{"role": "control-plane"}]
    mapped = yaml.safe_load(configuration("labsim-x", image="kindest/node:v1.34.0", node_ports=[30080]))["nodes"][0]
    assert mapped["image"] == "kindest/node:v1.34.0"
    assert mapped["extraPortMappings"] == [
        {"containerPort": 30080, "hostPort": 30080, "listenAddress": "127.0.0.1", "protocol": "TCP"}
    ]


@pytest.mark.skipif(shutil.which("kind") is None, reason="kind is not on PATH; install it: https://kind.sigs.k8s.io")
def test_the_real_kind_takes_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    put(tmp_path, "docker", DOCKER.format(log=log))
    (tmp_path / "kind").symlink_to(str(shutil.which("kind")))
    monkeypatch.setenv("PATH", f"{tmp_path}:{SYSTEM}")
    monkeypatch.delenv(PROVIDER, raising=False)
    kind = KindCommand.found()
    text = configuration("labsim-x", image="kindest/node:v1.34.0", node_ports=[30080, 30443])
    with pytest.raises(LabError, match="kind could not create the cluster labsim-x"):
        kind.create("labsim-x", text, tmp_path / "kubeconfig")
    started = next(line for line in log.read_text().splitlines() if line.startswith("docker run"))
    assert "--publish=127.0.0.1:30080:30080/TCP" in started
    assert "--publish=127.0.0.1:30443:30443/TCP" in started
    assert "--name labsim-x-control-plane" in started
    assert started.endswith("kindest/node:v1.34.0")
    kind.delete("labsim-x", tmp_path / "kubeconfig")
    assert kind.clusters() == []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """A folder with a kind whose clusters are an API server of this process, and a docker that answers."""
    folder = tmp_path / "fake"
    folder.mkdir()
    hub = BareHub({"the-token": ADMIN})
    hub.write_kubeconfig(folder / "theirs", "the-token", "admin")
    put(folder, "kind", KIND.format(log=folder / "log", kubeconfig=folder / "theirs"))
    put(folder, "docker", "#!/bin/sh\nexit 0\n")
    yield folder
    hub.close()


def start(cluster: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PATH": f"{cluster}:{os.environ['PATH']}", "XDG_STATE_HOME": str(cluster)}
    command = [sys.executable, "-m", "labsim.cli.main", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cluster
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    return output


def test_a_lab_makes_its_cluster_and_deletes_it(cluster: Path) -> None:
    finished(start(cluster, "up", SCENARIO, "--hub", "kind", "--name", "k", "--kind-port", "30080"))
    try:
        name = (cluster / "log.clusters").read_text().strip()
        assert name.startswith("labsim-k-")
        assert yaml.safe_load((cluster / "log.config").read_text())["nodes"][0]["extraPortMappings"]
        finished(start(cluster, "boot", "*", "--lab", "k"))
        rows = json.loads(finished(start(cluster, "status", "--lab", "k", "-o", "json")))
        assert rows
    finally:
        finished(start(cluster, "down", "k"))
    calls = (cluster / "log").read_text().splitlines()
    assert calls[0].startswith(f"kind create cluster --name {name} --config - --kubeconfig ")
    assert calls[-1].startswith(f"kind delete cluster --name {name} ")
    assert not (cluster / "log.clusters").exists()


def test_down_after_kill_9_deletes_the_cluster_by_the_ledger(cluster: Path) -> None:
    run = cluster / "run"
    running = start(cluster, "run", SCENARIO, "--hub", "kind", "--run-dir", run)
    try:
        deadline_s = monotonic_s() + 60
        while not (cluster / "log.clusters").exists() and running.poll() is None and monotonic_s() < deadline_s:
            wait_s(0.05)
    finally:
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=10)
    assert [entry.kind for entry in Ledger(run / "ledger.jsonl").pending()] == [LEDGER_KIND]
    finished(start(cluster, "down", run))
    assert not (cluster / "log.clusters").exists()
    assert not Ledger(run / "ledger.jsonl").pending()


def test_without_kind_a_run_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "labsim.cli.main", "run", str(SCENARIO), "--hub", "kind"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 4
    assert "kind is not on PATH" in done.stderr
    assert list(tmp_path.rglob("ledger.jsonl")) == []
