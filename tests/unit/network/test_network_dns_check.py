"""What `labsim dns check` says of each record, and how it is mended."""

from __future__ import annotations

from labsim.errors import LabError
from labsim.network.dns_check import LookUp, check_names, check_records
from labsim.network.zone import Zone, hosted_cluster_records

DOMAIN = "example.krnl.es"
RECORDS = hosted_cluster_records(DOMAIN, api=["192.168.122.22"], apps=["192.168.122.23", "2620:52:0:1306:0:0:0:10"])


def looking_up(zone: Zone) -> LookUp:
    def look_up(name: str, kind: str) -> tuple[str, ...]:
        return tuple(entry for entry in zone.resolve(name) if (":" in entry) == (kind == "AAAA"))

    return look_up


def zone_with(api: str = "192.168.122.22", missing: tuple[str, ...] = ()) -> Zone:
    zone = Zone()
    zone.put("o", DOMAIN, hosted_cluster_records(DOMAIN, api=[api], apps=["192.168.122.23", "2620:52:0:1306::10"]))
    zone.leave_out(missing)
    return zone


def states(zone: Zone) -> dict[tuple[str, str], str]:
    findings = check_records(RECORDS, looking_up(zone))
    return {(entry.name.removesuffix(f".{DOMAIN}"), entry.type): entry.state for entry in findings}


def test_records_that_are_there_are_ok_however_an_address_is_written() -> None:
    assert set(states(zone_with()).values()) == {"ok"}


def test_each_missing_record_is_named_with_the_line_that_adds_it() -> None:
    zone = zone_with(missing=(f"api.{DOMAIN}", f"*.apps.{DOMAIN}"))
    assert states(zone) == {
        ("*.apps", "A"): "missing",
        ("*.apps", "AAAA"): "missing",
        ("api", "A"): "missing",
        ("api-int", "A"): "ok",
    }
    findings = check_records(RECORDS, looking_up(zone))
    mends = {(entry.name, entry.type): entry.mend for entry in findings}
    assert mends[f"api.{DOMAIN}", "A"] == (
        "add `api.example.krnl.es. IN A 192.168.122.22` (dnsmasq: `host-record=api.example.krnl.es,192.168.122.22`)"
    )
    assert "`address=/apps.example.krnl.es/192.168.122.23`" in mends[f"*.apps.{DOMAIN}", "A"]


def test_a_record_that_leads_elsewhere_is_wrong_and_says_what_to_replace() -> None:
    findings = check_records(RECORDS, looking_up(zone_with(api="192.168.122.99")))
    api = next(entry for entry in findings if entry.name == f"api.{DOMAIN}")
    assert (api.state, api.found) == ("wrong", ("192.168.122.99",))
    assert api.mend.startswith("replace 192.168.122.99: `api.example.krnl.es. IN A 192.168.122.22`")


def test_a_server_that_is_silent_leaves_everything_unknown() -> None:
    def silent(name: str, kind: str) -> tuple[str, ...]:
        raise LabError("the name server does not answer", hint="is it up?")

    findings = check_records(RECORDS, silent)
    assert {entry.state for entry in findings} == {"unknown"}
    assert findings[0].mend == "the name server does not answer; is it up?"


def test_a_domain_of_anybody_needs_only_some_address() -> None:
    found = {entry.name: entry for entry in check_names(DOMAIN, looking_up(zone_with(missing=(f"api.{DOMAIN}",))))}
    assert found[f"api-int.{DOMAIN}"].state == found[f"*.apps.{DOMAIN}"].state == "ok"
    assert found[f"api.{DOMAIN}"].state == "missing"
    assert "`api.example.krnl.es. IN A ADDRESS`" in found[f"api.{DOMAIN}"].mend
