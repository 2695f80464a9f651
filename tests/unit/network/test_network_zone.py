"""The zone of a lab: what the documentation's records answer, and what they do not."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from labsim.network.zone import Record, Zone, hosted_cluster_records

DOMAIN = "example.krnl.es"
API, APPS = "192.168.122.22", "192.168.122.23"
API6, APPS6 = "2620:52:0:1306::7", "2620:52:0:1306::10"
LABELS = st.text(string.ascii_lowercase, min_size=1, max_size=8)


def zone_of(*records: Record) -> Zone:
    zone = Zone()
    zone.put("clusters/example", DOMAIN, records)
    return zone


def documented() -> Zone:
    return zone_of(*hosted_cluster_records(DOMAIN, api=(API, API6), apps=(APPS, APPS6)))


def test_the_documents_names_have_addresses_of_both_families() -> None:
    zone = documented()
    assert zone.resolve(f"api.{DOMAIN}") == (API, API6)
    assert zone.resolve(f"api-int.{DOMAIN}.") == (API, API6)
    assert zone.resolve(f"Console-OpenShift-Console.apps.{DOMAIN}") == (APPS, APPS6)


def test_a_wildcard_answers_below_itself_only() -> None:
    zone = documented()
    assert zone.resolve(f"a.b.apps.{DOMAIN}") == (APPS, APPS6)
    assert zone.resolve(f"apps.{DOMAIN}") == ()
    assert zone.resolve(f"validatenowildcarddns.{DOMAIN}") == ()
    assert zone.resolve(f"deeper.api.{DOMAIN}") == ()


def test_a_closer_name_hides_the_wildcard() -> None:
    zone = zone_of(Record(f"*.{DOMAIN}", API), Record(f"here.{DOMAIN}", APPS))
    assert zone.resolve(f"here.{DOMAIN}") == (APPS,)
    assert zone.resolve(f"below.here.{DOMAIN}") == ()
    assert zone.resolve(f"elsewhere.{DOMAIN}") == (API,)


def test_an_address_stands_for_itself() -> None:
    assert Zone().resolve("192.0.2.1") == ("192.0.2.1",)
    assert Zone().resolve("fd00::1") == ("fd00::1",)


def test_what_is_left_out_is_not_answered_and_still_wanted() -> None:
    zone = documented()
    zone.leave_out([f"api.{DOMAIN}", f"*.apps.{DOMAIN}"])
    assert zone.resolve(f"api.{DOMAIN}") == zone.resolve(f"console.apps.{DOMAIN}") == ()
    assert zone.resolve(f"api-int.{DOMAIN}") == (API, API6)
    assert Record(f"api.{DOMAIN}", API) in zone.wanted()
    zone.leave_out([])
    assert zone.resolve(f"api.{DOMAIN}") == (API, API6)


def test_records_go_with_their_owner() -> None:
    zone = documented()
    assert zone.covers(f"anything.{DOMAIN}")
    assert not zone.covers("krnl.es")
    zone.remove("clusters/example")
    assert zone.wanted() == ()
    assert not zone.covers(f"api.{DOMAIN}")


def test_records_are_written_as_zone_files_and_dnsmasq_have_them() -> None:
    a, wildcard = Record(f"api.{DOMAIN}", API), Record(f"*.apps.{DOMAIN}", APPS6)
    assert str(a) == "api.example.krnl.es. IN A 192.168.122.22"
    assert a.dnsmasq_line == "host-record=api.example.krnl.es,192.168.122.22"
    assert str(wildcard) == "*.apps.example.krnl.es. IN AAAA 2620:52:0:1306::10"
    assert wildcard.dnsmasq_line == "address=/apps.example.krnl.es/2620:52:0:1306::10"


@given(st.lists(LABELS, min_size=1, max_size=4), st.lists(LABELS, min_size=1, max_size=4))
def test_a_wildcard_answers_exactly_the_names_that_end_with_it(below: list[str], domain: list[str]) -> None:
    zone = Zone()
    parent = ".".join(domain)
    zone.put("owner", parent, [Record(f"*.{parent}", API)])
    assert zone.resolve(f"{'.'.join(below)}.{parent}") == (API,)
    assert zone.resolve(f"{'.'.join(below)}x{parent}") == ()
