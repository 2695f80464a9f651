"""The subnet of a lab's network: private, and overlapping nothing that this host has."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.errors import LabError
from labsim.network.subnets import Network, free_subnet, free_subnet6, given_subnet

DEFAULT = ipaddress.ip_network("0.0.0.0/0")
DEFAULT6 = ipaddress.ip_network("::/0")


@st.composite
def routes(draw: st.DrawFn) -> Network:
    """A route as hosts have them: mostly in private ranges, of any size from a default route to a host's."""
    block = draw(st.sampled_from(["192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "0.0.0.0/0"]))
    address = int(ipaddress.ip_network(block)[0]) + draw(st.integers(0, ipaddress.ip_network(block).num_addresses - 1))
    prefix = draw(st.sampled_from([0, 18, 20, 22, 24, 28, 32]))
    return ipaddress.IPv4Network((address, prefix), strict=False)


@given(st.lists(routes(), max_size=30), st.text(max_size=12))
def test_a_subnet_is_private_and_overlaps_no_route(taken: list[Network], lab: str) -> None:
    subnet = free_subnet(taken, lab)
    assert subnet.is_private
    assert subnet.prefixlen == 24
    assert not any(subnet.overlaps(network) for network in taken if network.prefixlen)
    assert free_subnet(list(reversed(taken)), lab) == subnet, "the order in which a host tells its routes is nothing"


@given(st.lists(st.text(max_size=8), min_size=1, max_size=40))
def test_labs_that_choose_one_after_the_other_never_share(labs: list[str]) -> None:
    taken: list[Network] = [DEFAULT, DEFAULT6]
    for lab in labs:
        for subnet in (free_subnet(taken, lab), free_subnet6(taken, lab)):
            assert not any(subnet.version == other.version and subnet.overlaps(other) for other in taken[2:])
            taken.append(subnet)


@given(st.text(max_size=12))
def test_an_ipv6_subnet_is_unique_local(lab: str) -> None:
    subnet = free_subnet6([DEFAULT6], lab)
    assert subnet.subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert subnet.prefixlen == 64


def test_labs_begin_their_search_at_different_places() -> None:
    assert len({free_subnet([], f"lab-{number}") for number in range(50)}) > 30


def test_a_host_with_no_room_is_told_so() -> None:
    taken: list[Network] = [ipaddress.ip_network("192.168.0.0/16"), ipaddress.ip_network("172.16.0.0/12")]
    with pytest.raises(LabError, match="no subnet is free"):
        free_subnet(taken, "lab")


def test_a_named_subnet_is_taken_as_it_is_or_refused_with_what_it_overlaps() -> None:
    assert given_subnet("10.9.0.0/24", [DEFAULT]) == ipaddress.ip_network("10.9.0.0/24")
    with pytest.raises(LabError, match=r"overlaps 10\.8\.0\.0/13, which this host has a route to"):
        given_subnet("10.9.0.0/24", [DEFAULT, ipaddress.ip_network("10.8.0.0/13")])
