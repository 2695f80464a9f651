"""The network that a lab asks for, planned around what the host has."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from labsim.errors import InvalidFile, LabError, UsageError
from labsim.lab.lab_network import NetworkPlace, plan_network
from labsim.lab.lab_request import LabRequest
from labsim.lab.virtual_machines import open_libvirt_lab
from labsim.machines.libvirt.network_xml import NetworkSpec
from labsim.model.scenario import LabSpec, parse_scenario

SCENARIO = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {{name: networks}}
spec:
  lab:
    dns: {{stack: {stack}}}
    network: {network}
    infraEnvs: [{{name: pool}}]
    machines: [{{name: worker, infraEnv: pool}}]
  steps: []
"""
TAKEN = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("192.168.122.0/24")]


def lab(network: str, stack: str = "IPv4") -> LabSpec:
    return parse_scenario(SCENARIO.format(network=network, stack=stack)).spec.lab


def planned(network: str, stack: str = "IPv4", mark: str = "one-1234abcd") -> NetworkSpec:
    place = NetworkPlace(mark=mark, folder=Path("/state/one"), uri="qemu:///system")
    return plan_network(lab(network, stack), place, TAKEN, name_server_port=5353)


def test_a_nat_network_is_the_labs_own_by_name_bridge_and_uuid() -> None:
    one, two = planned("{mode: nat}"), planned("{mode: nat}", mark="one-99999999")
    assert (one.name, one.mode) == ("labsim-one-1234abcd", "nat")
    assert len({one.uuid, two.uuid}) == len({one.bridge, two.bridge}) == 2
    assert planned("{mode: nat}") == one


def test_the_networks_name_server_has_the_hub_and_asks_the_lab_for_hosted_clusters() -> None:
    network = planned("{mode: isolated}", "dual")
    of_service = [entry.address for entry in network.records if entry.name.startswith("assisted-service")]
    assert of_service == [network.gateway, network.gateway6]
    assert ("krnl.es", "127.0.0.1#5353") in network.forwards


def test_a_bridge_of_the_host_has_nothing_of_the_labs() -> None:
    network = planned("{mode: bridge, bridge: br0}")
    assert (network.bridge, network.subnet, network.records, network.forwards) == ("br0", "", (), ())


def test_a_named_subnet_is_taken_unless_the_host_has_it() -> None:
    assert planned("{mode: nat, subnet: 10.9.8.0/24}").gateway == "10.9.8.1"
    with pytest.raises(LabError, match=r"overlaps 192\.168\.122\.0/24"):
        planned("{mode: nat, subnet: 192.168.122.0/25}")


@pytest.mark.parametrize(
    ("network", "mistake"),
    [
        ("{mode: bridge}", "mode bridge and a bridge's name go together"),
        ("{mode: nat, bridge: br0}", "mode bridge and a bridge's name go together"),
        ("{mode: user, subnet: 10.0.0.0/24}", "a subnet goes with nat and isolated"),
        ("{mode: nat, subnet: 10.0.0.0/30}", "too small"),
        ("{mode: nat, subnet: 10.0.0.1/24}", "has host bits set"),
    ],
)
def test_what_makes_no_network_is_a_mistake_in_the_file(network: str, mistake: str) -> None:
    with pytest.raises(InvalidFile, match=mistake):
        lab(network)


@pytest.mark.parametrize(("network", "stack"), [("{mode: nat}", "IPv4"), ("{}", "dual")])
def test_what_a_session_cannot_have_is_refused_before_anything_is_made(
    tmp_path: Path, network: str, stack: str
) -> None:
    request = LabRequest(name="one", folder=tmp_path / "lab", machines="libvirt")
    with pytest.raises(UsageError, match=r"lab\.(network\.mode|dns\.stack) is"):
        open_libvirt_lab(lab(network, stack), request)
    assert not (tmp_path / "lab").exists()
