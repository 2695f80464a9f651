"""The connectivity check: what is told about each host, however the service writes its question."""

from __future__ import annotations

import json
from typing import Any

import pytest
from guest_carrier import Carrier, answer

from labsim.guest.service import ServiceAccess
from labsim.guest.settings import GuestSettings
from labsim.guest.steps import run_step
from labsim.guest.steps.context import StepContext, StepResult

ACCESS = ServiceAccess("https://cim.example.com", "", "")
ARP = "IP address HW type Flags HW address Mask Device\n192.168.126.22 0x1 0x2 52:54:00:00:00:02 * enp1s0\n"


def host(name: str, *addresses: str) -> dict[str, Any]:
    return {"host_id": name, "nics": [{"name": "eth0", "mac": "52:54:00:00:00:02", "ip_addresses": list(addresses)}]}


def checked(argument: str, *, reachable: dict[str, float] | None = None, arp: str = "") -> StepResult:
    carrier = Carrier(lambda _request: answer(404))
    carrier.reachable = reachable or {}
    if arp:
        carrier.files["/proc/net/arp"] = arp.encode()
    context = StepContext(settings=GuestSettings(), host_id="h1", infra_env_id="e")
    result: StepResult = carrier.start(run_step(context, ACCESS, "connectivity-check", [argument])).result
    return result


def remote_hosts(argument: str, **found: Any) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(checked(argument, **found).output)["remote_hosts"]
    return told


def test_hosts_that_all_answer_alike_are_told_one_by_one() -> None:
    hosts = [host("a", "192.168.126.22/24"), host("b", "192.168.126.23/24", "10.9.9.9/8"), host("c")]
    times = {"192.168.126.22": 0.4, "192.168.126.23": 0.4, "10.9.9.9": 0.4}
    told = remote_hosts(json.dumps(hosts, separators=(",", ":")), reachable=times)
    assert [entry["host_id"] for entry in told] == ["a", "b", "c"]
    assert [len(entry["l3_connectivity"]) for entry in told] == [1, 2, 0]
    assert told[0] == {
        "host_id": "a",
        "l2_connectivity": [],
        "l3_connectivity": [{"outgoing_nic": "enp1s0", "remote_ip_address": "192.168.126.22", "successful": True,
                             "average_rtt_ms": 0.4}],
        "mtu_report": [],
    }  # fmt: skip


def test_the_form_of_the_question_does_not_matter() -> None:
    nested = {**host("a", "192.168.126.22/24"), "more": [{"host_id": "x"}, {"host_id": "y"}]}
    hosts = [nested, host('b"},{"host_id":', "192.168.126.23/24")]
    turned = [dict(reversed(entry.items())) for entry in hosts]
    expected = remote_hosts(json.dumps(hosts))  # with spaces
    assert [entry["host_id"] for entry in expected] == ["a", 'b"},{"host_id":']
    assert remote_hosts(json.dumps(hosts, separators=(",", ":"))) == expected
    assert remote_hosts(json.dumps(turned, separators=(",", ":"))) == expected


def test_one_that_answers_later_and_one_that_does_not() -> None:
    hosts = json.dumps([host("a", "192.168.126.22"), host("b", "192.168.126.23"), host("c", "192.168.126.24")])
    told = remote_hosts(hosts, reachable={"192.168.126.22": 0.4, "192.168.126.23": 7.5}, arp=ARP)
    assert [entry["l3_connectivity"][0].get("average_rtt_ms") for entry in told] == [0.4, 7.5, None]
    assert told[0]["l2_connectivity"][0]["successful"] is True
    assert told[1]["l2_connectivity"] == []


@pytest.mark.parametrize("argument", ['[{"host_id":"a"},{"host_id":}]', "[", '[{"host_id":"a","nics":[1]}]'])
def test_a_question_that_cannot_be_read_is_told(argument: str) -> None:
    result = checked(argument)
    assert result.exit_code == -1
    assert result.error.startswith("connectivity-check: ")
