"""The state machine against the tables of the fact sheets."""

from __future__ import annotations

import pytest
from cim_lab import Service

from labsim.controllers.cim.errors import ServiceError
from labsim.controllers.cim.host_states import RULES, STATUS_INFO, Event, find_rule, go_duration, wrong_boot_info
from labsim.model.states import AGENT_STATES

REREGISTRATION = [
    ("discovering-unbound", "", "discovering-unbound", 201),
    ("known-unbound", "", "discovering-unbound", 201),
    ("insufficient-unbound", "", "discovering-unbound", 201),
    ("disconnected-unbound", "", "discovering-unbound", 201),
    ("unbinding", "", "discovering-unbound", 201),
    ("unbinding-pending-user-action", "", "discovering-unbound", 201),
    ("reclaiming-rebooting", "", "discovering-unbound", 201),
    ("reclaiming", "", "reclaiming", 400),
    ("binding", "", "discovering", 201),
    ("discovering", "", "discovering", 201),
    ("known", "", "discovering", 201),
    ("insufficient", "", "discovering", 201),
    ("disconnected", "", "discovering", 201),
    ("pending-for-input", "", "discovering", 201),
    ("resetting-pending-user-action", "", "discovering", 201),
    ("preparing-for-installation", "", "known", 201),
    ("preparing-successful", "", "known", 201),
    ("preparing-failed", "", "preparing-failed", 400),
    ("cancelled", "", "cancelled", 400),
    ("installed", "", "installed", 409),
    ("installing", "", "error", 201),
    ("installing-in-progress", "Writing image to disk", "error", 201),
    ("installing-in-progress", "Joined", "error", 201),
    ("installing-in-progress", "Rebooting", "installing-pending-user-action", 201),
    ("installing-pending-user-action", "Rebooting", "installing-pending-user-action", 400),
    ("installing-pending-user-action", "Done", "installing-pending-user-action", 400),
    ("installing-pending-user-action", "Joined", "installing-pending-user-action", 400),
    ("added-to-existing-cluster", "Done", "installing-pending-user-action", 201),
    ("error", "", "error", 201),
]


@pytest.mark.parametrize(("status", "stage", "after", "code"), REREGISTRATION)
def test_registering_again(status: str, stage: str, after: str, code: int) -> None:
    service = Service()
    host = service.host_in(status, stage=stage)
    if code == 201:
        service.cim.lifecycle.register(service.infra_env(), host.id, "image", service.now_s)
    else:
        with pytest.raises(ServiceError) as refused:
            service.cim.lifecycle.register(service.infra_env(), host.id, "image", service.now_s)
        assert refused.value.code == code
        assert service.messages(host, "host_registration_failed")
    assert host.status == after


def test_a_second_wrong_boot_names_the_disk() -> None:
    service = Service()
    host = service.host_in("installing-in-progress", stage="Rebooting")
    service.cim.lifecycle.register(service.infra_env(), host.id, "image", service.now_s)
    assert host.status_info == (
        "Expected the host to boot from disk, but it booted the installation image - please reboot and fix boot "
        "order to boot from disk (vda, /dev/disk/by-path/pci-0000:04:00.0)"
    )
    with pytest.raises(ServiceError, match="Host is required to be booted from disk /dev/vda"):
        service.cim.lifecycle.register(service.infra_env(), host.id, "image", service.now_s)


UNBIND = [
    ("known", "unbinding", "unbinding"),
    ("discovering", "unbinding", "unbinding"),
    ("disconnected", "unbinding", "unbinding"),
    ("insufficient", "unbinding", "unbinding"),
    ("pending-for-input", "unbinding", "unbinding"),
    ("installed", "unbinding-pending-user-action", "reclaiming"),
    ("added-to-existing-cluster", "unbinding-pending-user-action", "reclaiming"),
    ("error", "unbinding-pending-user-action", "unbinding-pending-user-action"),
    ("cancelled", "unbinding-pending-user-action", "unbinding-pending-user-action"),
    ("preparing-successful", "unbinding-pending-user-action", None),
    ("installing", "unbinding-pending-user-action", None),
    ("installing-in-progress", "unbinding-pending-user-action", None),
    ("installing-pending-user-action", "unbinding-pending-user-action", None),
    ("binding", None, None),
    ("resetting-pending-user-action", None, None),
]


@pytest.mark.parametrize("reclaim", [False, True])
@pytest.mark.parametrize(("status", "plain", "reclaimed"), UNBIND)
def test_unbinding(status: str, plain: str | None, reclaimed: str | None, reclaim: bool) -> None:
    service = Service()
    host = service.host_in(status)
    expected = reclaimed if reclaim else plain
    if expected is None:
        with pytest.raises(ServiceError, match="no condition found to run transition"):
            service.cim.lifecycle.unbind(host, service.now_s, reclaim=reclaim)
        assert host.status == status
        return
    service.cim.lifecycle.unbind(host, service.now_s, reclaim=reclaim)
    assert (host.status, host.cluster_id, host.kind, host.role) == (expected, "", "Host", "auto-assign")
    assert host.inventory is None
    assert host.installation_disk_id == ""


@pytest.mark.parametrize("status", [s for s in AGENT_STATES if s != "known-unbound"])
def test_binding_needs_known_unbound(status: str) -> None:
    assert find_rule(Event.BIND, status) is None


def test_binding_clears_what_discovery_found_and_keeps_what_people_said() -> None:
    service = Service()
    host = service.host_in("known-unbound")
    service.cim.database.update_host(host, service.now_s, approved=True, requested_hostname="mine")
    service.cim.lifecycle.bind(host, service.cluster(), service.now_s)
    assert (host.status, host.inventory, host.approved, host.requested_hostname) == ("binding", None, True, "mine")
    assert host.kind == "Host"  # until it registers again


def test_a_registration_does_not_count_as_a_check_in() -> None:
    service = Service()
    host = service.host_in("unbinding-pending-user-action")
    checked_in = host.checked_in_at_s
    service.now_s += 1000
    service.cim.lifecycle.register(service.infra_env(), host.id, "image", service.now_s)
    assert (host.registered_at_s, host.checked_in_at_s) == (service.now_s, checked_in)


def test_events_come_with_a_status_and_not_with_its_text_alone() -> None:
    service = Service()
    host = service.host_in("known")
    before = len(service.messages(host, "host_status_updated"))
    service.cim.database.move_host(host, "known", "another text", service.now_s)
    assert len(service.messages(host, "host_status_updated")) == before
    service.cim.database.move_host(host, "insufficient", "x" * 3000, service.now_s)
    assert service.messages(host, "host_status_updated")[-1].startswith(
        "Host worker-0: updated status from known to insufficient (xxx"
    )
    assert len(host.status_info) == 2040


def test_every_rule_names_states_that_exist() -> None:
    for rule in RULES:
        assert set(rule.sources) <= set(AGENT_STATES)
        assert rule.target in (*AGENT_STATES, "")
    assert set(STATUS_INFO) <= set(AGENT_STATES)


def test_durations_as_go_prints_them() -> None:
    assert [go_duration(s) for s in (40, 2400, 3600, 86400)] == ["40s", "40m0s", "1h0m0s", "24h0m0s"]


def test_an_absent_model_and_serial_leave_no_gap() -> None:
    assert wrong_boot_info("M", "S", "vda", "id").endswith("disk M S (vda, id)")
    assert wrong_boot_info("", "", "vda", "id").endswith("disk (vda, id)")
