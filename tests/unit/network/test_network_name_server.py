"""A zone on real loopback sockets, asked over UDP and TCP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from labsim.errors import LabError
from labsim.network.name_server import NameServer, ask
from labsim.network.zone import Record, Zone, hosted_cluster_records

DOMAIN = "example.krnl.es"
TIMEOUT_S = 10.0


@pytest.fixture
def zone() -> Zone:
    zone = Zone()
    zone.put("o", DOMAIN, hosted_cluster_records(DOMAIN, api=["192.0.2.1", "2001:db8::1"], apps=["192.0.2.2"]))
    return zone


@pytest.fixture
def server(zone: Zone) -> Iterator[NameServer]:
    opened = NameServer(lambda: zone, "127.0.0.1")
    yield opened
    opened.close()


def query(server: NameServer, name: str, kind: str, *, tcp: bool = False) -> DNSRecord:
    return DNSRecord.parse(DNSRecord.question(name, kind).send(server.host, server.port, tcp=tcp, timeout=TIMEOUT_S))


@pytest.mark.parametrize("tcp", [False, True])
def test_both_protocols_answer_both_families(server: NameServer, tcp: bool) -> None:
    for kind, address in (("A", "192.0.2.1"), ("AAAA", "2001:db8::1")):
        answer = query(server, f"api.{DOMAIN}", kind, tcp=tcp)
        assert [(str(entry.rdata), entry.rtype) for entry in answer.rr] == [(address, getattr(QTYPE, kind))]


def test_a_name_without_a_record_of_this_family_is_not_denied(server: NameServer) -> None:
    answer = query(server, f"console.apps.{DOMAIN}", "AAAA")
    assert (answer.header.rcode, answer.rr) == (RCODE.NOERROR, [])


def test_a_missing_name_is_denied_and_a_foreign_one_refused(server: NameServer) -> None:
    assert query(server, f"nobody.{DOMAIN}", "A").header.rcode == RCODE.NXDOMAIN
    assert query(server, "example.org", "A").header.rcode == RCODE.REFUSED


def test_a_change_of_the_zone_is_answered_at_once(server: NameServer, zone: Zone) -> None:
    zone.put("late", "late.krnl.es", [Record("api.late.krnl.es", "192.0.2.9")])
    assert ask(server.host, server.port, "api.late.krnl.es", "A", TIMEOUT_S) == ("192.0.2.9",)


def test_what_is_no_question_does_not_end_the_server(server: NameServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        for data in (b"", b"x", b"\xff" * 40):
            noise.sendto(data, (server.host, server.port))
    assert ask(server.host, server.port, f"api.{DOMAIN}", "A", TIMEOUT_S) == ("192.0.2.1",)


def test_nobody_there_and_a_refusal_are_told_apart(server: NameServer) -> None:
    with pytest.raises(LabError, match=r"answers REFUSED for example\.org"):
        ask(server.host, server.port, "example.org", "A", TIMEOUT_S)
    port = server.port
    server.close()
    with pytest.raises(LabError, match="does not answer"):
        ask("127.0.0.1", port, f"api.{DOMAIN}", "A", 0.2)


def test_a_port_that_is_taken_is_one_clear_line(server: NameServer) -> None:
    with pytest.raises(LabError, match=rf"cannot answer for names on 127\.0\.0\.1:{server.port}"):
        NameServer(Zone, "127.0.0.1", server.port)
