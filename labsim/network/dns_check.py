"""Whether a name server has the records that hosted clusters need, and how each that is missing or wrong is mended."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable

from labsim.errors import LabError
from labsim.network.zone import WILDCARD, Record

LookUp = Callable[[str, str], tuple[str, ...]]  # (name, "A" or "AAAA") to addresses; raises LabError
# The name below *.apps that CIM lets every host resolve (facts/host-lifecycle.md, 2.6).
PROBED_BELOW_WILDCARD = "console-openshift-console"
OK, MISSING, WRONG, UNKNOWN = "ok", "missing", "wrong", "unknown"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One record. wanted: its addresses, empty where only some address is asked for. state: ok, missing, wrong, or
    unknown (nobody answered). mend: what to do; "" for ok."""

    name: str
    type: str
    wanted: tuple[str, ...]
    found: tuple[str, ...]
    state: str
    mend: str = ""


def check_records(wanted: Iterable[Record], look_up: LookUp) -> list[Finding]:
    """Compare what a name server says with the records that should be there."""
    by_record: dict[tuple[str, str], list[str]] = {}
    for record in wanted:
        by_record.setdefault((record.name, record.type), []).append(record.address)
    return [_compared(name, kind, tuple(addresses), look_up) for (name, kind), addresses in sorted(by_record.items())]


def check_names(domain: str, look_up: LookUp) -> list[Finding]:
    """Whether the names of a hosted cluster have addresses at all, of whatever family: nobody knows which."""
    return [_any_address(name, look_up) for name in (f"{WILDCARD}apps.{domain}", f"api-int.{domain}", f"api.{domain}")]


def _compared(name: str, kind: str, wanted: tuple[str, ...], look_up: LookUp) -> Finding:
    try:
        found = look_up(_probe(name), kind)
    except LabError as problem:
        return Finding(name=name, type=kind, wanted=wanted, found=(), state=UNKNOWN, mend=_told(problem))
    if _same(found, wanted):
        return Finding(name=name, type=kind, wanted=wanted, found=found, state=OK)
    lines = "; ".join(_both_forms(Record(name, address)) for address in wanted)
    if not found:
        return Finding(name=name, type=kind, wanted=wanted, found=found, state=MISSING, mend=f"add {lines}")
    surplus = [address for address in found if not any(_same((address,), (other,)) for other in wanted)]
    mend = f"replace {', '.join(surplus)}: {lines}" if surplus else f"add what is missing: {lines}"
    return Finding(name=name, type=kind, wanted=wanted, found=found, state=WRONG, mend=mend)


def _any_address(name: str, look_up: LookUp) -> Finding:
    try:
        found = tuple(address for kind in ("A", "AAAA") for address in look_up(_probe(name), kind))
    except LabError as problem:
        return Finding(name=name, type="A/AAAA", wanted=(), found=(), state=UNKNOWN, mend=_told(problem))
    if found:
        return Finding(name=name, type="A/AAAA", wanted=(), found=found, state=OK)
    leads = "the hosted cluster's routers" if name.startswith(WILDCARD) else "a node of the hub or its load balancer"
    mend = f"add {_both_forms(Record(name, 'ADDRESS'))}, the address of {leads}"
    return Finding(name=name, type="A/AAAA", wanted=(), found=(), state=MISSING, mend=mend)


def _probe(name: str) -> str:
    """A name that the record answers: a wildcard cannot be asked for itself."""
    return f"{PROBED_BELOW_WILDCARD}.{name.removeprefix(WILDCARD)}" if name.startswith(WILDCARD) else name


def _both_forms(record: Record) -> str:
    return f"`{record}` (dnsmasq: `{record.dnsmasq_line}`)"


def _told(problem: LabError) -> str:
    return f"{problem.message}; {problem.hint}" if problem.hint else problem.message


def _same(found: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """IPv6 has many ways to write one address."""
    return {ipaddress.ip_address(text) for text in found} == {ipaddress.ip_address(text) for text in wanted}
