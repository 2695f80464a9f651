"""`labsim dns`: the records that hosted clusters need, and whether a name server has them."""

from __future__ import annotations

import dataclasses
import ipaddress
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from labsim.cli.labs import ask_lab
from labsim.cli.output import Format, print_document, print_rows, talk
from labsim.errors import ExitCode, LabError, UsageError
from labsim.network.dns_check import OK, PROBED_BELOW_WILDCARD, UNKNOWN, Finding, LookUp, check_names, check_records
from labsim.network.fabric import split_host_port
from labsim.network.name_server import ask
from labsim.network.zone import WILDCARD, Record, hosted_cluster_records

ANSWER_WITHIN_S = 3.0
COLUMNS = ("record", "type", "state", "wanted", "found")
FORMS = ("zone", "dnsmasq", "hosts")


def check_dns(lab: str, *, server: str, domain: str, api: Sequence[str], apps: Sequence[str], output: Format) -> int:
    """Check the records of a running lab, at its own name server or at `server`; or those of `domain` at `server`."""
    if domain:
        if not server:
            raise UsageError(
                "--domain needs --server", hint="labsim dns check --domain example.krnl.es --server 192.0.2.53"
            )
        look_up = _asking(*split_host_port(server, 53))
        addresses = {"api": _addresses("--api", api), "apps": _addresses("--apps", apps)}
        if any(addresses.values()):
            findings = check_records(hosted_cluster_records(domain, **addresses), look_up)
        else:
            findings = check_names(domain, look_up)
    else:
        if api or apps:
            raise UsageError("--api and --apps belong to --domain", hint="a lab knows its own addresses")
        known = ask_lab(lab, {"verb": "dns"})
        where = split_host_port(server, 53) if server else (known["server"], known["port"])
        if not where[0]:
            raise LabError("this lab serves no names", hint="give the name server that should: --server ADDRESS")
        # Another name server has nothing to do with the lab's own hub.
        findings = check_records(_records(known, of_hub=not server), _asking(*where))
    _print(findings, output)
    if any(entry.state not in (OK, UNKNOWN) for entry in findings):
        return int(ExitCode.CHECK_FAILED)
    return int(ExitCode.LAB_FAILED if any(entry.state == UNKNOWN for entry in findings) else ExitCode.PASSED)


def show_records(lab: str, form: str, output: Format) -> int:
    """The records that a running lab's hosted clusters need."""
    if form and form not in FORMS:
        raise UsageError(f"records are not written as {form!r}", hint=f"one of: {', '.join(FORMS)}")
    known = ask_lab(lab, {"verb": "dns"})
    records = _records(known)
    if form == "hosts":
        sys.stdout.write("".join(f"{record.address} {_without_wildcard(record.name)}\n" for record in records))
    elif form:
        lines = (record.dnsmasq_line if form == "dnsmasq" else str(record) for record in records)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    else:
        rows = [{"record": record.name, "type": record.type, "address": record.address} for record in records]
        print_rows(rows, ("record", "type", "address"), output)
    if known["server"]:
        talk(f"served at {known['server']} port {known['port']} (UDP and TCP)")
    return int(ExitCode.PASSED)


def show_kubeconfig(lab: str, cluster: str) -> int:
    """The kubeconfig of a hosted cluster, for this host."""
    sys.stdout.write(ask_lab(lab, {"verb": "kubeconfig", "cluster": cluster}))
    return int(ExitCode.PASSED)


def _print(findings: Sequence[Finding], output: Format) -> None:
    if output in (Format.JSON, Format.YAML):
        print_document([dataclasses.asdict(entry) for entry in findings], output)
        return
    rows = [
        {
            "record": entry.name,
            "type": entry.type,
            "state": entry.state,
            "wanted": ", ".join(entry.wanted) or "any",
            "found": ", ".join(entry.found) or "-",
        }
        for entry in findings
    ]
    print_rows(rows, COLUMNS, output)
    if output is not Format.NAME:
        for mend in dict.fromkeys(f"{entry.name}: {entry.mend}" for entry in findings if entry.mend):
            sys.stdout.write(f"fix: {mend}\n")


def _asking(server: str, port: int) -> LookUp:
    return lambda name, kind: ask(server, port, name, kind, ANSWER_WITHIN_S)


def _records(known: dict[str, Any], *, of_hub: bool = True) -> list[Record]:
    return [Record(entry["name"], entry["address"]) for entry in known["records"] if of_hub or not entry["ofHub"]]


def _addresses(option: str, given: Iterable[str]) -> tuple[str, ...]:
    for text in given:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise UsageError(
                f"{option} {text!r} is no IP address", hint="as 192.168.122.22 or 2620:52:0:1306::7"
            ) from None
    return tuple(given)


def _without_wildcard(name: str) -> str:
    """/etc/hosts has no wildcards: the one name below it that everybody asks for."""
    return f"{PROBED_BELOW_WILDCARD}.{name.removeprefix(WILDCARD)}" if name.startswith(WILDCARD) else name
