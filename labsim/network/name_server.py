"""A zone on real sockets: what machines, `dig` and other name servers ask (UDP and TCP, RFC 1035)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from labsim.errors import LabError
from labsim.network.zone import Zone

log = logging.getLogger(__name__)

TTL_S = 5  # a record that is mended should be seen at once
_TRIES = 20
_DATA = {"A": A, "AAAA": AAAA}


class NameServer:
    """Answers for the zone that there is at each question, until it is closed. Names that the zone does not cover are
    refused, so that a resolver goes on to its next server."""

    def __init__(self, zone: Callable[[], Zone], host: str, port: int = 0) -> None:
        """`port` 0 takes one that is free for both protocols. Raises LabError where the place cannot be had."""
        self.host = host
        self._servers = _listening(_ZoneAnswers(zone), host, port)
        self.port: int = self._servers[0].server.server_address[1]
        for server in self._servers:
            server.start_thread()

    def close(self) -> None:
        for server in self._servers:
            server.stop()
            server.server.server_close()


def _listening(resolver: BaseResolver, host: str, port: int) -> list[DNSServer]:
    problem: OSError | None = None
    for _ in range(1 if port else _TRIES):
        with contextlib.ExitStack() as opened:
            try:
                udp = _server(resolver, host, port, tcp=False)
                opened.callback(udp.server.server_close)
                tcp = _server(resolver, host, udp.server.server_address[1], tcp=True)
            except OSError as error:
                problem = error
                continue
            opened.pop_all()
            return [udp, tcp]
    where = f"{host}:{port}" if port else host
    raise LabError(f"cannot answer for names on {where}: {problem}", hint="choose another port or address")


def _server(resolver: BaseResolver, host: str, port: int, *, tcp: bool) -> DNSServer:
    return DNSServer(resolver, address=host, port=port, tcp=tcp, logger=DNSLogger(logf=log.debug), handler=_Handler)


class _Handler(DNSHandler):  # type: ignore[misc]  # dnslib carries no types
    """One question. What is no question is dropped, as name servers do."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError, AttributeError, IndexError) as problem:
            log.debug("a question could not be answered: %s", problem)


class _ZoneAnswers(BaseResolver):  # type: ignore[misc]
    def __init__(self, zone: Callable[[], Zone]) -> None:
        self._zone = zone

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply = request.reply(ra=0)
        zone, name = self._zone(), str(request.q.qname)
        if not zone.covers(name):
            reply.header.aa = 0
            reply.header.rcode = RCODE.REFUSED
            return reply
        addresses = zone.resolve(name)
        if not addresses:
            reply.header.rcode = RCODE.NXDOMAIN
        for kind, address in _typed(addresses):
            if QTYPE[request.q.qtype] in (kind, "ANY"):
                reply.add_answer(RR(request.q.qname, getattr(QTYPE, kind), rdata=_DATA[kind](address), ttl=TTL_S))
        return reply


def _typed(addresses: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for address in addresses:
        yield ("AAAA" if ":" in address else "A"), address


def ask(server: str, port: int, name: str, kind: str, timeout_s: float) -> tuple[str, ...]:
    """The addresses that a name server gives for a name and a record type; empty where it knows none.

    Raises LabError where it does not answer, or refuses.
    """
    question = DNSRecord.question(name, kind)
    try:
        data = question.send(server, port, timeout=timeout_s, ipv6=":" in server)
        answer = DNSRecord.parse(data)
        if answer.header.tc:
            answer = DNSRecord.parse(question.send(server, port, tcp=True, timeout=timeout_s, ipv6=":" in server))
    except (OSError, ValueError) as problem:
        raise LabError(
            f"the name server {server} port {port} does not answer: {problem}",
            hint="is it up, and does a firewall let port 53 through (UDP and TCP)?",
        ) from problem
    if answer.header.rcode not in (RCODE.NOERROR, RCODE.NXDOMAIN):
        raise LabError(
            f"the name server {server} answers {RCODE[answer.header.rcode]} for {name}",
            hint="it is not responsible for this domain: ask one that is, or let it forward the domain",
        )
    return tuple(sorted(str(entry.rdata) for entry in answer.rr if entry.rtype == getattr(QTYPE, kind)))
