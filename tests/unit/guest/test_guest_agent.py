"""The agent and its step runner against a scripted assisted-service: registration, polls, retries, dedup, steps."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.parse
from typing import Any

import pytest
from guest_carrier import UUID, Carrier, answer

from labsim.guest import effects as fx
from labsim.guest.effects import Boot, ConnectionFailed, HttpAnswer
from labsim.guest.main import run

INFRA_ENV = "11111111-2222-3333-4444-555555555555"
HOSTS = f"/api/assisted-install/v2/infra-envs/{INFRA_ENV}/hosts"
AGENT_UNIT = f"""[Service]
Type=simple
Environment=HTTP_PROXY=
Environment=PULL_SECRET_TOKEN=jwt.of.infraenv
ExecStartPre=/usr/local/bin/agent-pull-image
ExecStart=/usr/local/bin/agent --url https://cim.example.com:8090 --infra-env-id {INFRA_ENV} \
--agent-version quay.io/agent:1 --insecure=false --cacert /etc/assisted-service/service-ca-cert.crt
"""


def data_url(text: str) -> str:
    return "data:text/plain;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()


def discovery_boot(unit: str = AGENT_UNIT) -> Boot:
    ignition = {
        "ignition": {"version": "3.1.0"},
        "storage": {
            "files": [
                {
                    "path": "/etc/assisted-service/service-ca-cert.crt",
                    "contents": {"source": data_url("SERVICE CA")},
                },
                {
                    "path": "/etc/hosts",
                    "contents": {"source": "data:," + urllib.parse.quote("10.0.2.2 cim.example.com")},
                },
            ]
        },
        "systemd": {"units": [{"name": "agent.service", "enabled": True, "contents": unit}]},
    }
    return Boot("discovery-iso", json.dumps(ignition).encode())


class Service:
    """assisted-service with what it shall say next; answers `idle` polls when the script is used up."""

    def __init__(self) -> None:
        self.register: list[HttpAnswer | Exception] = []
        self.polls: list[Any] = []
        self.replies: list[dict[str, Any]] = []
        self.reply_status = 204
        self.other: dict[tuple[str, str], HttpAnswer | Exception] = {}

    def __call__(self, request: fx.Http) -> HttpAnswer | Exception:
        path = urllib.parse.urlsplit(request.url).path
        if (request.method, path) == ("POST", HOSTS):
            if self.register:
                return self.register.pop(0)
            command = json.dumps({"agent_version": "quay.io/agent:2", "host_id": UUID, "infra_env_id": INFRA_ENV})
            return answer(201, {"id": UUID, "status": "discovering", "next_step_runner_command": {"args": [command]}})
        if path == f"{HOSTS}/{UUID}/instructions":
            if request.method == "POST":
                self.replies.append(json.loads(request.body))
                return answer(self.reply_status)
            script = self.polls.pop(0) if self.polls else poll()
            return answer(200, script) if isinstance(script, dict) else script
        return self.other.get((request.method, path)) or answer(404, {"reason": "no such path"})


def step(kind: str, argument: Any = None, number: int = 1) -> dict[str, Any]:
    args = [] if argument is None else [argument if isinstance(argument, str) else json.dumps(argument)]
    return {"step_type": kind, "step_id": f"{kind}-0000000{number}", "args": args}


def poll(*steps: dict[str, Any], wait_s: int = 60, action: str = "continue") -> dict[str, Any]:
    document: dict[str, Any] = {"instructions": list(steps) or None, "post_step_action": action}
    return {**document, "next_instruction_seconds": wait_s} if wait_s else document


def started(service: Service) -> Carrier:
    carrier = Carrier(service)
    carrier.start(run(discovery_boot()))
    return carrier


def test_registration_and_polls_carry_upstreams_headers() -> None:
    service = Service()
    carrier = started(service)
    carrier.run_for(121)
    assert carrier.files["/etc/hosts"] == b"10.0.2.2 cim.example.com"
    (register,) = carrier.seen("POST", "/hosts")
    assert json.loads(register.body) == {"host_id": UUID, "discovery_agent_version": "quay.io/agent:1"}
    assert register.url.startswith("https://cim.example.com:8090/api/assisted-install/v2/")
    assert register.ca_pem == "SERVICE CA"
    assert not register.insecure
    polls = carrier.seen("GET", "/instructions")
    assert carrier.seen_at("GET", "/instructions") == [1_000_000, 1_000_060, 1_000_120]
    assert polls[1].url.endswith("?timestamp=1000060")
    for request, version in ((register, "quay.io/agent:1"), (polls[0], "quay.io/agent:2")):
        assert request.headers["X-Secret-Key"] == "jwt.of.infraenv"
        assert request.headers["discovery_agent_version"] == version
    ids = [request.headers["X-Request-ID"] for _, request in carrier.requests]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("status", [401, 403, 404, 409])
def test_a_refused_registration_blocks_for_ever(status: int) -> None:
    service = Service()
    service.register = [answer(status, {"reason": "no"})]
    carrier = started(service)
    carrier.run_for(7 * 86_400)
    assert len(carrier.requests) == 1


@pytest.mark.parametrize("status", [400, 500])
def test_other_answers_to_a_registration_are_tried_again_each_minute(status: int) -> None:
    service = Service()
    service.register = [answer(status), answer(status)]
    carrier = started(service)
    carrier.run_for(200)
    assert carrier.seen_at("POST", "/hosts") == [1_000_000, 1_000_060, 1_000_120]
    assert carrier.seen("GET", "/instructions")


def test_network_errors_have_three_quick_retries_below_the_minute() -> None:
    service = Service()
    service.register = [ConnectionFailed("refused")] * 4
    carrier = started(service)
    carrier.run_for(200)
    times = carrier.seen_at("POST", "/hosts")
    assert len(times) == 5
    assert times[3] - times[0] <= 2 + 4 + 8
    assert times[4] - times[3] == 60


def test_exit_ends_the_runner_and_the_agent_registers_again_at_once() -> None:
    service = Service()
    service.polls = [poll(action="exit", wait_s=0)]
    carrier = started(service)
    carrier.run_for(10)
    assert carrier.seen_at("POST", "/hosts") == [1_000_000, 1_000_000]


def test_exit_after_steps_waits_for_the_next_instruction_time() -> None:
    service = Service()
    service.polls = [poll(step("inventory", UUID), action="exit", wait_s=120)]
    carrier = started(service)
    carrier.run_for(130)
    assert carrier.seen_at("POST", "/hosts")[:1] + carrier.seen_at("POST", "/hosts")[-1:] == [1_000_000, 1_000_120]
    assert service.replies[0]["step_type"] == "inventory"


def test_a_deleted_host_blocks_the_runner_for_ever() -> None:
    service = Service()
    service.polls = [answer(404, {"reason": "record not found"})]
    carrier = started(service)
    carrier.run_for(7 * 86_400)
    assert len(carrier.seen("GET", "/instructions")) == 1
    assert len(carrier.seen("POST", "/hosts")) == 1


@pytest.mark.parametrize("status", [401, 403, 500])
def test_failing_polls_back_off_and_after_15_minutes_the_agent_registers_again(status: int) -> None:
    service = Service()
    service.polls = [answer(status)] * 200
    carrier = started(service)
    carrier.run_for(890)
    times = carrier.seen_at("GET", "/instructions")
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] <= 0.75
    assert 30 <= max(gaps) <= 90
    assert len(carrier.seen("POST", "/hosts")) == 1
    carrier.run_for(250)
    assert len(carrier.seen("POST", "/hosts")) == 2


def test_an_unchanged_reply_is_posted_once_an_hour_and_read_once() -> None:
    service = Service()
    service.polls = [poll(step("inventory", UUID)) for _ in range(130)]
    carrier = started(service)
    carrier.run_for(1)
    reads = carrier.reads
    carrier.run_for(3590)
    assert carrier.reads == reads
    assert len(service.replies) == 1
    assert json.loads(service.replies[0]["output"])["hostname"] == "lab-worker-0"
    assert "exit_code" not in service.replies[0]
    carrier.run_for(70)
    assert len(service.replies) == 2


def test_a_changed_system_is_read_and_posted_again() -> None:
    service = Service()
    service.polls = [poll(step("inventory", UUID)) for _ in range(3)]
    carrier = started(service)
    carrier.run_for(1)
    carrier.files["/proc/sys/kernel/hostname"] = b"renamed\n"
    carrier.run_for(60)
    assert len(service.replies) == 1  # the carrier says that nothing changed
    carrier.version = None  # and now that it cannot tell
    carrier.run_for(60)
    assert json.loads(service.replies[-1]["output"])["hostname"] == "renamed"


def test_a_reply_that_was_not_taken_is_posted_again() -> None:
    service = Service()
    service.reply_status = 500
    service.polls = [poll(step("inventory", UUID)) for _ in range(3)]
    carrier = started(service)
    carrier.run_for(130)
    assert len(service.replies) == 3


def test_unknown_and_broken_steps_are_answered_with_exit_code_minus_one() -> None:
    service = Service()
    service.polls = [
        poll(step("free-lunch"), step("upgrade-agent", "{"), step("install", "{}"), step("domain-resolution", "[]"))
    ]
    carrier = started(service)
    carrier.run_for(1)
    by_type = {reply["step_type"]: reply for reply in service.replies}
    assert by_type["free-lunch"]["error"] == "failed to find action for step type free-lunch"
    assert {reply["exit_code"] for reply in service.replies} == {-1}
    assert "boot_device" in by_type["install"]["error"]


def test_upgrade_ends_the_runner() -> None:
    service = Service()
    service.polls = [poll(step("upgrade-agent", {"agent_image": "quay.io/agent:3"}))]
    carrier = started(service)
    carrier.run_for(61)
    assert json.loads(service.replies[0]["output"]) == {"agent_image": "quay.io/agent:3", "result": "success"}
    assert len(carrier.seen("POST", "/hosts")) == 3  # register, reply, register again
    assert len(carrier.seen("GET", "/instructions")) == 2


def test_names_and_time_sources() -> None:
    service = Service()
    domains = [{"domain_name": "api.hc.example.com"}, {"domain_name": "nowhere"}]
    service.polls = [
        poll(step("domain-resolution", {"domains": domains}), step("ntp-synchronizer", {"ntp_source": "a,b"}))
    ] * 2
    carrier = started(service)
    carrier.names["api.hc.example.com"] = ("192.0.2.7", "2001:db8::7")
    carrier.run_for(1)
    outputs = {reply["step_type"]: json.loads(reply["output"]) for reply in service.replies}
    assert outputs["ntp-synchronizer"] == {"ntp_sources": []}
    assert outputs["domain-resolution"]["resolutions"] == [
        {
            "domain_name": "api.hc.example.com",
            "ipv4_addresses": ["192.0.2.7"],
            "ipv6_addresses": ["2001:db8::7"],
            "cnames": [],
        },
        {"domain_name": "nowhere", "ipv4_addresses": [], "ipv6_addresses": [], "cnames": []},
    ]
    carrier.programs["chronyc"] = fx.Ran(0, b"^,*,10.1.1.1,2,6,377\n^,?,10.1.1.2,0,6,0\n", b"")
    carrier.run_for(60)
    assert json.loads(service.replies[-1]["output"])["ntp_sources"] == [
        {"source_name": "10.1.1.1", "source_state": "synced"},
        {"source_name": "10.1.1.2", "source_state": "unreachable"},
    ]


def test_the_ignition_endpoint_is_asked_as_the_installed_host_would_and_filtered() -> None:
    service = Service()
    kept = {"path": "/etc/kubernetes/kubeconfig", "contents": {"source": "data:,k"}}
    service.other[("GET", "/ignition")] = answer(
        200, {"ignition": {"version": "3.2.0"}, "storage": {"files": [kept, {"path": "/etc/other"}]}, "passwd": {}}
    )
    argument = {
        "url": "https://ign.example.com/ignition",
        "ca_certificate": base64.b64encode(b"IGNITION CA").decode(),
        "ignition_endpoint_token": "dG9rZW4=",
        "request_headers": [{"key": "NodePool", "value": "clusters/example"}],
    }
    service.polls = [poll(step("api-vip-connectivity-check", argument))] * 2
    carrier = started(service)
    carrier.run_for(1)
    (request,) = carrier.seen("GET", "ign.example.com")
    assert request.headers["Authorization"] == "Bearer dG9rZW4="
    assert request.headers["NodePool"] == "clusters/example"
    assert request.headers["Accept"] == "application/vnd.coreos.ignition+json; version=3.2.0"
    assert request.ca_pem == "IGNITION CA"
    output = json.loads(service.replies[0]["output"])
    assert output["is_success"] is True
    assert json.loads(output["ignition"])["storage"] == {"files": [kept]}
    service.other[("GET", "/ignition")] = answer(511, b"Token not found")
    carrier.run_for(60)
    output = json.loads(service.replies[1]["output"])
    assert "is_success" not in output
    assert "511" in output["download_error"]
    assert "exit_code" not in service.replies[1]


def test_connectivity_to_the_other_hosts() -> None:
    service = Service()
    hosts = [{"host_id": "h2", "nics": [{"name": "eth0", "mac": "52:54:00:00:00:02", "ip_addresses": [address]}]}
             for address in ("192.168.126.22", "10.9.9.9")]  # fmt: skip
    service.polls = [poll(step("connectivity-check", hosts))]
    carrier = started(service)
    carrier.reachable["192.168.126.22"] = 0.4
    carrier.files["/proc/net/arp"] = (
        b"IP address HW type Flags HW address Mask Device\n192.168.126.22 0x1 0x2 52:54:00:00:00:02 * enp1s0\n"
    )
    carrier.run_for(1)
    near, far = json.loads(service.replies[0]["output"])["remote_hosts"]
    assert near["l3_connectivity"][0]["successful"] is True
    assert near["l2_connectivity"][0]["outgoing_ip_address"] == "192.168.126.21"
    assert far["l3_connectivity"] == [
        {"outgoing_nic": "enp1s0", "remote_ip_address": "10.9.9.9", "packet_loss_percentage": 100}
    ]


def test_an_ignition_without_agent_service_runs_nothing() -> None:
    carrier = Carrier(Service())
    carrier.start(run(Boot("discovery-iso", b'{"ignition": {"version": "3.1.0"}}')))
    carrier.run_for(100)
    assert carrier.requests == []
    assert any("agent.service" in line for line in carrier.logged)
