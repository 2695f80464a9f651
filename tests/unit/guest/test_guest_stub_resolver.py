"""The stub of a machine's resolver: which servers it asks, in which order, and what it hands back."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from dnslib import RCODE, DNSRecord

from labsim.guest.stub_resolver import StubResolver, configured_servers, dhcp_servers
from labsim.network.name_server import NameServer, ask
from labsim.network.zone import Record, Zone

TIMEOUT_S = 10.0


@pytest.mark.parametrize(
    ("line", "servers"),
    [
        ("DNS=10.0.2.2:41053", [("10.0.2.2", 41053)]),
        ("DNS=192.0.2.1", [("192.0.2.1", 53)]),
        ("DNS=[fd00::1]:5353 fd00::2", [("fd00::1", 5353), ("fd00::2", 53)]),
        ("DNS=192.0.2.1:5353#ns.example", [("192.0.2.1", 5353)]),
        ("Domains=krnl.es", []),
    ],
)
def test_the_servers_of_a_configuration(line: str, servers: list[tuple[str, int]]) -> None:
    assert list(configured_servers(f"[Resolve]\n{line}\n")) == servers


def test_the_servers_of_dhcp() -> None:
    assert dhcp_servers("search lab\nnameserver 10.0.2.3\nnameserver fec0::3\n") == (("10.0.2.3", 53), ("fec0::3", 53))


@pytest.fixture
def servers() -> Iterator[list[tuple[str, int]]]:
    """A lab's server, which refuses what it does not cover, and another one behind it."""
    lab, outside = Zone(), Zone()
    lab.put("lab", "krnl.es", [Record("api.krnl.es", "192.0.2.1")])
    outside.put("out", "example.org", [Record("www.example.org", "192.0.2.80")])
    opened = [NameServer(lambda: lab, "127.0.0.1"), NameServer(lambda: outside, "127.0.0.1")]
    yield [(entry.host, entry.port) for entry in opened]
    for entry in opened:
        entry.close()


@pytest.fixture
def stub(servers: list[tuple[str, int]]) -> Iterator[StubResolver]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = silent.getsockname()
    started = StubResolver(lambda: [nobody, *servers], ("127.0.0.1", 0))
    started.start()
    yield started
    started.close()


def test_the_lab_is_asked_first_and_the_others_where_it_refuses(stub: StubResolver) -> None:
    assert ask(*stub.address, "api.krnl.es", "A", TIMEOUT_S) == ("192.0.2.1",)
    assert ask(*stub.address, "www.example.org", "A", TIMEOUT_S) == ("192.0.2.80",)


def test_a_name_that_the_lab_denies_is_not_looked_for_elsewhere(stub: StubResolver) -> None:
    data = DNSRecord.question("nobody.krnl.es", "A").send(*stub.address, timeout=TIMEOUT_S)
    assert DNSRecord.parse(data).header.rcode == RCODE.NXDOMAIN
