"""The step that looks at the other hosts of the cluster. Source: host-lifecycle 3.5.

Every host asks about all others, so N hosts make N times N answers of this. What is asked and told about one host is a
text of its own, which is read and written once for all who ask and find the same.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from labsim.guest import json_text
from labsim.guest.effects import Ping, Task, read_text
from labsim.guest.inventory_network import read_interfaces
from labsim.guest.service import ServiceAccess
from labsim.guest.steps.context import StepContext, StepResult, json_argument, json_output

HOSTS_REMEMBERED = 8192
_START, _NEXT, _END = '[{"host_id":', '},{"host_id":', "}]"


class _Other(NamedTuple):
    """A host that is asked about; `macs` are those of the addresses' NICs."""

    host_id: str
    addresses: tuple[str, ...]
    macs: tuple[str, ...]


class _Network(NamedTuple):
    """A network that a NIC has an address on."""

    version: int
    mask: int
    start: int
    nic: str
    own_address: str


def check_connectivity(_context: StepContext, _access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Which addresses of the other hosts answer (layer 3), and which the neighbour table then knows (layer 2)."""
    hosts = _hosts(arguments)
    addresses = tuple(itertools.chain.from_iterable(map(_addresses_of, map(_other, hosts))))
    round_trips: tuple[float | None, ...] = yield Ping(addresses)
    neighbours = _neighbours((yield from read_text("/proc/net/arp", "")))
    networks = _own_networks((yield from read_interfaces()))
    if not neighbours and len(set(round_trips)) == 1:
        places = tuple(network._replace(own_address="") for network in networks)  # told with a neighbour only
        remote = list(map(_Reports.of(places, round_trips[0]).__getitem__, hosts))
    else:
        times = iter(round_trips)
        remote = [_told(_other(text), networks, times, neighbours) for text in hosts]
    return StepResult('{"remote_hosts":[' + ",".join(remote) + "]}")


def _hosts(arguments: list[str]) -> list[str]:
    """What is asked about each host: the text of its object from the host's ID on, without the last brace.

    A quote stands in JSON at the ends of a text only, unless it is escaped: so the separator is nowhere but between
    two objects, and where each part by itself is an object, that is what all of it says.
    """
    text = arguments[0] if arguments else ""
    if text.startswith(_START) and text.endswith(_END):
        parts = text[len(_START) : -len(_END)].split(_NEXT)
        try:
            for part in parts:
                _other(part)
        except ValueError:  # the separator stood deeper down
            pass
        else:
            return parts
    found: list[dict[str, Any]] = json_argument(arguments) or []
    return [json_output({"host_id": "", **host})[len(_START) - 1 : -1] for host in found]


@functools.lru_cache(maxsize=HOSTS_REMEMBERED)
def _other(text: str) -> _Other:
    """The host that a part of `_hosts` asks about."""
    host = json_text.read(_START[1:] + text + "}")
    pairs = [
        (str(address).partition("/")[0], str(nic.get("mac", "")).lower())
        for nic in host.get("nics") or []
        for address in nic.get("ip_addresses") or []
    ]
    return _Other(str(host["host_id"]), tuple(address for address, _ in pairs), tuple(mac for _, mac in pairs))


_addresses_of = operator.itemgetter(_Other._fields.index("addresses"))


class _Reports(dict[str, str]):
    """What is told about hosts that all answer in the same time and are no neighbours, by what is asked."""

    def __init__(self, networks: tuple[_Network, ...], round_trip_ms: float | None) -> None:
        self._networks = networks
        self._round_trip_ms = round_trip_ms

    @classmethod
    @functools.lru_cache(maxsize=8)
    def of(cls, networks: tuple[_Network, ...], round_trip_ms: float | None) -> _Reports:
        """Hosts on the same networks find the same about each other."""
        return cls(networks, round_trip_ms)

    def __missing__(self, text: str) -> str:
        if len(self) >= HOSTS_REMEMBERED:
            self.clear()
        told = self[text] = _told(_other(text), self._networks, itertools.repeat(self._round_trip_ms), {})
        return told


def _told(
    other: _Other, networks: tuple[_Network, ...], round_trips: Iterator[float | None], neighbours: Mapping[str, str]
) -> str:
    """What was found about a host, as JSON. Round trips are taken one for each address; None is no answer."""
    layer2: list[dict[str, Any]] = []
    layer3: list[dict[str, Any]] = []
    for address, mac in zip(other.addresses, other.macs, strict=True):
        nic, own_address = _outgoing(networks, address)
        round_trip = next(round_trips)
        entry: dict[str, Any] = {"outgoing_nic": nic, "remote_ip_address": address}
        if round_trip is not None:
            entry |= {"successful": True, "average_rtt_ms": round_trip}
        else:
            entry["packet_loss_percentage"] = 100
        layer3.append(entry)
        seen_mac = neighbours.get(address)
        if seen_mac is not None:
            layer2.append(
                {
                    "outgoing_nic": nic,
                    "outgoing_ip_address": own_address,
                    "remote_ip_address": address,
                    "remote_mac": seen_mac,
                    "successful": seen_mac == mac,
                }
            )
    report = {"host_id": other.host_id, "l2_connectivity": layer2, "l3_connectivity": layer3, "mtu_report": []}
    return json_output(report)


def _neighbours(arp_table: str) -> dict[str, str]:
    """IP address to MAC, of the complete entries of /proc/net/arp."""
    rows = [line.split() for line in arp_table.splitlines()[1:]]
    return {row[0]: row[3].lower() for row in rows if len(row) > 3 and int(row[2], 16) & 2}


def _own_networks(interfaces: list[dict[str, Any]]) -> tuple[_Network, ...]:
    found: list[_Network] = []
    for interface in interfaces:
        for own in (*interface["ipv4_addresses"], *interface["ipv6_addresses"]):
            network = ipaddress.ip_interface(own).network
            place = int(network.netmask), int(network.network_address)
            found.append(_Network(network.version, *place, str(interface["name"]), str(own).partition("/")[0]))
    return tuple(found)


def _outgoing(networks: tuple[_Network, ...], address: str) -> tuple[str, str]:
    """The NIC (and its address) on whose network `address` is; the first one with an address otherwise."""
    parsed = ipaddress.ip_address(address)
    number = int(parsed)
    for network in networks:
        if network.version == parsed.version and number & network.mask == network.start:
            return network.nic, network.own_address
    return (networks[0].nic, networks[0].own_address) if networks else ("", "")
