"""Agents: pushing specs, admission, restoring rows, requests for certificates."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cim_lab import HOST_ID, CimWorld, FakeAgent, Service, inventory

from labsim.controllers.cim.csr_matching import BOOTSTRAPPER, BOOTSTRAPPER_GROUPS, csr_kind
from labsim.controllers.cim.inventory import parse_inventory
from labsim.controllers.cim.reclaim import daemon_set_name
from labsim.entropy import Entropy
from labsim.kube.certificates import csr, derived_key
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT, AGENT_CLUSTER_INSTALL, AGENT_SERVICE_CONFIG, INFRA_ENV
from labsim.model.objects import Object, condition_of, new

MERGE = "application/merge-patch+json"


@pytest.fixture
def known() -> CimWorld:
    world = CimWorld()
    world.infra_env()
    agent = FakeAgent(world)
    agent.register()
    agent.work()
    world.run(10)
    assert agent.state() == "known-unbound"
    return world


def _synced(world: CimWorld) -> tuple[str, str]:
    found = condition_of(world.agent(), "SpecSynced")
    assert found is not None
    return found["reason"], found["message"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hostname": "localhost"}, "The host name localhost is forbidden"),
        ({"hostname": "No_Good"}, "Hostname does not pass required regex validation: "),
        ({"installation_disk_id": "none"}, "Requested installation disk is not part of the host's valid disks"),
        ({"installerArgs": "["}, "failed to parse installer args: "),
        ({"installerArgs": '["--shutdown"]'}, "found unexpected flag --shutdown for installer"),
        ({"ignitionConfigOverrides": "{"}, "error parsing ignition: "),
    ],
)
def test_bad_specs_are_input_errors(known: CimWorld, spec: Object, message: str) -> None:
    known.patch_agent(spec)
    known.run(1)
    reason, text = _synced(known)
    assert reason == "InputError"
    assert text.startswith(f"The Spec could not be synced due to an input error: {message}")
    known.patch_agent(dict.fromkeys(spec))
    known.run(1)
    assert _synced(known) == ("SyncOK", "The Spec has been successfully applied")


def test_bad_roles_and_missing_tokens_are_backend_errors(known: CimWorld) -> None:
    known.patch_agent({"role": "captain"})
    known.run(1)
    assert _synced(known)[0] == "BackendError"
    known.patch_agent({"role": "", "ignitionEndpointTokenReference": {"namespace": "agents", "name": "token"}})
    known.run(1)
    assert 'secrets "token" not found' in _synced(known)[1]
    known.secret("agents", "token", {"ignition-token": "t0k"})
    known.run(1)
    assert _synced(known)[0] == "SyncOK"
    host = known.cim.database.host_of("agents", HOST_ID)
    assert host is not None
    assert host.ignition_token == "t0k"


def test_what_people_want_reaches_the_host(known: CimWorld) -> None:
    known.patch_agent({"hostname": "mine", "role": "worker", "approved": True, "nodeLabels": {"a": "b"}})
    known.run(1)
    host = known.cim.database.host_of("agents", HOST_ID)
    assert host is not None
    assert (host.hostname, host.role, host.approved, host.node_labels) == ("mine", "worker", True, {"a": "b"})
    events = [event.message for event in known.cim.database.events("host_id", HOST_ID)]
    assert "Host mine: updated approved to true" in events


def test_a_row_and_its_agent_hold_one_copy_of_what_both_show(known: CimWorld) -> None:
    known.patch_agent({"approved": True})
    known.run(10)
    (host,) = known.cim.database.hosts.values()
    agent = known.agent()
    assert host.inventory is not None
    assert host.validations_document is agent["status"]["validationsInfo"]
    assert host.inventory.agent_status() is agent["status"]["inventory"]


def test_an_installing_host_skips_most_of_its_spec_without_a_word() -> None:
    service = Service()
    host = service.host_in("installing-in-progress", stage="Installing")
    from labsim.controllers.cim.spec_push import push_spec

    service.run(push_spec(service.cim.lifecycle, host, {"hostname": "localhost", "approved": True}, service.now_s))
    assert (host.requested_hostname, host.approved) == ("", True)


def test_a_lost_row_is_made_again_from_the_agent(known: CimWorld) -> None:
    database = known.cim.database
    host = database.host_of("agents", HOST_ID)
    assert host is not None
    database.drop_host(host)
    known.patch_agent({"approved": True})
    known.run(1)
    restored = database.host_of("agents", HOST_ID)
    assert restored is not None
    assert (restored.status, restored.hostname, restored.approved) == ("known-unbound", "worker-0", True)
    assert _synced(known)[0] == "SyncOK"


def test_an_agent_without_its_infra_env_label_cannot_be_restored() -> None:
    world = CimWorld()
    world.hub.create(new(AGENT, "agents", HOST_ID, spec={"approved": False, "role": ""}), AGENT)
    world.run(1)
    assert _synced(world) == (
        "BackendError",
        "The Spec could not be synced due to backend error: Missing InfraEnv name label",
    )
    bound = condition_of(world.agent(), "Bound")
    assert bound is not None
    assert (bound["status"], bound["reason"]) == ("Unknown", "NotAvailable")


def test_the_iso_of_another_infra_env_takes_the_agent_over(known: CimWorld) -> None:
    known.patch_agent({"approved": True, "hostname": "mine"})
    known.run(1)
    known.infra_env("second")
    agent = FakeAgent(known, env="second")
    assert agent.register().status == 201
    known.run(1)
    taken = known.agent()
    assert taken["spec"] == {"approved": False, "role": ""}
    assert taken["metadata"]["labels"]["infraenvs.agent-install.openshift.io"] == "second"
    assert [owner["name"] for owner in taken["metadata"]["ownerReferences"]] == ["second"]
    assert [host.infra_env_id for host in known.cim.database.hosts_with_id(HOST_ID)] == [agent.infra_env_id]


# -- admission -----------------------------------------------------------------------------------------------------


def _refused(call: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        call()
    return refused.value


def test_an_agent_cannot_change_clusters_while_it_installs(known: CimWorld) -> None:
    def in_state(state: str, kind: str) -> None:
        status = {"debugInfo": {"state": state}, "kind": kind}
        known.hub.patch(AGENT, "agents", HOST_ID, {"status": status}, patch_type=MERGE, subresource="status")

    known.patch_agent({"clusterDeploymentName": {"namespace": "a", "name": "b"}})
    in_state("installing", "AddToExistingClusterHost")
    error = _refused(lambda: known.patch_agent({"clusterDeploymentName": {"namespace": "a", "name": "c"}}))
    assert (error.code, error.reason) == (400, "BadRequest")
    assert error.message == (
        'admission webhook "agentvalidators.admission.agentinstall.openshift.io" denied the request: '
        "Attempted to change Spec.ClusterDeploymentName which is immutable during Agent installation."
    )
    in_state("installing", "Host")
    assert _refused(lambda: known.patch_agent({"clusterDeploymentName": None})).code == 400
    in_state("installing", "AddToExistingClusterHost")
    assert "clusterDeploymentName" not in known.patch_agent({"clusterDeploymentName": None})["spec"]


def test_one_disk_is_named_in_one_way(known: CimWorld) -> None:
    both = {"installation_disk_id": "a", "installation_disk_path": "b"}
    assert "Either InstallationDiskID or InstallationDiskPath" in _refused(lambda: known.patch_agent(both)).message


def test_infra_envs_have_what_cannot_change(known: CimWorld) -> None:
    for change, text in (
        ({"cpuArchitecture": "arm64"}, "Attempted to change Spec.CpuArchitecture"),
        ({"clusterRef": {"namespace": "a", "name": "b"}}, "Attempted to change Spec.ClusterRef"),
    ):
        error = _refused(lambda c=change: known.hub.patch(INFRA_ENV, "agents", "lab", {"spec": c}, patch_type=MERGE))
        assert text in error.message
    spec = {"pullSecretRef": {"name": "p"}, "clusterRef": {"namespace": "a", "name": "b"}, "osImageVersion": "4.18"}
    made = _refused(lambda: known.hub.create(new(INFRA_ENV, "agents", "x", spec=spec), INFRA_ENV))
    assert "(not both)" in made.message


def test_an_install_cannot_change_once_it_is_completed() -> None:
    world = CimWorld()
    world.cluster()

    def patch(spec: Object) -> None:
        world.hub.patch(AGENT_CLUSTER_INSTALL, "clusters-example", "example", {"spec": spec}, patch_type=MERGE)

    assert "Unsupported change" in _refused(lambda: patch({"sshPublicKey": "x"})).message
    patch({"ignitionEndpoint": {"url": "https://elsewhere"}, "provisionRequirements": {"controlPlaneAgents": 1}})


def test_a_single_node_manages_its_own_network() -> None:
    world = CimWorld()
    spec: Object = {
        "clusterDeploymentRef": {"name": "x"},
        "networking": {"userManagedNetworking": False},
        "provisionRequirements": {"controlPlaneAgents": 1},
    }
    error = _refused(
        lambda: world.hub.create(new(AGENT_CLUSTER_INSTALL, "agents", "x", spec=spec), AGENT_CLUSTER_INSTALL)
    )
    assert (error.code, error.message.partition("request: ")[2]) == (
        409, "UserManagedNetworking must be set to true with SNO",
    )  # fmt: skip


def test_only_one_agent_service_config_counts() -> None:
    world = CimWorld()

    def claim(size: str) -> Object:
        return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}

    spec = {"databaseStorage": claim("10Gi"), "filesystemStorage": claim("20Gi"), "imageStorage": claim("5Gi")}
    for name in ("agent", "other"):
        world.hub.create(new(AGENT_SERVICE_CONFIG, None, name, spec=spec), AGENT_SERVICE_CONFIG)
    world.run(1)
    found = condition_of(world.get(AGENT_SERVICE_CONFIG, "", "agent"), "ReconcileCompleted")
    assert found is not None
    assert found["message"] == "Image storage 5Gi is too small, it must be at least 10Gi"
    assert "status" not in world.get(AGENT_SERVICE_CONFIG, "", "other")
    patch = {"spec": {"imageStorage": claim("20Gi")}}
    world.hub.patch(AGENT_SERVICE_CONFIG, "", "agent", patch, patch_type=MERGE)
    world.run(1)
    status = world.get(AGENT_SERVICE_CONFIG, "", "agent")["status"]
    assert {entry["type"]: entry["reason"] for entry in status["conditions"]} == {
        "ReconcileCompleted": "ReconcileSucceeded",
        "DeploymentsHealthy": "DeploymentSucceeded",
    }


# -- inventories and requests ----------------------------------------------------------------------------------------


def test_the_service_completes_an_inventory() -> None:
    found = parse_inventory(_text(inventory()), 100)
    assert [disk.id for disk in found.disks] == ["/dev/disk/by-path/pci-0000:04:00.0", "/dev/sr0"]
    assert [nic["name"] for nic in found.interfaces] == ["enp1s0"]  # virtual ones are not stored
    shown = found.agent_status()
    assert shown["disks"][1]["installationEligibility"]["notEligibleReasons"] == [
        "Disk is too small (disk only has 0 GB, but 100 GB are required)",
        "Drive type is ODD, it must be one of HDD, SSD, Multipath, RAID, iSCSI, FC.",
    ]
    assert shown["cpu"] == {
        "count": 4, "clockMegahertz": 2394, "flags": ["vmx"], "modelName": "Xeon", "architecture": "x86_64",
    }  # fmt: skip
    assert shown["interfaces"][0]["ipV6Addresses"] == []
    assert found.labels()["inventory.agent-install.openshift.io/host-manufacturer"] == "RedHat"


def test_the_default_disk_is_the_smallest_rotating_one() -> None:
    def disk(name: str, kind: str, size_gb: int, **extra: Any) -> Object:
        return {"name": name, "path": f"/dev/{name}", "drive_type": kind, "size_bytes": size_gb * 10**9, **extra}

    reported = inventory()
    reported["disks"] = [
        disk("sda", "HDD", 120, bootable=True),
        disk("sdb", "SSD", 110),
        disk("sdc", "HDD", 500),
        disk("sdd", "HDD", 200),
        disk("nvme0n1", "HDD", 150),
    ]
    found = [entry.name for entry in parse_inventory(_text(reported), 100).eligible_disks]
    assert found == ["sdd", "sdc", "sdb", "nvme0n1", "sda"]


def _text(document: Object) -> str:
    import orjson

    return orjson.dumps(document).decode()


def _request(name: str = "worker-0", *, serving: bool = False, **changes: Any) -> Object:
    entropy = Entropy(1)
    pem = csr(
        derived_key(entropy, "k"),
        f"system:node:{name}",
        organizations=changes.pop("organizations", ("system:nodes",)),
        dns_names=changes.pop("dns_names", ("worker-0",) if serving else ()),
        ip_addresses=changes.pop("ip_addresses", ("192.168.126.21",) if serving else ()),
    )
    spec = {
        "request": base64.b64encode(pem.encode()).decode(),
        "usages": ["digital signature", "server auth" if serving else "client auth", "key encipherment"],
        "username": f"system:node:{name}" if serving else BOOTSTRAPPER,
        "groups": ["system:nodes", "system:authenticated"] if serving else sorted(BOOTSTRAPPER_GROUPS),
        **changes,
    }
    return {"metadata": {"name": "csr-1"}, "spec": spec}


NODE: Object = {
    "metadata": {"name": "worker-0"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.168.126.21"}]},
}


@pytest.mark.parametrize(
    ("request_", "node", "kind"),
    [
        (_request(), None, "client"),
        (_request("WORKER-0"), None, "client"),
        (_request("other"), None, None),
        (_request(organizations=("system:nodes", "system:masters")), None, None),
        (_request(dns_names=("worker-0",)), None, None),
        (_request(username="system:admin"), None, None),
        (_request(groups=["system:authenticated"]), None, None),
        (_request(usages=["client auth"]), None, None),
        (_request(serving=True), NODE, "serving"),
        (_request(serving=True), None, None),
        (_request(serving=True, ip_addresses=("10.0.0.1",)), NODE, None),
        (_request(serving=True, username="system:node:other"), NODE, None),
        (_request(serving=True, groups=["system:authenticated"]), NODE, None),
        ({"metadata": {"name": "x"}, "spec": {"request": "rubbish"}}, NODE, None),
    ],
)
def test_which_requests_are_the_node_s(request_: Object, node: Object | None, kind: str | None) -> None:
    assert csr_kind(request_, "worker-0", node) == kind


def test_a_reclaim_pod_is_named_after_its_node() -> None:
    assert daemon_set_name("worker-0.example.es") == "worker-0-example-es-reclaim"
