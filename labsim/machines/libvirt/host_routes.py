"""What this host's routes and interfaces take, from /proc: read again each time, since networks come and go."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

from labsim.errors import LabError

_PROC_NET = Path("/proc/net")
_SIOCGIFADDR = 0x8915
_LOOPBACK_INTERFACE = "lo"


def host_networks(proc_net: Path = _PROC_NET) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Every destination that the host has a route to, default routes too; empty where /proc is not there."""
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for words in _lines(proc_net / "route")[1:]:
        destination, mask = (struct.pack("<I", int(words[index], 16)) for index in (1, 7))
        found.append(ipaddress.IPv4Network((destination, bin(int.from_bytes(mask, "big")).count("1")), strict=False))
    routes6 = [words for words in _lines(proc_net / "ipv6_route") if words[-1] != _LOOPBACK_INTERFACE]
    found += [ipaddress.IPv6Network((bytes.fromhex(words[0]), int(words[1], 16)), strict=False) for words in routes6]
    return found


def address_of(interface: str) -> str:
    """The IPv4 address of an interface. Raises LabError where it has none, or where there is no such interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError as error:
            raise LabError(
                f"this host has no IPv4 address on {interface}: {error.strerror}",
                hint="lab.network.bridge names a bridge of this host with an address, which machines reach the hub by",
            ) from error
    return socket.inet_ntoa(answer[20:24])


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []
