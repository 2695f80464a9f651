"""The network interfaces, addresses and routes of a machine, out of /sys/class/net and /proc/net."""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Any

from labsim.guest.effects import ListDir, ReadLink, Task, read_text

FLAGS = ((0x1, "up"), (0x2, "broadcast"), (0x8, "loopback"), (0x10, "pointtopoint"), (0x1000, "multicast"))
IPV4_FAMILY, IPV6_FAMILY = 2, 10
LINK_LOCAL_SCOPE, HOST_SCOPE = "20", "10"
ROUTE_UP = 0x1
IPV6_ROUTE_LOCAL = 0x80000000  # RTF_LOCAL: the machine's own addresses

Route = dict[str, Any]


def read_interfaces() -> Task[list[dict[str, Any]]]:
    """All interfaces that have a MAC or are loopback, with their addresses; link-local addresses are left out."""
    try:
        names: tuple[str, ...] = yield ListDir("/sys/class/net")
    except OSError:
        return []
    ipv4 = addresses_by_interface(
        (yield from read_text("/proc/net/fib_trie", "")), (yield from read_text("/proc/net/route", ""))
    )
    ipv6 = _ipv6_addresses((yield from read_text("/proc/net/if_inet6", "")))
    vlans = yield from read_text("/proc/net/vlan/config", "")
    interfaces: list[dict[str, Any]] = []
    for name in names:
        kind = yield from _kind(name, vlans)
        if not kind:
            continue
        interface = yield from _read_interface(name, kind)
        interface["ipv4_addresses"] = ipv4.get(name, [])
        interface["ipv6_addresses"] = ipv6.get(name, [])
        interfaces.append(interface)
    return interfaces


def _kind(name: str, vlans: str) -> Task[str]:
    """physical, vlan, bond, bridge, or device; "" for a file in /sys/class/net that is no interface."""
    if name == "bonding_masters":
        return ""
    if re.search(rf"^{re.escape(name)}\s*\|", vlans, re.MULTILINE):
        return "vlan"
    try:
        yield ReadLink(f"/sys/class/net/{name}/device")
    except OSError:
        for kind, folder in (("bond", "bonding"), ("bridge", "bridge")):
            try:
                yield ListDir(f"/sys/class/net/{name}/{folder}")
            except OSError:
                continue
            return kind
        return "device"
    return "physical"


def _read_interface(name: str, kind: str) -> Task[dict[str, Any]]:
    root = f"/sys/class/net/{name}"
    bits = int((yield from read_text(f"{root}/flags", "0x0")), 16)
    carrier = (yield from read_text(f"{root}/carrier", "0")) == "1"
    flags = [text for bit, text in FLAGS if bits & bit]
    if carrier:
        flags.append("running")  # /sys does not show IFF_RUNNING; the kernel sets it from the carrier
    interface: dict[str, Any] = {
        "name": name,
        "type": kind,
        "mac_address": (yield from read_text(f"{root}/address", "")),
        "mtu": int((yield from read_text(f"{root}/mtu", "0"))),
        "speed_mbps": int((yield from read_text(f"{root}/speed", "-1"))),
        "has_carrier": carrier,
        "vendor": (yield from read_text(f"{root}/device/vendor", "")),
        "product": (yield from read_text(f"{root}/device/device", "")),
        "flags": flags,
    }
    return {key: value for key, value in interface.items() if value not in ("", False)}


def addresses_by_interface(fib_trie: str, routes: str) -> dict[str, list[str]]:
    """IPv4 addresses with prefix length, by interface.

    The kernel's trie lists the machine's own addresses; the interface and the prefix come from the connected route
    that covers each. Two interfaces on one network share them out in the order of the routes.
    """
    own = _local_addresses(fib_trie)
    connected = [
        (route["interface"], ipaddress.ip_network((route["destination"], route["prefix"])))
        for route in _ipv4_routes(routes)
        if "gateway" not in route
    ]
    connected.sort(key=lambda entry: -entry[1].prefixlen)
    found: dict[str, list[str]] = {}
    for text in own:
        address = ipaddress.ip_address(text)
        holders = [(name, network) for name, network in connected if address in network]
        if address.is_loopback:
            found.setdefault("lo", []).append(f"{text}/8")
        elif holders and not address.is_link_local:
            name, network = next((holder for holder in holders if holder[0] not in found), holders[0])
            found.setdefault(name, []).append(f"{text}/{network.prefixlen}")
    return found


def _local_addresses(fib_trie: str) -> list[str]:
    """The addresses of `/32 host LOCAL` leaves, each once, in the order of the trie."""
    found: dict[str, None] = {}
    leaf = ""
    for line in fib_trie.splitlines():
        stripped = line.strip()
        if stripped.startswith("|--"):
            leaf = stripped[3:].strip()
        elif stripped.startswith("/32 host LOCAL"):
            found[leaf] = None
    return list(found)


def _ipv6_addresses(if_inet6: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in if_inet6.splitlines():
        raw, _, prefix, scope, _, name = line.split()
        if scope != LINK_LOCAL_SCOPE:
            address = ipaddress.IPv6Address(int(raw, 16))
            found.setdefault(name, []).append(f"{address}/{int(prefix, 16)}")
    return found


def read_routes() -> Task[list[Route]]:
    """IPv4 and IPv6 routes in the order of the kernel's tables."""
    routes = _ipv4_routes((yield from read_text("/proc/net/route", "")))
    for route in routes:
        del route["prefix"]
    routes += _ipv6_routes((yield from read_text("/proc/net/ipv6_route", "")))
    return routes


def _ipv4_routes(table: str) -> list[Route]:
    routes: list[Route] = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not int(fields[3], 16) & ROUTE_UP:
            continue
        gateway = _ipv4(fields[2])
        route: Route = {
            "interface": fields[0],
            "destination": _ipv4(fields[1]),
            "prefix": int(fields[7], 16).bit_count(),
            "family": IPV4_FAMILY,
        }
        if gateway != "0.0.0.0":  # noqa: S104  (no gateway: a connected network)
            route["gateway"] = gateway
        if int(fields[6]):
            route["metric"] = int(fields[6])
        routes.append(route)
    return routes


def _ipv4(little_endian_hex: str) -> str:
    return str(ipaddress.IPv4Address(struct.pack("<I", int(little_endian_hex, 16))))


def _ipv6_routes(table: str) -> list[Route]:
    routes: list[Route] = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[9] == "lo" or int(fields[8], 16) & IPV6_ROUTE_LOCAL:
            continue
        destination = ipaddress.IPv6Address(int(fields[0], 16))
        if destination.is_multicast or destination.is_link_local:
            continue
        route: Route = {"interface": fields[9], "destination": str(destination), "family": IPV6_FAMILY}
        gateway = ipaddress.IPv6Address(int(fields[4], 16))
        if int(gateway):
            route["gateway"] = str(gateway)
        metric = int(fields[5], 16)
        if metric:
            route["metric"] = metric
        routes.append(route)
    return routes
