"""A lab that is killed at random points under load, and restarted: whatever it has acknowledged is there.

LABSIM_KILLS says how often (12 by default), LABSIM_KILL_SEED when.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_load import CONFIG_MAPS, Hub, Watcher, Writer

from labsim.controllers.hypershift.create_cluster import CreateClusterOptions, create_cluster_agent_objects
from labsim.edge_time import monotonic_s, wait_s
from labsim.entropy import Entropy
from labsim.model.kinds import AGENT, HOSTED_CLUSTER, NODE_POOL, kind_of
from labsim.model.objects import Object, dig

KILLS = int(os.environ.get("LABSIM_KILLS", "12"))
SEED = os.environ.get("LABSIM_KILL_SEED", "1")
WITHIN_S = 240.0
SCENARIO = """\
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: killed}
spec:
  lab:
    baseDomain: krnl.es
    infraEnvs: [{name: lab}]
    machines: [{name: worker, count: 3, infraEnv: lab, cpus: 4, memory: 16GiB, disk: 120GiB}]
  steps:
    - wait: {for: 1s}
"""


class KilledLab:
    """A lab that `labsim up` has left open in a process of its own."""

    def __init__(self, state: Path) -> None:
        self._environment = {**os.environ, "XDG_STATE_HOME": str(state)}
        self.folder = state / "labsim" / "labs" / "killed"
        self.kubeconfig = self.folder / "kubeconfig"

    def say(self, *arguments: str, code: int = 0) -> str:
        """Run a command that ends with this code. Returns what it has said, about itself too."""
        command = [sys.executable, "-m", "labsim.cli.main", *arguments]
        ended = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=WITHIN_S)
        assert ended.returncode == code, ended.stderr + (self.folder / "lab.log").read_text()
        return ended.stdout + ended.stderr

    @property
    def pid(self) -> int:
        return int(json.loads((self.folder / "lab.json").read_text())["pid"])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[KilledLab]:
    (tmp_path / "killed.yaml").write_text(SCENARIO)
    lab = KilledLab(tmp_path)
    lab.say("up", str(tmp_path / "killed.yaml"), "--speed", "60")
    yield lab
    lab.say("down", "killed")
    assert not lab.folder.exists()


def wait_until(done: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline_s = monotonic_s() + WITHIN_S
    while not done():
        assert monotonic_s() < deadline_s, what()
        wait_s(0.1)


def agents(hub: Hub) -> list[Object]:
    _, found = hub.ask("GET", AGENT.path("labsim"))
    return list(found["items"])


def states(hub: Hub) -> list[str]:
    return sorted(dig(agent, "status", "debugInfo", "state", default="") for agent in agents(hub))


def create_cluster(hub: Hub) -> None:
    """What `hcp create cluster agent` makes, with one replica, and room for all agents."""
    options = CreateClusterOptions(
        name="example",
        namespace="clusters",
        pull_secret='{"auths":{}}',
        agent_namespace="labsim",
        api_server_address="127.0.0.1",
        base_domain="krnl.es",
        infra_id="example-abcde",
        etcd_encryption_key=bytes(32),
        release_image="quay.io/openshift-release-dev/ocp-release:4.20.0-x86_64",
        node_pool_replicas=1,
    )
    for obj in create_cluster_agent_objects(options):
        kind = kind_of(obj)
        status, answer = hub.ask("POST", kind.path(obj["metadata"].get("namespace")), obj)
        assert status == 201 or (status == 409 and kind not in (HOSTED_CLUSTER, NODE_POOL)), answer


def approve(hub: Hub) -> None:
    for agent in agents(hub):
        patch = {"spec": {"approved": True}}
        hub.ask("PATCH", AGENT.path("labsim", agent["metadata"]["name"]), patch, "application/merge-patch+json")


def test_what_was_acknowledged_outlives_every_kill(lab: KilledLab) -> None:
    hub = Hub(lab.kubeconfig)
    lab.say("boot", "*", "--from", "discovery-iso")
    wait_until(lambda: states(hub) == ["known-unbound"] * 3, lambda: states(hub))
    made = {agent["metadata"]["name"]: agent["metadata"]["uid"] for agent in agents(hub)}
    approve(hub)
    create_cluster(hub)
    stop = threading.Event()
    writers = [Writer(lab.kubeconfig, f"writer-{number}", stop) for number in range(3)]
    watcher = Watcher(lab.kubeconfig, stop)
    before = lab.kubeconfig.read_bytes()
    entropy = Entropy(SEED)
    try:
        for number in range(KILLS):
            acknowledged = sum(writer.acknowledged for writer in writers)
            wait_until(
                lambda acknowledged=acknowledged: sum(writer.acknowledged for writer in writers) > acknowledged + 50,  # type: ignore[misc]
                lambda: [writer.problems for writer in writers],
            )
            wait_s(entropy.uniform(f"kill/{number}", 0.0, 1.5))
            lab.kill()
            lab.say("restart", "killed")
            if number == KILLS // 3:
                lab.say("scale", "example", "--replicas", "2")
        hub.close()
        wait_until(lambda: states(hub).count("added-to-existing-cluster") == 2, lambda: states(hub))
    finally:
        stop.set()
        watcher.join()
        for writer in writers:
            writer.join()
    hub.close()
    _, found = hub.ask("GET", CONFIG_MAPS)
    problems = list(watcher.problems)
    for writer in writers:
        writer.check(found)
        problems += writer.problems
    assert problems == []
    assert watcher.resumed > KILLS / 2, f"{watcher.expired} watches were told to list again"
    assert {agent["metadata"]["name"]: agent["metadata"]["uid"] for agent in agents(hub)} == made
    assert lab.kubeconfig.read_bytes() == before


def test_a_disk_that_is_full_ends_the_lab_with_one_line_and_loses_nothing(lab: KilledLab) -> None:
    size = (lab.folder / "state.log").stat().st_size
    resource.prlimit(lab.pid, resource.RLIMIT_FSIZE, (size + 50_000, size + 50_000))  # what a full disk is to it
    stop = threading.Event()
    writer = Writer(lab.kubeconfig, "writer", stop)
    log = lab.folder / "lab.log"
    wait_until(lambda: log.read_text().endswith("it\n"), lambda: writer.acknowledged)
    line, hint = log.read_text().splitlines()
    assert "lab 'killed' has stopped: writing" in line
    assert "File too large" in line
    assert "labsim restart killed" in hint
    assert "File too large" in lab.say("status", "--lab", "killed", code=4)
    acknowledged = writer.acknowledged
    lab.say("restart", "killed")
    wait_until(lambda: writer.acknowledged > acknowledged, lambda: writer.problems)
    stop.set()
    writer.join()
    assert acknowledged > 5
    assert writer.problems == []
