"""Validations: exact ids, statuses and messages, and what they let a host become."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from cim_lab import START_S, Service, inventory

from labsim.controllers.cim.rows import Host
from labsim.controllers.cim.settings import CimSettings, HardwareMinimums
from labsim.controllers.cim.validations.network import passes_without_dns

COREDNS = orjson.dumps({"storage": {"files": [{"path": "/etc/kubernetes/manifests/coredns.yaml"}]}}).decode()
NEEDS_DNS = orjson.dumps({"storage": {"files": []}}).decode()


def _results(host: Host) -> dict[str, tuple[str, str]]:
    assert host.validations is not None
    return {entry[0]: (entry[1], entry[2]) for entries in host.validations.values() for entry in entries}


def _pool(service: Service, **reported: Any) -> Host:
    host = service.host()
    service.cim.database.check_in(host, service.now_s, int(service.now_s), "")
    service.reply(host, "inventory", inventory(**reported))
    service.cim.lifecycle.refresh(host, service.now_s)
    return host


def _bound(service: Service, **reported: Any) -> Host:
    host = _pool(service)
    assert host.status == "known-unbound"
    lifecycle = service.cim.lifecycle
    lifecycle.bind(host, service.cluster(), service.now_s)
    lifecycle.register(service.infra_env(), host.id, service.cim.settings.agent_image, service.now_s)
    service.reply(host, "inventory", inventory(**reported))
    lifecycle.refresh(host, service.now_s)
    return host


@pytest.mark.parametrize(
    ("reported", "name", "message"),
    [
        ({"cpus": 1}, "has-min-cpu-cores", "The host is not eligible to participate in Openshift Cluster because the "
         "minimum required CPU cores for any role is 2, found only 1"),
        ({"memory_gib": 4}, "has-min-memory", "The host is not eligible to participate in Openshift Cluster because "
         "the minimum required RAM for any role is 8.00 GiB, found only 4.00 GiB"),
        ({"disk_gb": 40}, "has-min-valid-disks", "No eligible disks were found, please check specific disks to see "
         "why they are not eligible"),
        ({"hostname": "localhost"}, "hostname-valid", "The host name localhost is forbidden"),
        ({"hostname": "Big_Name"}, "hostname-valid", "Hostname Big_Name is forbidden, hostname should match pattern "
         "^[a-z0-9][a-z0-9-]{0,62}(?:[.][a-z0-9-]{1,63})*$"),
    ],
)  # fmt: skip
def test_the_four_gates_of_the_pool(reported: dict[str, Any], name: str, message: str) -> None:
    host = _pool(Service(), **reported)
    assert _results(host)[name] == ("failure", message)
    assert host.status == "insufficient-unbound"
    assert host.status_info.startswith("Host does not meet the minimum hardware requirements: ")
    assert message in host.status_info


def test_ntp_clock_and_default_route_do_not_hold_a_host_back_in_the_pool() -> None:
    service = Service()
    host = service.host()
    service.cim.database.check_in(host, service.now_s, int(service.now_s) - 3000, "")
    service.reply(host, "inventory", inventory(routes=[]))
    service.cim.lifecycle.refresh(host, service.now_s)
    results = _results(host)
    assert results["has-default-route"][0] == "failure"
    assert results["time-synced-between-host-and-service"][0] == "failure"
    assert "ntp-synced" not in results  # nothing is synced, and the InfraEnv names no sources
    assert host.status == "known-unbound"


def test_a_pool_host_is_not_asked_what_only_clusters_ask() -> None:
    results = _results(_pool(Service()))
    assert "ignition-downloadable" not in results
    assert "hostname-unique" not in results
    assert not any(name.endswith("-requirements-satisfied") for name in results)


def test_a_sixty_gigabyte_disk_is_enough_for_the_pool_and_not_for_a_cluster() -> None:
    service = Service()
    host = _pool(service, disk_gb=60)
    assert host.status == "known-unbound"
    lifecycle = service.cim.lifecycle
    lifecycle.bind(host, service.cluster(), service.now_s)
    lifecycle.register(service.infra_env(), host.id, service.cim.settings.agent_image, service.now_s)
    service.reply(host, "inventory", inventory(disk_gb=60))
    lifecycle.refresh(host, service.now_s)
    assert host.status == "insufficient"
    assert host.inventory is not None
    assert "Disk is too small (disk only has 60 GB, but 100 GB are required)" in host.inventory.text


def test_a_bound_host_waits_for_ignition_and_names_without_saying_so() -> None:
    host = _bound(Service())
    results = _results(host)
    assert results["ignition-downloadable"] == ("pending", "Ignition is not yet available, pending API connectivity")
    assert results["api-domain-name-resolved-correctly"] == (
        "pending",
        "DNS validation for the api.example.krnl.es domain cannot be completed at the moment. "
        "This could be due to other validations",
    )
    assert results["ntp-synced"] == ("failure", "Host couldn't synchronize with any NTP server")
    assert host.status == "insufficient"
    assert host.status_info == (
        "Host cannot be installed due to following failing validation(s): Host couldn't synchronize with any NTP server"
    )


def test_a_cluster_with_its_own_names_needs_no_dns() -> None:
    service = Service()
    host = _bound(service)
    service.reply(host, "api-vip-connectivity-check", {"is_success": True, "url": "u", "ignition": COREDNS})
    service.cim.lifecycle.refresh(host, service.now_s)
    assert _results(host)["apps-domain-name-resolved-correctly"][0] == "success"
    assert host.status == "known"  # although it has no NTP: that does not block


@pytest.mark.parametrize(
    ("addresses", "status"), [(["192.168.122.1"], "success"), ([], "failure"), (["192.168.126.21"], "failure")]
)
def test_other_clusters_need_names_that_lead_elsewhere(addresses: list[str], status: str) -> None:
    service = Service()
    host = _bound(service)
    service.reply(host, "api-vip-connectivity-check", {"is_success": True, "url": "u", "ignition": NEEDS_DNS})
    service.cim.lifecycle.refresh(host, service.now_s)
    assert _results(host)["api-domain-name-resolved-correctly"][0] == "error"  # no reply yet
    domains = service.cluster().domains
    resolutions = [{"domain_name": name, "ipv4_addresses": addresses} for name in domains]
    service.reply(host, "domain-resolution", {"resolutions": resolutions})
    service.cim.lifecycle.refresh(host, service.now_s)
    found = _results(host)["api-int-domain-name-resolved-correctly"]
    assert found[0] == status
    if status == "failure":
        assert found[1] == (
            "Couldn't resolve domain name api-int.example.krnl.es on the host. To continue installation, create the "
            "necessary DNS entries to resolve this domain name to your cluster's internal API load balancer IP address"
        )
    assert host.status == ("known" if status == "success" else "insufficient")


def test_a_failed_fetch_says_from_where_and_why() -> None:
    service = Service()
    host = _bound(service)
    service.reply(host, "api-vip-connectivity-check", {"url": "https://a/ignition", "download_error": "511"})
    service.cim.lifecycle.refresh(host, service.now_s)
    assert _results(host)["ignition-downloadable"] == (
        "failure",
        "This host has failed to download the ignition file from https://a/ignition with the following error: 511. "
        "Please ensure the host can reach this URL",
    )


def test_two_hosts_of_one_name_are_both_refused_and_both_freed() -> None:
    service = Service()
    first = _bound(service)
    other_id = "00000000-0000-4000-8000-00000000000b"
    second = service.cim.lifecycle.register(service.infra_env(), other_id, "image", service.now_s)
    service.cim.database.update_host(second, service.now_s, cluster_id=service.cluster().id)
    service.cim.database.move_host(second, "discovering", "", service.now_s)
    service.reply(second, "inventory", inventory())
    for host in (first, second):
        service.cim.lifecycle.refresh(host, service.now_s)
        assert _results(host)["hostname-unique"] == ("failure", "Hostname worker-0 is not unique in cluster")
    service.reply(second, "inventory", inventory("worker-1"))
    service.cim.lifecycle.refresh(first, service.now_s)
    assert _results(first)["hostname-unique"] == ("success", "Hostname worker-0 is unique in cluster")


@pytest.mark.parametrize(
    ("server", "passes"),
    [("https://192.168.122.1:6443", True), ("https://[fd00::1]:6443", True), ("https://api.example.es:6443", False)],
)
def test_a_kubeconfig_with_an_address_needs_no_dns(server: str, passes: bool) -> None:
    kubeconfig = orjson.dumps({"clusters": [{"name": "c", "cluster": {"server": server}}]}).decode()
    files = [{"path": "/etc/kubernetes/kubeconfig", "contents": {"source": "data:," + kubeconfig.replace('"', "%22")}}]
    assert passes_without_dns(orjson.dumps({"storage": {"files": files}}).decode()) is passes


def test_two_clusters_in_a_kubeconfig_prove_nothing() -> None:
    source = "data:,clusters: [{cluster: {server: https://1.2.3.4}}, {cluster: {server: https://1.2.3.5}}]"
    files = [{"path": "/etc/kubernetes/kubeconfig", "contents": {"source": source}}]
    assert not passes_without_dns(orjson.dumps({"storage": {"files": files}}).decode())
    assert not passes_without_dns("rubbish")


def test_the_first_evaluation_says_nothing_and_later_ones_say_what_changed() -> None:
    service = Service()
    host = _pool(service, cpus=1)
    assert service.messages(host, "host_validation_failed") == []
    service.reply(host, "inventory", inventory())
    service.cim.lifecycle.refresh(host, service.now_s)
    assert "Host worker-0: validation 'has-min-cpu-cores' is now fixed" in service.messages(
        host, "host_validation_fixed"
    )
    service.reply(host, "inventory", inventory(cpus=1))
    service.cim.lifecycle.refresh(host, service.now_s)
    assert "Host worker-0: validation 'has-min-cpu-cores' that used to succeed is now failing" in service.messages(
        host, "host_validation_failed"
    )


def test_smaller_minimums_are_for_every_role() -> None:
    minimums = HardwareMinimums.uniform(cpu_cores=1, memory_mib=256, disk_gb=1)
    service = Service(CimSettings(minimums=minimums))
    host = _pool(service, cpus=1, memory_gib=0.375, disk_gb=2)
    assert host.status == "known-unbound"
    assert _results(host)["has-memory-for-role"] == ("success", "Sufficient RAM for role auto-assign")


@pytest.mark.parametrize(("memory_mib", "method", "status"), [
    (8092, "dmidecode", "success"), (8091, "dmidecode", "failure"), (7929, "meminfo", "success"),
    (7928, "meminfo", "failure"),
])  # fmt: skip
def test_memory_has_a_tolerance(memory_mib: int, method: str, status: str) -> None:
    reported = inventory()
    reported["memory"] = {"physical_bytes": memory_mib * 2**20, "physical_bytes_method": method}
    service = Service()
    host = service.host()
    service.reply(host, "inventory", reported)
    service.cim.lifecycle.refresh(host, service.now_s)
    assert _results(host)["has-min-memory"][0] == status


def test_lost_media_disconnects_until_it_can_be_read_again() -> None:
    service = Service()
    host = _pool(service)
    service.reply(host, "inventory", "", exit_code=256)
    assert (host.status, host.media_connected) == ("disconnected-unbound", False)
    assert host.status_info.startswith("Unable to read from the discovery media.")
    assert service.messages(host, "host_media_disconnected") == [host.status_info]
    service.reply(host, "ntp-synchronizer", {"ntp_sources": []})
    service.cim.lifecycle.refresh(host, service.now_s)
    assert host.status == "known-unbound"


@pytest.mark.parametrize(
    ("status", "stage", "after_s", "expected", "info"),
    [
        ("installing", "", 1201, "error", "Host failed to install due to timeout while starting installation"),
        ("installing-in-progress", "Installing", 181, "error",
         "Host failed to install due to timeout while connecting to host during the installation phase."),
        ("installing-in-progress", "Rebooting", 2401, "installing-pending-user-action", "Host timed out when pulling"),
        ("installing-in-progress", "Joined", 3601, "error",
         "Host failed to install because its installation stage Joined took longer than expected 1h0m0s"),
        ("installing-in-progress", "Waiting for ignition", 80000, "installing-in-progress", "as the test"),
        ("reclaiming", "", 3601, "unbinding-pending-user-action", "Host is waiting to be unbound"),
        ("reclaiming-rebooting", "", 3599, "reclaiming-rebooting", "as the test"),
    ],
)  # fmt: skip
def test_time_outs(status: str, stage: str, after_s: float, expected: str, info: str) -> None:
    service = Service()
    host = service.host_in(status, stage=stage)
    service.now_s = START_S + after_s
    if stage != "Installing":
        service.cim.database.check_in(host, service.now_s, int(service.now_s), "")
    service.cim.lifecycle.refresh(host, service.now_s)
    assert (host.status, host.status_info.startswith(info)) == (expected, True)


def test_a_slow_image_is_named_by_what_it_did_not_do() -> None:
    service = Service()
    host = service.host_in("installing-in-progress", stage="Writing image to disk")
    service.now_s = START_S + 1801
    service.cim.database.check_in(host, service.now_s, int(service.now_s), "")
    service.cim.lifecycle.refresh(host, service.now_s)
    assert host.status_info == (
        "Host failed to install because its installation stage Writing image to disk did not sufficiently progress "
        "in the last 30m0s."
    )
