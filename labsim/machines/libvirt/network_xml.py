"""Networks of libvirt: rendered from vm-templates/, and read back. Pure: no hypervisor is touched."""

from __future__ import annotations

import dataclasses
import ipaddress
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Literal

from labsim.machines.libvirt.domain_xml import NAMESPACE, templates
from labsim.network.zone import WILDCARD, Record

NETWORK_METADATA = f"./metadata/{{{NAMESPACE}}}network"
_BRIDGE_NAME_LENGTH_MAX = 15
_FIRST_RESERVED = 10  # of a subnet: below it are the gateway and whatever a person puts there by hand

Mode = Literal["nat", "isolated", "bridge"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A lab's own network.

    mode: `nat` reaches the outside through the host, `isolated` the host alone, `bridge` puts the machines on a bridge
    that is there already, whose own DHCP and DNS they use. subnet, subnet6: IPv4 with DHCP, IPv6 with router
    advertisements; "" for none. folder: the lab's, for whoever finds the network after the lab. records: what the
    network's name server answers; forwards: (domain, "ADDRESS#PORT") of the server that knows a domain.
    """

    name: str
    uuid: str
    bridge: str
    mode: Mode
    subnet: str = ""
    subnet6: str = ""
    folder: str = ""
    records: tuple[Record, ...] = ()
    forwards: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if len(self.bridge) > _BRIDGE_NAME_LENGTH_MAX:
            raise ValueError(f"bridge name {self.bridge!r} is longer than {_BRIDGE_NAME_LENGTH_MAX} characters")

    @property
    def gateway(self) -> str:
        """The host's address, where machines find the hub."""
        return str(ipaddress.IPv4Network(self.subnet)[1]) if self.subnet else ""

    @property
    def gateway6(self) -> str:
        return str(ipaddress.IPv6Network(self.subnet6)[1]) if self.subnet6 else ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMark:
    """Whose a network is: the lab's mark, and the lab's folder."""

    lab: str
    folder: Path | None


def network_xml(network: NetworkSpec, *, lab: str) -> str:
    """The definition of a lab's network: the first address is the host's, DHCP serves the others."""
    subnet = ipaddress.IPv4Network(network.subnet) if network.subnet else None
    plain = [record for record in network.records if not record.name.startswith(WILDCARD)]
    options = [record.dnsmasq_line for record in network.records if record.name.startswith(WILDCARD)]
    options += [f"server=/{domain}/{server}" for domain, server in network.forwards]
    names: dict[str, list[str]] = {}
    for record in plain:
        names.setdefault(record.address, []).append(record.name)
    return (
        templates()
        .get_template("network.xml.j2")
        .render(
            first="" if subnet is None else str(subnet[2]),
            lab=lab,
            last="" if subnet is None else str(subnet[-2]),
            names=names,
            namespace=NAMESPACE,
            network=network,
            options=options,
            prefix="" if subnet is None else subnet.prefixlen,
        )
    )


def mark_of_network(definition: str) -> NetworkMark | None:
    """The mark in a network's definition; None for one that carries none of ours."""
    element = ET.fromstring(definition).find(NETWORK_METADATA)  # noqa: S314 - written by the user's own hypervisor
    if element is None or not element.get("lab"):
        return None
    folder = element.get("folder")
    return NetworkMark(lab=element.get("lab", ""), folder=Path(folder) if folder else None)


def subnets_of(definition: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The subnets that a network has, also while it is not started and the host has no route to them."""
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for element in ET.fromstring(definition).iterfind("./ip"):  # noqa: S314
        size = element.get("prefix") or element.get("netmask") or "32"
        found.append(ipaddress.ip_network(f"{element.attrib['address']}/{size}", strict=False))
    return found


def reserved_addresses(definition: str) -> dict[str, str]:
    """Address by MAC, of the reservations of a network."""
    hosts = ET.fromstring(definition).iterfind("./ip/dhcp/host")  # noqa: S314
    return {host.get("mac", "").lower(): host.get("ip", "") for host in hosts if host.get("mac")}


def next_reservation(definition: str, subnet: str) -> str:
    """The first address that no machine has reserved. Raises ValueError where the subnet is full."""
    taken = set(reserved_addresses(definition).values())
    network = ipaddress.IPv4Network(subnet)
    for number in range(min(_FIRST_RESERVED, network.num_addresses - 2), network.num_addresses - 1):
        if str(network[number]) not in taken:
            return str(network[number])
    raise ValueError(f"{subnet} has no address left")


def reservation_xml(mac: str, name: str, address: str) -> str:
    """The DHCP reservation of a card, under whose name it is served too."""
    return ET.tostring(ET.Element("host", {"mac": mac, "name": name, "ip": address}), encoding="unicode")
