"""A shipped scenario on a cluster: the embedded hub served bare, and a real kube-apiserver where one is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubehttp_serving import SERVERS
from real_api_server import real_api_server

from labsim.hub.embedded.bare import BareHub
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.hub.plain.marks import labs_of
from labsim.kube.users import ADMIN
from labsim.model.kinds import AGENT, CUSTOM_RESOURCE_DEFINITION, NAMESPACE

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.fixture(scope="module", params=SERVERS)
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cluster")
    if request.param == "kube-apiserver":
        with real_api_server(folder) as real:
            yield real.kubeconfig
        return
    hub = BareHub({"the-token": ADMIN})
    hub.write_kubeconfig(folder / "kubeconfig", "the-token", "admin")
    yield folder / "kubeconfig"
    hub.close()


def labsim(*arguments: object, state: Path, within_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labsim.cli.main", *map(str, arguments)]
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=within_s, check=False, cwd=state, env=environment
    )


@pytest.mark.parametrize("name", ["scale-down-and-reuse", "hosted-cluster-deleted-and-agents-reused"])
def test_a_scenario_passes_and_nothing_is_left(kubeconfig: Path, name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = labsim(
        "run", SCENARIOS / f"{name}.yaml", "--hub", "plain", "--kubeconfig", kubeconfig, "--speed", 60,
        "--run-dir", run, state=tmp_path, within_s=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert labsim("check", run, state=tmp_path, within_s=60).returncode == 0
    left(kubeconfig)


def test_a_lab_that_is_left_open_is_looked_at_with_its_own_kubeconfig(kubeconfig: Path, tmp_path: Path) -> None:
    up = labsim(
        "up", SCENARIOS / "documentation-layout.yaml", "--hub", "plain", "--kubeconfig", kubeconfig, "--name", "open",
        state=tmp_path, within_s=120,
    )  # fmt: skip
    assert up.returncode == 0, up.stderr
    try:
        own = tmp_path / "labsim" / "labs" / "open" / "kubeconfig"
        assert own.stat().st_mode & 0o777 == 0o600
        assert labsim("boot", "*", state=tmp_path, within_s=60).returncode == 0
        cluster = ClusterConnection(ClusterAccess(kubeconfig=own))
        try:
            assert any(labs_of(item) for item in cluster.call("GET", NAMESPACE.path())["items"])
            assert cluster.call("GET", AGENT.path())["kind"] == "AgentList"
        finally:
            cluster.close()
        rows = json.loads(labsim("status", "--lab", "open", "-o", "json", state=tmp_path, within_s=60).stdout)
        assert rows
    finally:
        down = labsim("down", "open", state=tmp_path, within_s=120)
    assert down.returncode == 0, down.stderr
    left(kubeconfig)


def left(kubeconfig: Path) -> None:
    """Nothing of any lab is on the cluster."""
    cluster = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig))
    try:
        for kind in (CUSTOM_RESOURCE_DEFINITION, NAMESPACE):
            assert not [item for item in cluster.call("GET", kind.path())["items"] if labs_of(item)]
    finally:
        cluster.close()
