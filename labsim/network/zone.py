"""The names of a lab and the addresses behind them: records by owner, looked up as a name server would.

Product documentation: `api` and `api-int` of a hosted cluster lead to where its API server is reachable (a node of the
hub, or a load balancer), `*.apps` to where its routers are. A wildcard answers what no closer name does (RFC 4592).
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from collections.abc import Iterable, Mapping

WILDCARD = "*."


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Record:
    """One address of a name. `name` is lower case without the last dot; one that begins with `*.` is a wildcard."""

    name: str
    address: str

    @property
    def type(self) -> str:
        return "AAAA" if ":" in self.address else "A"

    def __str__(self) -> str:
        """The line of a zone file."""
        return f"{self.name}. IN {self.type} {self.address}"

    @property
    def dnsmasq_line(self) -> str:
        """The line of a dnsmasq configuration."""
        if self.name.startswith(WILDCARD):
            return f"address=/{self.name.removeprefix(WILDCARD)}/{self.address}"
        return f"host-record={self.name},{self.address}"


def hosted_cluster_records(domain: str, *, api: Iterable[str], apps: Iterable[str]) -> tuple[Record, ...]:
    """What the documentation asks for a hosted cluster of `domain` (`<prefix>.<base domain>`), for these addresses."""
    records = [Record(f"{name}.{domain}", address) for address in api for name in ("api", "api-int")]
    return (*records, *(Record(f"{WILDCARD}apps.{domain}", address) for address in apps))


class Zone:
    """The records of one lab. Look-ups may come from any thread: a change puts a new table in place of the old one."""

    def __init__(self) -> None:
        self._by_owner: dict[str, tuple[Record, ...]] = {}
        self._domains: dict[str, str] = {}
        self._left_out: frozenset[str] = frozenset()
        self._table: Mapping[str, tuple[str, ...]] = {}

    def put(self, owner: str, domain: str, records: Iterable[Record]) -> None:
        """The records of an owner are these; nobody else is asked about names below `domain`."""
        wanted = tuple(records)
        if self._by_owner.get(owner) != wanted or self._domains.get(owner) != domain:
            self._by_owner[owner] = wanted
            self._domains = {**self._domains, owner: canonical(domain)}
            self._rebuild()

    def remove(self, owner: str) -> None:
        if self._by_owner.pop(owner, None) is not None:
            self._domains = {known: domain for known, domain in self._domains.items() if known != owner}
            self._rebuild()

    def covers(self, name: str) -> bool:
        """Whether this zone has the last word on a name."""
        wanted = canonical(name)
        return any(wanted == domain or wanted.endswith(f".{domain}") for domain in self._domains.values())

    def leave_out(self, names: Iterable[str]) -> None:
        """Answer as if nobody had made the records of these names (`*.apps...` is a name too), and no others."""
        self._left_out = frozenset(map(canonical, names))
        self._rebuild()

    @property
    def left_out(self) -> frozenset[str]:
        return self._left_out

    def wanted(self) -> tuple[Record, ...]:
        """The records that should be there, those that are left out on purpose too."""
        return tuple(sorted({record for records in self._by_owner.values() for record in records}))

    def wanted_by(self, owner: str) -> tuple[Record, ...]:
        return self._by_owner.get(owner, ())

    def resolve(self, name: str) -> tuple[str, ...]:
        """The addresses of a name; empty where there are none. An address literal stands for itself."""
        wanted, table = canonical(name), self._table
        found = table.get(wanted)
        if found is not None:
            return found
        if is_address(wanted):
            return (wanted,)
        _, dot, parent = wanted.partition(".")
        while dot:
            found = table.get(WILDCARD + parent)
            if found is not None:
                return found
            if parent in table:
                return ()
            _, dot, parent = parent.partition(".")
        return ()

    def _rebuild(self) -> None:
        table: dict[str, tuple[str, ...]] = {}
        for record in self.wanted():
            if record.name not in self._left_out:
                table[record.name] = (*table.get(record.name, ()), record.address)
        self._table = table


@functools.lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """A name as zones have it: lower case, without the last dot."""
    return name.rstrip(".").lower()


@functools.lru_cache(maxsize=4096)
def is_address(text: str) -> bool:
    """Whether this is an IP literal, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
