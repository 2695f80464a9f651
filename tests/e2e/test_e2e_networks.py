"""Libvirt networks of labs, on a real system libvirtd in namespaces of the test's own."""

from __future__ import annotations

import json
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import own_namespace
import pytest
from own_namespace import SYSTEM, OwnHost

reason = own_namespace.why_not()
pytestmark = [pytest.mark.vm, pytest.mark.skipif(bool(reason), reason=f"no host of its own: {reason}")]

SCENARIO = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {{name: {name}}}
spec:
  lab:
    dns: {dns}
    network: {network}
    infraEnvs: [{{name: pool}}]
    machines: [{{name: worker, infraEnv: pool}}]
  steps: {steps}
"""
STORY = """
    - boot: {machines: worker-*, from: discovery-iso}
    - expect: {agents: all, count: 1, state: known-unbound, within: 20m}
    - approve: {agents: all}
    - createHostedCluster: {name: example, availability: SingleReplica, nodePool: {replicas: 1}}
    - expect: {agents: {cluster: example}, count: 1, state: added-to-existing-cluster, within: 60m}
    - expect: {nodes: {hostedCluster: example}, count: 1, ready: true, within: 15m}
"""
SPEED = "12"
STORY_WITHIN_S = 500
FOREIGN = "<network><name>foreign</name><bridge name='foreign0'/><ip address='192.168.130.1' prefix='24'/></network>"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[OwnHost]:
    started = OwnHost(tmp_path)
    yield started
    started.close()


class Labs:
    """The labsim command on a host."""

    def __init__(self, host: OwnHost, folder: Path) -> None:
        self._host = host
        self._folder = folder

    def scenario(self, name: str, *, network: str, dns: str = "{}", steps: str = "[]") -> Path:
        path = self._folder / f"{name}.yaml"
        path.write_text(SCENARIO.format(name=name, network=network, dns=dns, steps=steps))
        return path

    def run(self, *words: str | Path, ok: int | None = 0, timeout_s: float = 180) -> str:
        environment = {"XDG_STATE_HOME": str(self._folder / "state"), "LABSIM_CONNECT": SYSTEM}
        command = (sys.executable, "-m", "labsim.cli.main", *words)
        done = self._host.run(*command, environment=environment, timeout_s=timeout_s)
        assert ok is None or done.returncode == ok, done.stdout + done.stderr
        return done.stdout

    def up(self, scenario: Path) -> None:
        self.run("up", scenario, "--machines", "libvirt", "--profile", "small")

    def networks_left(self) -> list[dict[str, Any]]:
        """What `labsim leaks` says of networks; other hypervisors of this user may have things of other labs."""
        rows: list[dict[str, Any]] = json.loads(self.run("leaks", "-o", "json", ok=None))
        return [row for row in rows if row["kind"] == "network"]


@pytest.fixture
def labs(host: OwnHost, tmp_path: Path) -> Labs:
    return Labs(host, tmp_path)


def asked(host: OwnHost, server: str, name: str, kind: str = "A") -> list[str]:
    """What a name server in there answers."""
    program = f"from labsim.network.name_server import ask; print(*ask({server!r}, 53, {name!r}, {kind!r}, 5.0))"
    done = host.run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def gateway_of(host: OwnHost, network: str, family: str = "ipv4") -> str:
    definition = ET.fromstring("\n".join(host.virsh("net-dumpxml", network)))
    return next(entry.attrib["address"] for entry in definition.iterfind("ip") if entry.get("family", "ipv4") == family)


def test_a_network_is_made_for_a_lab_answers_its_names_and_goes_with_it(
    host: OwnHost, labs: Labs, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.xml"
    foreign.write_text(FOREIGN)
    host.virsh("net-define", str(foreign))
    labs.up(labs.scenario("one", network="{mode: nat}", dns="{stack: dual}"))
    (network,) = [name for name in host.virsh("net-list", "--name") if name.startswith("labsim-one-")]
    gateway, gateway6 = gateway_of(host, network), gateway_of(host, network, "ipv6")
    assert asked(host, gateway, "assisted-service.labsim.internal") == [gateway]
    assert asked(host, gateway, "assisted-service.labsim.internal", "AAAA") == [gateway6]
    assert asked(host, gateway, "oauth-clusters-example.apps.hub.labsim.internal") == [gateway]
    reserved = [line for line in host.virsh("net-dumpxml", network) if "<host mac=" in line]
    assert len(reserved) == 1
    assert f"name='worker-0' ip='{gateway}0'" in reserved[0]
    assert asked(host, gateway, "nobody.labsim.internal") == []
    labs.run("down", "one")
    assert host.virsh("net-list", "--all", "--name") == ["foreign"]


def test_labs_side_by_side_and_what_the_host_has_already_do_not_collide(host: OwnHost, labs: Labs) -> None:
    for name, mode in (("one", "nat"), ("two", "isolated"), ("three", "nat")):
        labs.up(labs.scenario(name, network=f"{{mode: {mode}}}"))
    networks = host.virsh("net-list", "--name")
    assert len(networks) == 3
    gateways = {gateway_of(host, network) for network in networks}
    assert len({gateway.rsplit(".", 1)[0] for gateway in gateways} | {"192.168.200"}) == 4
    labs.run("down", "--all")
    assert host.virsh("net-list", "--all", "--name") == []


def test_a_named_subnet_that_the_host_has_a_route_to_is_refused(labs: Labs, host: OwnHost) -> None:
    scenario = labs.scenario("one", network="{mode: nat, subnet: 192.168.200.128/25}")
    labs.run("up", scenario, "--machines", "libvirt", "--profile", "small", ok=4)
    assert host.virsh("net-list", "--all", "--name") == []


def test_a_network_of_a_killed_lab_is_found_and_removed(host: OwnHost, labs: Labs, tmp_path: Path) -> None:
    labs.up(labs.scenario("one", network="{mode: isolated}"))
    pid = json.loads((tmp_path / "state" / "labsim" / "labs" / "one" / "lab.json").read_text())["pid"]
    assert host.run("kill", f"-{int(signal.SIGKILL)}", str(pid)).returncode == 0
    (found,) = labs.networks_left()
    assert (found["state"], found["remove"]) == ("dead", "labsim down one")
    labs.run("down", "one")
    assert host.virsh("net-list", "--all", "--name") == []
    assert labs.networks_left() == []


def test_a_lab_that_goes_on_after_its_process_was_killed_has_the_network_that_it_had(
    host: OwnHost, labs: Labs, tmp_path: Path
) -> None:
    labs.up(labs.scenario("one", network="{mode: nat}"))
    (network,) = host.virsh("net-list", "--name")
    before = host.virsh("net-dumpxml", network)
    pid = json.loads((tmp_path / "state" / "labsim" / "labs" / "one" / "lab.json").read_text())["pid"]
    assert host.run("kill", f"-{int(signal.SIGKILL)}", str(pid)).returncode == 0
    labs.run("restart", "one")
    assert host.virsh("net-dumpxml", network) == before
    assert "missing" not in labs.run("dns", "check")
    labs.run("down", "one")
    assert host.virsh("net-list", "--all", "--name") == []


def test_on_a_bridge_of_the_host_the_hub_answers_at_the_hosts_address_there(
    host: OwnHost, labs: Labs, tmp_path: Path
) -> None:
    labs.up(labs.scenario("one", network="{mode: bridge, bridge: outside0}"))
    (network,) = host.virsh("net-list", "--name")
    assert any("<bridge name='outside0'/>" in line for line in host.virsh("net-dumpxml", network))
    url = json.loads((tmp_path / "state" / "labsim" / "labs" / "one" / "lab.json").read_text())["url"]
    port = url.rpartition(":")[2]
    program = (
        "import http.client, ssl; "
        f"asked = http.client.HTTPSConnection('192.168.200.1', {port}, context=ssl._create_unverified_context()); "
        "asked.request('GET', '/version'); print(asked.getresponse().status)"
    )
    assert host.run(sys.executable, "-c", program).stdout.strip() in ("200", "401", "403")
    labs.run("down", "one")
    assert host.virsh("net-list", "--all", "--name") == []
    assert "outside0" in host.run("ip", "-brief", "link").stdout


def test_a_machine_on_a_nat_network_joins_a_hosted_cluster_by_its_names(
    host: OwnHost, labs: Labs, tmp_path: Path
) -> None:
    scenario = labs.scenario("story", network="{mode: nat}", steps=STORY)
    run = tmp_path / "run"
    words = ("run", scenario, "--machines", "libvirt", "--profile", "small", "--speed", SPEED, "--run-dir", run)
    assert "PASSED" in labs.run(*words, timeout_s=STORY_WITHIN_S)
    console = (run / "consoles" / "worker-0.log").read_text(errors="replace")
    assert "GET https://api.example.krnl.es:" in console
    assert host.virsh("net-list", "--all", "--name") == []
