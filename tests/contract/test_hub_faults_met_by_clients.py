"""Real clients while a fault is on: the official Python client, and kubectl."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labsim.hub.embedded.clients import HubClients
from labsim.lab.hub_faults import carry_hub_command
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.serving import Serving
from labsim.model.scenario import load_scenario
from labsim.world.pace import RealPace

kubernetes = pytest.importorskip("kubernetes", reason="the Python client is missing; pip install kubernetes")
from kubernetes import client, config, watch  # noqa: E402
from kubernetes.client.rest import ApiException  # noqa: E402
from urllib3.exceptions import HTTPError  # noqa: E402

SPEC = load_scenario(Path(__file__).parents[2] / "scenarios" / "label-selector.yaml").spec.lab
WITHIN_S = 60
CONTROLLER = {"program": "controller/*"}
KUBECTL = {"program": "kubectl/*"}
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")


class OpenHub:
    """A lab's hub on a socket, its world running, and the faults of its clients."""

    def __init__(self, folder: Path) -> None:
        self.serving = Serving()
        self.lab = Lab(SPEC, LabOptions(name="faults", folder=folder, pace=RealPace(0.0, 10.0), start_s=0.0))
        self.serving.attach(self.lab)
        self.kubeconfig = folder / "kubeconfig"
        self.serving.write_kubeconfig(self.kubeconfig)
        world = self.lab.world
        self._thread = threading.Thread(target=lambda: world.run_until(lambda: False, 1e12), daemon=True)
        self._thread.start()

    def fault(self, fault: str, who: dict[str, str] | None = None, **command: Any) -> list[Any]:
        given = {"fault": fault, "who": {**(who or {}), "kind": "configmaps"}, **command}
        return self.lab.world.post(lambda: carry_hub_command(self.lab.clients, given)).result(WITHIN_S)

    def held(self) -> int:
        """How many events are held back from the watches that are open."""
        clients = self.lab.clients
        assert isinstance(clients, HubClients)
        return self.lab.world.post(lambda: sum(stream.held for stream in clients._open)).result(WITHIN_S)

    def core(self, program: str) -> Any:
        made = config.new_client_from_config(config_file=str(self.kubeconfig))
        made.user_agent = program
        return client.CoreV1Api(made)

    def close(self) -> None:
        self.serving.close()
        self.lab.world.stop()
        self._thread.join(WITHIN_S)
        self.lab.remove()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[OpenHub]:
    made = OpenHub(tmp_path)
    try:
        yield made
    finally:
        made.close()


def make(core: Any, name: str) -> Any:
    return core.create_namespaced_config_map("default", {"metadata": {"name": name}})


class Listed:
    """What a controller does: a list of what is in the cache, then a watch from there, in a thread of its own."""

    def __init__(self, core: Any) -> None:
        found = core.list_namespaced_config_map("default", resource_version="0")
        self.names = [item.metadata.name for item in found.items]
        self.events: list[str] = []
        self.heard = threading.Semaphore(0)
        self.failed: Exception | None = None
        self._watch = watch.Watch()
        self._core, self._from = core, found.metadata.resource_version
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._watch.stream(
                self._core.list_namespaced_config_map, "default", resource_version=self._from, _request_timeout=WITHIN_S
            ):
                self.events.append(f"{event['type']} {event['object'].metadata.name}")
                self.heard.release()
        except (HTTPError, ApiException) as problem:
            self.failed = problem
            self.heard.release()

    def hears(self, count: int) -> list[str]:
        """The events so far, when there are `count` more (or the watch has failed)."""
        for _ in range(count):
            assert self.heard.acquire(timeout=WITHIN_S), self.events
        return self.events


def watched(hub: OpenHub, program: str) -> None:
    """Wait until a program's watch is open."""
    clients = hub.lab.clients
    assert clients is not None
    for _ in range(WITHIN_S * 10):
        rows = hub.lab.world.post(clients.rows).result(WITHIN_S)
        if any(row["program"].startswith(program) and "configmaps" in row["watching"] for row in rows):
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"{program} watches nothing")


def test_a_frozen_controller_lists_and_watches_the_past_and_catches_up_when_it_thaws(hub: OpenHub) -> None:
    other, core = hub.core("other/v1"), hub.core("controller/v1")
    make(other, "a")
    hub.fault("freeze", CONTROLLER)
    make(other, "b")
    stale, fresh = Listed(core), Listed(other)
    assert (stale.names, fresh.names) == (["a"], ["a", "b"])
    watched(hub, "controller/")
    watched(hub, "other/")
    make(other, "c")
    assert fresh.hears(1) == ["ADDED c"]
    assert (stale.events, hub.held()) == ([], 2)
    assert core.read_namespaced_config_map("c", "default").metadata.name == "c"  # a read of its own is up to date
    assert hub.fault("clear") == ["fault 1 is off"]
    assert stale.hears(2) == ["ADDED b", "ADDED c"]


def test_a_delayed_controller_hears_it_after_everybody_else(hub: OpenHub) -> None:
    other, core = hub.core("other/v1"), hub.core("controller/v1")
    late, fresh = Listed(core), Listed(other)
    watched(hub, "controller/")
    watched(hub, "other/")
    hub.fault("delay", CONTROLLER, seconds=20.0)
    make(other, "a")
    assert fresh.hears(1) == ["ADDED a"]
    assert late.events == []
    assert late.hears(1) == ["ADDED a"]


def test_a_reset_watch_fails_as_a_network_does(hub: OpenHub) -> None:
    listed = Listed(hub.core("controller/v1"))
    watched(hub, "controller/")
    assert hub.fault("cut", CONTROLLER, how="reset") == ["1 watch(es) cut: reset"]
    listed.hears(1)
    assert isinstance(listed.failed, HTTPError)


def test_who_has_expired_is_refused_until_it_lists_again(hub: OpenHub) -> None:
    other = hub.core("other/v1")
    make(other, "a")
    listed = Listed(hub.core("controller/v1"))
    watched(hub, "controller/")
    make(other, "b")
    assert listed.hears(1) == ["ADDED b"]
    hub.fault("cut", CONTROLLER, how="expired")
    listed.hears(1)  # the Python client tries to go on by itself, twice
    assert isinstance(listed.failed, ApiException)
    assert listed.failed.status == 410
    anew = Listed(hub.core("controller/v1"))
    watched(hub, "controller/")
    make(other, "c")
    assert (anew.names, anew.hears(1)) == (["a", "b"], ["ADDED c"])


def test_a_create_whose_answer_is_lost_was_carried_out(hub: OpenHub) -> None:
    core = hub.core("controller/v1")
    hub.fault("lose-answer", CONTROLLER)
    with pytest.raises(HTTPError):
        make(core, "a")
    with pytest.raises(ApiException) as again:
        make(core, "a")
    assert again.value.status == 409


def test_a_write_that_times_out_was_carried_out(hub: OpenHub) -> None:
    core = hub.core("controller/v1")
    hub.fault("lose-answer", CONTROLLER, how="timeout")
    with pytest.raises(ApiException) as late:
        make(core, "a")
    assert late.value.status == 504
    assert core.read_namespaced_config_map("a", "default")


@pytest.fixture
def environment(hub: OpenHub, tmp_path: Path) -> dict[str, str]:
    return {"KUBECONFIG": str(hub.kubeconfig), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}


def kubectl(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "-n", "default", *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=WITHIN_S, check=False)


@needs_kubectl
@pytest.mark.kubectl
def test_kubectl_is_silent_while_it_is_frozen_and_ends_when_it_is_cut(
    hub: OpenHub, environment: dict[str, str]
) -> None:
    other = hub.core("other/v1")
    make(other, "a")
    command = ["kubectl", "-n", "default", "get", "configmaps", "-w", "--no-headers"]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    watchdog = threading.Timer(WITHIN_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline().split()[0] == "a"
        watched(hub, "kubectl/")
        hub.fault("freeze", KUBECTL)
        make(other, "b")
        assert hub.held() == 1
        hub.fault("clear")
        assert process.stdout.readline().split()[0] == "b"
        hub.fault("cut", KUBECTL)
        assert process.stdout.read() == ""
        assert process.wait(WITHIN_S) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(WITHIN_S)
        if process.stdout is not None:
            process.stdout.close()


@needs_kubectl
@pytest.mark.kubectl
def test_kubectl_believes_a_write_that_is_lost(hub: OpenHub, environment: dict[str, str]) -> None:
    hub.fault("lose-write", KUBECTL, dataLoss=True)
    assert kubectl(environment, "create", "configmap", "a").stdout == "configmap/a created\n"
    gone = kubectl(environment, "get", "configmap", "a")
    assert (gone.returncode, "NotFound" in gone.stderr) == (1, True)
