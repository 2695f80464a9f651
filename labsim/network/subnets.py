"""Which subnet a lab's own network gets: one that nothing of the host and no other lab's network overlaps. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from labsim.errors import LabError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Private ranges (RFC 1918) that few people number their own networks from, each cut into /24: libvirt's own default is
# 192.168.122.0/24, Docker begins at 172.17.0.0/16, Kubernetes' and HyperShift's networks lie in 10.x and 172.30 to .31.
_RANGES = (ipaddress.IPv4Network("192.168.128.0/17"), ipaddress.IPv4Network("172.20.128.0/17"))
_PREFIX, _PREFIX6 = 24, 64
_TRIES6 = 64


def free_subnet(taken: Iterable[Network], lab: str) -> ipaddress.IPv4Network:
    """A private /24 that overlaps none of `taken`; default routes in there do not count. Labs begin their search at
    different places, so that two that choose at the same time seldom meet. Raises LabError where none is free."""
    occupied = [network for network in taken if network.version == 4 and network.prefixlen]
    candidates = [subnet for block in _RANGES for subnet in block.subnets(new_prefix=_PREFIX)]
    start = int.from_bytes(_digest(lab)[:4], "big") % len(candidates)
    for subnet in (*candidates[start:], *candidates[:start]):
        if not any(subnet.overlaps(network) for network in occupied):
            return subnet
    raise LabError(
        f"no subnet is free for the lab's network: the host's routes and networks take all of {_text(_RANGES)}",
        hint="remove networks of other labs (labsim leaks), or name one: lab.network.subnet",
    )


def free_subnet6(taken: Iterable[Network], lab: str) -> ipaddress.IPv6Network:
    """A unique local /64 (RFC 4193) that overlaps none of `taken`. Raises LabError where none is free."""
    occupied = [network for network in taken if network.version == 6 and network.prefixlen]
    for number in range(_TRIES6):
        prefix = b"\xfd" + _digest(f"{lab}/{number}")[:7]
        subnet = ipaddress.IPv6Network((prefix + bytes(8), _PREFIX6))
        if not any(subnet.overlaps(network) for network in occupied):
            return subnet
    raise LabError("no IPv6 subnet is free for the lab's network", hint="labsim leaks shows what other labs left")


def given_subnet(text: str, taken: Iterable[Network]) -> ipaddress.IPv4Network:
    """The subnet that a person named. Raises LabError where something on this host overlaps it."""
    subnet = ipaddress.IPv4Network(text)
    for network in taken:
        if network.version == 4 and network.prefixlen and subnet.overlaps(network):
            raise LabError(
                f"the lab's network {subnet} overlaps {network}, which this host has a route to",
                hint="leave lab.network.subnet out to have one chosen, or name another",
            )
    return subnet


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _text(networks: Iterable[Network]) -> str:
    return " and ".join(map(str, networks))
