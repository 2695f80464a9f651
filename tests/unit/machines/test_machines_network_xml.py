"""Networks of libvirt: what is rendered for each mode, and what is read back."""

from __future__ import annotations

import dataclasses
import ipaddress
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from labsim.machines.libvirt import network_xml as xml
from labsim.machines.libvirt.host_routes import host_networks
from labsim.network.zone import Record

SPEC = xml.NetworkSpec(
    name="labsim-one",
    uuid="6c1d0a52-5b5f-4f2e-9a30-6f8c0e4fd201",
    bridge="lab0123456789",
    mode="nat",
    subnet="192.168.150.0/24",
    folder="/state/labs/one",
    records=(Record("hub.labsim.internal", "192.168.150.1"), Record("*.apps.hub.labsim.internal", "192.168.150.1")),
    forwards=(("krnl.es", "127.0.0.1#5353"),),
)
DNSMASQ = "{http://libvirt.org/schemas/network/dnsmasq/1.0}"


def rendered(**changes: object) -> ET.Element:
    return ET.fromstring(xml.network_xml(dataclasses.replace(SPEC, **changes), lab="one-1234"))  # type: ignore[arg-type]


def test_a_nat_network_has_its_gateway_first_and_serves_the_rest() -> None:
    root = rendered()
    assert root.find("forward").attrib == {"mode": "nat"}  # type: ignore[union-attr]
    assert root.find("ip").attrib == {"address": "192.168.150.1", "prefix": "24"}  # type: ignore[union-attr]
    assert root.find("./ip/dhcp/range").attrib == {"start": "192.168.150.2", "end": "192.168.150.254"}  # type: ignore[union-attr]


def test_names_are_the_networks_and_wildcards_and_domains_are_dnsmasqs() -> None:
    root = rendered()
    assert [(host.get("ip"), host.findtext("hostname")) for host in root.iterfind("./dns/host")] == [
        ("192.168.150.1", "hub.labsim.internal")
    ]
    options = [option.get("value") for option in root.iter(f"{DNSMASQ}option")]
    assert options == ["address=/apps.hub.labsim.internal/192.168.150.1", "server=/krnl.es/127.0.0.1#5353"]


def test_an_isolated_network_leads_nowhere() -> None:
    assert rendered(mode="isolated").find("forward") is None


def test_a_dual_stack_network_announces_its_second_subnet() -> None:
    root = rendered(subnet6="fd12:3456:789a:bc00::/64")
    second = root.findall("ip")[1]
    assert second.attrib == {"family": "ipv6", "address": "fd12:3456:789a:bc00::1", "prefix": "64"}
    assert root.find("./forward/nat").get("ipv6") == "yes"  # type: ignore[union-attr]
    assert xml.subnets_of(ET.tostring(root, encoding="unicode")) == [
        ipaddress.ip_network("192.168.150.0/24"),
        ipaddress.ip_network("fd12:3456:789a:bc00::/64"),
    ]


def test_a_bridge_of_the_host_keeps_its_own_addresses_and_names() -> None:
    root = rendered(mode="bridge", bridge="br0", subnet="")
    assert root.find("forward").attrib == {"mode": "bridge"}  # type: ignore[union-attr]
    assert root.find("bridge").attrib == {"name": "br0"}  # type: ignore[union-attr]
    assert root.find("ip") is None
    assert root.find("dns") is None


def test_the_mark_is_read_back_and_nothing_else_is_taken_for_one() -> None:
    text = xml.network_xml(SPEC, lab="one-1234")
    assert xml.mark_of_network(text) == xml.NetworkMark(lab="one-1234", folder=Path("/state/labs/one"))
    assert xml.mark_of_network("<network><name>labsim-one</name></network>") is None


def test_reservations_are_handed_out_in_order_and_keep_clear_of_each_other() -> None:
    text = xml.network_xml(SPEC, lab="x")
    for number in (10, 11, 12):
        address = xml.next_reservation(text, SPEC.subnet)
        assert address == f"192.168.150.{number}"
        root = ET.fromstring(text)
        dhcp = root.find("./ip/dhcp")
        assert dhcp is not None
        dhcp.append(ET.fromstring(xml.reservation_xml(f"52:54:00:00:00:{number}", f"worker-{number}", address)))
        text = ET.tostring(root, encoding="unicode")
    assert xml.reserved_addresses(text)["52:54:00:00:00:11"] == "192.168.150.11"


def test_a_full_subnet_has_no_address_left() -> None:
    subnet = "192.168.150.0/29"
    hosts = "".join(f'<host mac="m{n}" ip="192.168.150.{n}"/>' for n in range(6, 7))
    with pytest.raises(ValueError, match="no address left"):
        xml.next_reservation(f"<network><ip><dhcp>{hosts}</dhcp></ip></network>", subnet)


def test_a_bridge_name_that_no_kernel_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 15"):
        dataclasses.replace(SPEC, bridge="a-bridge-with-a-long-name")


def test_the_hosts_routes_are_read_in_both_families(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "virbr0\t007AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    zeros = "0" * 32
    (tmp_path / "ipv6_route").write_text(
        f"fd00000000000000{'0' * 16} 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 eth0\n"
        f"{'0' * 31}1 80 {zeros} 00 {zeros} 00000000 00000002 00000000 80200001 lo\n"
    )
    assert host_networks(tmp_path) == [
        ipaddress.ip_network("0.0.0.0/0"),
        ipaddress.ip_network("192.168.122.0/24"),
        ipaddress.ip_network("fd00::/64"),
    ]
    assert host_networks(tmp_path / "nowhere") == []
