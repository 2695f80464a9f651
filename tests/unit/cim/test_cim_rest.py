"""The agent's REST API: status codes and bodies of good, bad and malformed requests."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from cim_lab import API, HOST_ID, START_S, Service, inventory
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.controllers.cim.tokens import TokenAuthority, unverified_claims
from labsim.controllers.runtime.effects import Enqueue, Now
from labsim.entropy import Entropy
from labsim.model.http import Response, request_for_url

NOWHERE = "00000000-0000-4000-8000-000000000000"


def _path(service: Service, rest: str = "instructions", host_id: str = HOST_ID) -> str:
    return f"/infra-envs/{service.infra_env().id}/hosts/{host_id}/{rest}"


def test_a_poll_of_an_idle_host_touches_nothing_else() -> None:
    service = Service()
    host = service.host()
    service.reply(host, "inventory", inventory())
    service.cim.monitor.tick(service.now_s)
    service.cim.lifecycle.refresh = None  # type: ignore[method-assign,assignment]
    service.call("GET", _path(service))
    service.effects.clear()
    answer = service.call("GET", _path(service) + f"?timestamp={int(START_S)}")
    assert answer.json() == {
        "instructions": [
            {"step_type": "inventory", "step_id": answer.json()["instructions"][0]["step_id"], "args": [HOST_ID]},
            {
                "step_type": "ntp-synchronizer",
                "step_id": answer.json()["instructions"][1]["step_id"],
                "args": ['{"ntp_source":""}'],
            },
        ],
        "next_instruction_seconds": 60,
        "post_step_action": "continue",
    }
    assert {type(effect) for effect in service.effects} <= {Now, Enqueue}
    service.effects.clear()
    service.woken.clear()
    body = {"step_type": "inventory", "step_id": "i", "output": orjson.dumps(inventory()).decode()}
    assert service.call("POST", _path(service), body).status == 204
    assert service.woken == []


def test_step_ids_differ_from_poll_to_poll() -> None:
    service = Service()
    service.host()
    seen = [service.call("GET", _path(service)).json()["instructions"][0]["step_id"] for _ in range(3)]
    assert len(set(seen)) == 3
    assert all(step.startswith("inventory-") and len(step) == len("inventory-") + 8 for step in seen)


@pytest.mark.parametrize(
    ("status", "stage", "steps", "seconds", "action"),
    [
        ("discovering-unbound", "", ["inventory", "ntp-synchronizer"], 60, "continue"),
        ("insufficient-unbound", "", ["inventory", "ntp-synchronizer"], 60, "continue"),
        ("known-unbound", "", ["inventory", "ntp-synchronizer"], 60, "continue"),
        ("disconnected-unbound", "", ["inventory"], 120, "continue"),
        ("reclaiming", "", ["download-boot-artifacts"], 60, "continue"),
        ("reclaiming-rebooting", "", ["reboot-for-reclaim"], 120, "exit"),
        ("binding", "", [], None, "exit"),
        ("unbinding", "", [], None, "exit"),
        ("unbinding-pending-user-action", "", [], None, "exit"),
        ("discovering", "", ["inventory", "ntp-synchronizer", "domain-resolution"], 60, "continue"),
        ("insufficient", "", ["inventory", "api-vip-connectivity-check", "ntp-synchronizer", "domain-resolution"], 60,
         "continue"),
        ("known", "", ["api-vip-connectivity-check", "inventory", "ntp-synchronizer", "domain-resolution"], 60,
         "continue"),
        ("pending-for-input", "", ["inventory", "api-vip-connectivity-check"], 60, "continue"),
        ("disconnected", "", ["inventory"], 120, "continue"),
        ("installing", "", ["install"], 60, "continue"),
        ("error", "", ["logs-gather", "stop-installation"], 120, "continue"),
        ("installing-in-progress", "Rebooting", [], 60, "continue"),
        ("installing-pending-user-action", "Rebooting", [], 60, "continue"),
        ("added-to-existing-cluster", "Done", [], 60, "continue"),
    ],
)  # fmt: skip
def test_instructions_by_state(status: str, stage: str, steps: list[str], seconds: int | None, action: str) -> None:
    service = Service()
    service.host_in(status, stage=stage)
    answer = service.call("GET", _path(service)).json()
    assert [step["step_type"] for step in answer["instructions"] or []] == steps
    if not steps:
        assert answer["instructions"] is None
    assert (answer.get("next_instruction_seconds"), answer["post_step_action"]) == (seconds, action)


def test_an_agent_of_another_version_is_told_to_change_once_an_hour() -> None:
    service = Service()
    host = service.host()
    for _ in range(2):
        answer = service.call("GET", _path(service), discovery_agent_version="other:1").json()
        assert [step["step_type"] for step in answer["instructions"]] == ["upgrade-agent"]
    image = service.cim.settings.agent_image
    assert service.messages(host, "upgrade_agent_started") == [
        f"Host {HOST_ID}: Agent has been instructed to download image '{image}' and restart"
    ]


def test_hosts_of_one_cluster_are_each_other_s_neighbours() -> None:
    service = Service()
    host = service.host_in("insufficient")
    assert "connectivity-check" not in service.steps(host)
    other = service.cim.lifecycle.register(service.infra_env(), NOWHERE, "", service.now_s)
    service.cim.database.update_host(other, service.now_s, cluster_id=service.cluster().id)
    service.cim.database.move_host(other, "discovering", "", service.now_s)
    service.reply(other, "inventory", inventory("worker-1"))
    assert "connectivity-check" not in service.steps(host)  # not past discovery
    service.cim.database.move_host(other, "insufficient", "", service.now_s)
    answer = service.cim._rest._instructions.answer(host)
    step = next(step for step in answer["instructions"] if step["step_type"] == "connectivity-check")
    assert orjson.loads(step["args"][0]) == [
        {"host_id": NOWHERE, "nics": [{"name": "enp1s0", "mac": "52:54:00:aa:bb:01",
                                       "ip_addresses": ["192.168.126.21"]}]}
    ]  # fmt: skip


# -- who may call ------------------------------------------------------------------------------------------------


def test_bad_tokens_are_401_and_so_is_the_api_of_users() -> None:
    service = Service()
    service.host()
    other = TokenAuthority(Entropy(2)).sign({"infra_env_id": service.infra_env().id}, "p")
    for token in ("", "x", "a.b.c", other, service.infra_env().image_token[:-4] + "AAAA"):
        answer = service.call("GET", _path(service), token=token)
        assert (answer.status, answer.json()["code"]) == (401, 401)
    assert service.call("POST", _path(service, "actions/bind")).status == 401
    assert service.call("DELETE", _path(service).removesuffix("/instructions")).status == 401


def test_a_header_token_has_no_scope_and_a_token_in_the_url_has() -> None:
    service = Service()
    service.host()
    foreign = service.cim.tokens.sign({"infra_env_id": service.infra_env("other").id}, "f")
    assert service.call("GET", _path(service), token=foreign).status == 200
    env = service.infra_env()
    events = f"/events?infra_env_id={env.id}&api_key="
    assert service.call("GET", events + env.image_token, token="").status == 200
    assert service.call("GET", events + foreign, token="").status == 404


def test_a_deleted_infra_env_is_404_for_ten_minutes_and_401_then() -> None:
    service = Service()
    service.host()
    path, token = _path(service), service.infra_env().image_token
    assert service.call("GET", path).status == 200
    row = service.infra_env()
    for host in list(service.cim.database.hosts.values()):
        service.cim.database.drop_host(host)
    service.cim.database.drop_infra_env(row)
    assert service.call("GET", path, token=token).status == 404
    service.now_s += 601
    assert service.call("GET", path, token=token).status == 401


def test_tokens_differ_by_purpose_and_hold_one_claim() -> None:
    authority = TokenAuthority(Entropy(1))
    first, second = (authority.sign({"infra_env_id": "x"}, purpose) for purpose in ("a", "b"))
    assert first != second
    assert TokenAuthority(Entropy(1)).sign({"infra_env_id": "x"}, "a") == first
    assert unverified_claims(first) == {"infra_env_id": "x"}
    assert TokenAuthority(Entropy(1)).verify(second) == {"infra_env_id": "x"}


# -- what is malformed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "rest", "body", "status"),
    [
        ("GET", "instructions?timestamp=yesterday", None, 400),
        ("POST", "instructions", b"{", 400),
        ("POST", "instructions", b"[]", 400),
        ("POST", "instructions", {"step_type": 7}, 400),
        ("POST", "instructions", {"step_type": "inventory", "exit_code": "many"}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": "{"}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": "[]"}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": '{"disks": 7}'}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": '{"interfaces": [{"mac_address": {}}]}'}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": '{"interfaces": [{"name": 1}]}'}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": '{"interfaces": [{"ipv6_addresses": 1}]}'}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": '{"gpus": ["a"]}'}, 400),
        ("POST", "instructions", {"step_type": "inventory", "output": '{"cpu": {"frequency": "fast"}}'}, 400),
        ("POST", "instructions", {"step_type": "ntp-synchronizer", "output": '{"ntp_sources": {"a": 1}}'}, 400),
        ("POST", "instructions", {"step_type": "unheard-of", "output": "x"}, 204),
        ("POST", "instructions", {"step_type": "inventory", "exit_code": 3, "output": "{"}, 204),
        ("PUT", "progress", {}, 400),
        ("PUT", "progress", {"current_stage": "Installing"}, 400),
        ("PUT", "logs-progress", {"logs_state": "singing"}, 400),
        ("PUT", "logs-progress", {"logs_state": "requested"}, 204),
        ("PATCH", "instructions", {}, 405),
        ("GET", "nonsense", None, 404),
    ],
)
def test_malformed_requests(method: str, rest: str, body: Any, status: int) -> None:
    service = Service()
    service.host()
    assert service.call(method, _path(service, rest), body).status == status


def test_unknown_things_are_404_with_upstream_s_body() -> None:
    service = Service()
    env = service.infra_env().id
    answer = service.call("GET", f"/infra-envs/{env}/hosts/{NOWHERE}/instructions")
    assert answer.status == 404
    assert {"kind": "Error", "id": 404, "href": "", "code": "404"}.items() <= answer.json().items()
    assert service.call("POST", f"/infra-envs/{NOWHERE}/hosts", {"host_id": HOST_ID}).status == 404
    assert service.call("GET", f"/clusters/{NOWHERE}").status == 404
    assert service.call("POST", f"/infra-envs/{env}/hosts", {"host_id": "seven"}).status == 400
    assert service.call("POST", f"/infra-envs/{env}/hosts", {}).status == 400


PATH_PARTS = ("infra-envs", "hosts", "clusters", "..", "%00", HOST_ID, "instructions", "logs", "events", "")


@pytest.mark.parametrize("timestamp", ["²", "-²", "--5", "1e9", "", "9" * 5000, "٣"])
def test_a_timestamp_that_is_no_number_is_400(timestamp: str) -> None:
    """Found by sending what Python calls a digit and cannot read as a number."""
    service = Service()
    service.host()
    answer = service.call("GET", f"{_path(service)}?{urlencode({'timestamp': timestamp})}")
    assert answer.status == 400
    assert "timestamp in query must be of type int64" in answer.json()["reason"]


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.lists(st.sampled_from(PATH_PARTS), max_size=6),
    st.one_of(st.binary(max_size=40), st.just(b'{"step_type":"inventory","output":null}')),
    st.text(max_size=12),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_request_ends_in_a_traceback(method: str, parts: list[str], body: bytes, query: str) -> None:
    service = Service()
    service.host()
    request = request_for_url(
        method, f"{API}/{'/'.join(parts)}", headers={"X-Secret-Key": service.infra_env().image_token}, body=body
    )
    object.__setattr__(request, "query", (("timestamp", query), ("file_name", query)))
    assert 200 <= service.run(service.cim.services()["assisted-service"](request)).status < 500


@given(st.recursive(st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["disks", "interfaces", "cpu", "memory", "hostname", "routes", "count",
                                         "system_vendor", "ipv4_addresses", "size_bytes", "ntp_sources", "flags",
                                         "resolutions", "domain_name", "ignition", "is_success", "type", "id"]),
                        inner, max_size=5), max_leaves=12),
       st.sampled_from(["inventory", "ntp-synchronizer", "domain-resolution", "api-vip-connectivity-check",
                        "connectivity-check"]))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_output_of_a_step_ends_in_a_traceback(output: Any, step: str) -> None:
    service = Service()
    host = service.host_in("discovering")
    body = {
        "step_type": step,
        "step_id": "s",
        "output": orjson.dumps(output).decode(),
    }
    assert service.call("POST", _path(service), body).status in (204, 400)
    service.cim.lifecycle.refresh(host, service.now_s)
    if host.inventory is not None:
        host.inventory.agent_status()
        host.inventory.labels()
    service.call("GET", _path(service))


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ('{"remote_hosts":[{"host_id":"a","l3_connectivity":[]},{"host_id":"b"}]}', 204),
        ('{"remote_hosts":[{"host_id":"a"},{"host_id":}]}', 400),
        ('{"remote_hosts":[{"host_id":"a"}]', 400),
        ('["remote_hosts"]', 400),
    ],
)
def test_a_connectivity_report_is_taken_as_it_can_be_read(output: str, status: int) -> None:
    service = Service()
    service.host_in("known")
    body = {"step_type": "connectivity-check", "step_id": "s", "output": output}
    assert service.call("POST", _path(service), body).status == status


# -- installing ----------------------------------------------------------------------------------------------------


def test_inventory_is_refused_where_a_host_is_on_its_way() -> None:
    for status in ("binding", "unbinding", "installing"):
        service = Service()
        service.host_in(status)
        body = {"step_type": "inventory", "output": orjson.dumps(inventory()).decode()}
        assert service.call("POST", _path(service), body).status == 500


def test_progress_goes_forward_only() -> None:
    service = Service()
    host = service.host_in("installing")

    def put(stage: str, info: str = "") -> Response:
        return service.call("PUT", _path(service, "progress"), {"current_stage": stage, "progress_info": info})

    assert put("Writing image to disk", "5%").status == 200
    assert (host.status, host.status_info) == ("installing-in-progress", "Writing image to disk")
    assert put("Writing image to disk", "12%").status == 200
    lower = put("Installing")
    assert lower.status == 409
    assert lower.json()["reason"] == (
        'Can\'t assign lower stage "Installing" after host has been in stage "Writing image to disk"'
    )
    assert put("Configuring operators").status == 409
    assert put("Rebooting").status == 200
    assert put("Done").status == 200
    assert (host.status, host.status_info) == ("added-to-existing-cluster", "Done")
    refused = put("Joined")
    assert refused.status == 409
    assert refused.json()["reason"] == "Can't set progress Joined to host in status added-to-existing-cluster"
    assert service.messages(host, "host_install_progress_updated")[:2] == [
        "Host: worker-0, reached installation stage Writing image to disk: 5%",
        "Host: worker-0, reached installation stage Writing image to disk: 12%",
    ]


def test_a_failed_stage_keeps_the_last_one() -> None:
    service = Service()
    host = service.host_in("installing-in-progress", stage="Installing")
    service.call("PUT", _path(service, "progress"), {"current_stage": "Failed", "progress_info": "disk died"})
    assert (host.status, host.stage, host.status_info) == ("error", "Installing", "Failed - disk died")


def test_an_install_step_that_fails_fails_the_host_unless_it_ran_already() -> None:
    service = Service()
    host = service.host_in("installing")
    running = 'the container name "assisted-installer" is already in use'
    service.call("POST", _path(service), {"step_type": "install", "exit_code": 125, "error": running})
    assert host.status == "installing"
    service.call("POST", _path(service), {"step_type": "install", "exit_code": 1, "error": "no"})
    assert (host.status, host.status_info) == ("error", "installation command failed")


def test_the_host_s_ignition_points_to_its_cluster() -> None:
    service = Service()
    host = service.host_in("known")
    database = service.cim.database
    database.check_in(host, service.now_s, int(service.now_s), "")
    database.update_cluster(service.cluster(), ignition_endpoint_ca="CA")
    database.update_host(
        host, service.now_s, machine_config_pool="ignition", ignition_token="t0k", ignition_headers={"NodePool": "a/b"}
    )
    ignition = '{"storage":{"files":[{"path":"/etc/kubernetes/manifests/coredns.yaml"}]}}'
    service.reply(host, "api-vip-connectivity-check", {"is_success": True, "ignition": ignition})
    path = f"/infra-env/{host.infra_env_id}/hosts/{host.id}/downloads/ignition"
    assert service.call("GET", path).status == 409
    service.cim.lifecycle.install(host, service.cluster(), service.now_s)
    assert (host.status, host.role) == ("installing", "worker")
    document = service.call("GET", path).json()
    assert document["ignition"]["config"]["merge"] == [
        {
            "source": "https://192.168.122.1:30000/ignition",
            "httpHeaders": [
                {"name": "Authorization", "value": "Bearer t0k"},
                {"name": "NodePool", "value": "a/b"},
            ],
        }
    ]
    assert document["ignition"]["version"] == "3.2.0"
    assert document["storage"]["files"][0]["contents"]["source"] == "data:,worker-0"
    step = service.cim._rest._instructions.answer(host)["instructions"][0]
    request = orjson.loads(step["args"][0])
    assert (request["boot_device"], request["role"], request["check_cvo"]) == ("/dev/vda", "worker", True)
    assert service.messages(host, "host_installation_started") == [
        "Host worker-0 starting installation as a worker node"
    ]


def test_logs_are_taken_once_they_are_a_form() -> None:
    service = Service()
    host = service.host_in("error")
    path = f"/clusters/{service.cluster().id}/logs?logs_type=host&host_id={host.id}&infra_env_id={host.infra_env_id}"
    assert service.call("POST", path, b"x").status == 400
    form = b'--b\r\nContent-Disposition: form-data; name="upfile"; filename="l"\r\n\r\nx\r\n--b--\r\n'
    answer = service.call("POST", path, form, **{"content-type": "multipart/form-data; boundary=b"})
    assert answer.status == 204
    assert service.steps(host) == ["stop-installation"]
    assert service.messages(host, "host_logs_uploaded")


def test_the_cluster_and_its_events_can_be_read() -> None:
    service = Service()
    host = service.host_in("known")
    cluster = service.call("GET", f"/clusters/{service.cluster().id}?exclude-hosts=true").json()
    assert (cluster["kind"], cluster["status"], "hosts" in cluster) == ("AddHostsCluster", "adding-hosts", False)
    assert len(service.call("GET", f"/clusters/{service.cluster().id}").json()["hosts"]) == 1
    events = service.call("GET", f"/events?host_id={host.id}").json()
    assert events[0]["name"] == "host_registration_succeeded"
    assert events[0]["message"] == f"Host {HOST_ID}: Successfully registered"
    assert events[0]["event_time"].endswith("Z")


ANYTHING = st.sampled_from([None, True, 0, -1, 2**70, 1e300, "", "x" * 300, "\x00", [], [None], ["a"], {}, {"a": [1]}])
STEPS = (
    *("inventory", "connectivity-check", "free-network-addresses", "api-vip-connectivity-check", "ntp-synchronizer"),
    *("container-image-availability", "domain-resolution", "disk-speed-check", "logs-gather", "install", "x"),
)


def _somewhere(data: st.DataObject, tree: Any, value: Any) -> Any:
    """The tree with one value at some place in it."""
    if not isinstance(tree, dict | list) or not tree or data.draw(st.integers(0, 4)) == 0:
        return value
    key = data.draw(st.sampled_from(sorted(tree) if isinstance(tree, dict) else range(len(tree))))
    made: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    made[key] = _somewhere(data, tree[key], value)
    return made


@settings(max_examples=250, derandomize=True, deadline=None)
@given(data=st.data())
def test_an_inventory_with_a_value_of_another_type_is_refused_or_can_be_used(data: st.DataObject) -> None:
    """Found: an address that is an object was taken, and failed each time that the Agent was written."""
    service = Service()
    host = service.host()
    said = _somewhere(data, inventory(gpus=[{"name": "g"}]), data.draw(ANYTHING))
    output = json.dumps(said)
    body = {"step_type": "inventory", "step_id": "inventory-1", "exit_code": 0, "output": output}
    answer = service.call("POST", _path(service), body)
    assert answer.status in (204, 400)
    kept = host.inventory
    if kept is not None:
        assert kept.agent_status() is not None
        assert kept.labels() is not None
        assert kept.connectivity_entry(host.id)
        assert service.call("GET", _path(service)).status == 200
        script = f"/infra-envs/{service.infra_env().id}/downloads/files?file_name=ipxe-script&mac=a"
        assert service.call("GET", f"{script}&ipxe_script_type=boot-order-control").status == 200
    service.cim.monitor.tick(service.now_s + 60)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(step=st.sampled_from(STEPS), tree=st.dictionaries(st.text(max_size=5), ANYTHING, max_size=3), value=ANYTHING)
def test_any_reply_of_a_step_is_answered(step: str, tree: Any, value: Any) -> None:
    service = Service()
    host = service.host_in("known", bound=True)
    answers = {"remote_hosts": value, "ntp_sources": value, "resolutions": value, "images": value, "is_success": value}
    for output in (tree, answers, [value], {name: [tree, value] for name in answers}):
        text = json.dumps(output)
        body = {"step_type": step, "step_id": f"{step}-1", "exit_code": 0, "output": text}
        assert service.call("POST", _path(service), body).status in (204, 400)
    service.cim.monitor.tick(service.now_s + 60)
    assert service.call("GET", _path(service)).status == 200
    assert host.id == HOST_ID
