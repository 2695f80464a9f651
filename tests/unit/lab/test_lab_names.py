"""A lab's names: records follow its hosted clusters, machines resolve through them, and a missing one has upstream's
symptom."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography import x509

from labsim.guest.effects import Http
from labsim.lab.dns import published_by
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.machine_traffic import MachineTraffic
from labsim.machines.driver import BootSource
from labsim.model.kinds import AGENT, HOSTED_CLUSTER, SECRET
from labsim.model.objects import Object, condition_of, condition_status, dig
from labsim.model.scenario import parse_scenario
from labsim.network.zone import Record

SCENARIO = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {{name: names}}
spec:
  lab:
    dns: {dns}
    infraEnvs: [{{name: pool, autoApprove: true}}]
    machines: [{{name: worker, infraEnv: pool}}]
  steps:
    - createHostedCluster: {{name: example, availability: SingleReplica, publish: {publish}, nodePool: {{replicas: 1}}}}
"""
SETTLED_S = 1500.0


def lab_with(folder: Path, dns: str, publish: str = "NodePort") -> Lab:
    """A lab with one machine that has been up for long enough to be claimed and checked."""
    scenario = parse_scenario(SCENARIO.format(dns=dns, publish=publish))
    lab = Lab(scenario.spec.lab, LabOptions(name="names", folder=folder))
    lab.make()
    for machine in lab.machine_names():
        lab.insert_discovery_iso(machine)
        lab.driver.boot(machine, BootSource.DISCOVERY_ISO)
    step = scenario.spec.steps[0].create_hosted_cluster
    assert step is not None
    lab.create_hosted_cluster(step)
    lab.world.run_for(SETTLED_S)
    return lab


def state_of(lab: Lab) -> str:
    (agent,) = lab.hub.list(AGENT)
    return str(dig(agent, "status", "debugInfo", "state"))


def failing(lab: Lab) -> str:
    (agent,) = lab.hub.list(AGENT)
    return str(dig(agent, "status", "debugInfo", "stateInfo", default=""))


def cluster_of(lab: Lab) -> Object:
    found = lab.hub.get(HOSTED_CLUSTER, "clusters", "example")
    assert found is not None
    return found


def test_a_hosted_cluster_publishes_its_name_and_a_machine_joins_by_it(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, "{}")
    assert state_of(lab) == "added-to-existing-cluster"
    cluster = cluster_of(lab)
    assert dig(cluster, "status", "controlPlaneEndpoint", "host") == "api.example.krnl.es"
    assert str(dig(cluster, "status", "ignitionEndpoint")).startswith("api.example.krnl.es:")
    assert Record("api.example.krnl.es", "192.168.122.1") in lab.world.fabric.zone.wanted()


def test_the_certificate_of_the_api_server_is_for_its_name(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, "{}")
    secret = lab.hub.get(SECRET, "clusters-example", "kas-server-crt")
    pem = base64.b64decode(dig(secret, "data", "tls.crt"))
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "api.example.krnl.es" in names.get_values_for_type(x509.DNSName)


def test_without_api_the_ignition_cannot_be_downloaded_and_says_why(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, "{missing: [api.example.krnl.es]}")
    assert state_of(lab) == "insufficient"
    assert (
        "ignition file download failed: request failed: dial tcp: lookup api.example.krnl.es on 192.168.122.1:53: "
        "no such host. Please ensure the host can reach this URL"
    ) in failing(lab)
    assert dig(cluster_of(lab), "status", "controlPlaneEndpoint", "host"), "the hub itself is well"


@pytest.mark.parametrize(
    ("missing", "domain", "target"),
    [
        ("api-int.example.krnl.es", "api-int.example.krnl.es", "internal API load balancer"),
        ("*.apps.example.krnl.es", "console-openshift-console.apps.example.krnl.es", "application ingress"),
    ],
)
def test_without_another_record_its_validation_fails(tmp_path: Path, missing: str, domain: str, target: str) -> None:
    lab = lab_with(tmp_path, f"{{missing: ['{missing}']}}")
    assert state_of(lab) == "insufficient"
    assert (
        f"Couldn't resolve domain name {domain} on the host. To continue installation, create the necessary DNS "
        f"entries to resolve this domain name to your cluster's {target} IP address"
    ) in failing(lab)


def test_a_record_that_is_mended_lets_the_machine_go_on(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, "{missing: [api.example.krnl.es]}")
    lab.world.fabric.zone.leave_out([])
    lab.world.run_for(SETTLED_S)
    assert state_of(lab) == "added-to-existing-cluster"


def test_a_record_that_leads_to_a_machine_of_nobody_is_unreachable(tmp_path: Path) -> None:
    lab = Lab(
        parse_scenario(SCENARIO.format(dns="{}", publish="NodePort")).spec.lab,
        LabOptions(name="names", folder=tmp_path),
    )
    traffic = MachineTraffic(lab.world, lab.options.addresses.all_of_hub)
    answers: list[object] = []
    request = Http("GET", "https://assisted-service.labsim.internal/", insecure=True)
    traffic.carry("worker-0", request, ("192.168.122.99",), answers.append)
    assert str(answers[0]) == "dial tcp 192.168.122.99:443: connect: no route to host"


@pytest.mark.parametrize(
    ("stack", "addresses"),
    [
        ("IPv4", ("192.168.122.1",)),
        ("IPv6", ("2620:52:0:1306::1",)),
        ("dual", ("192.168.122.1", "2620:52:0:1306::1")),
    ],
)
def test_records_have_the_families_of_the_stack_and_machines_join(
    tmp_path: Path, stack: str, addresses: tuple[str, ...]
) -> None:
    lab = lab_with(tmp_path, f"{{stack: {stack}}}")
    assert lab.world.fabric.zone.resolve("api.example.krnl.es") == addresses
    assert state_of(lab) == "added-to-existing-cluster"


def test_records_go_with_their_hosted_cluster(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, "{}")
    lab.hub.delete(HOSTED_CLUSTER, "clusters", "example")
    lab.world.run_for(SETTLED_S)
    assert lab.world.fabric.zone.resolve("api.example.krnl.es") == ()
    assert lab.world.fabric.zone.resolve("assisted-service.labsim.internal") != ()


def test_a_machine_that_cannot_reach_konnectivity_is_missed_and_found_again(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, "{}")
    lab.world.run_for(SETTLED_S)
    assert condition_status(cluster_of(lab), "DataPlaneConnectionAvailable") == "True"
    fabric = lab.world.fabric
    fabric.block("worker-0", "konnectivity")
    lab.world.run_for(SETTLED_S)
    condition = condition_of(cluster_of(lab), "DataPlaneConnectionAvailable")
    assert condition is not None
    assert condition["message"] == "failed to read konnectivity-agent logs from data plane"
    assert condition_status(cluster_of(lab), "Available") == "True"
    fabric.unblock("worker-0", "konnectivity")
    lab.world.run_for(SETTLED_S)
    assert condition_status(cluster_of(lab), "DataPlaneConnectionAvailable") == "True"


def test_a_load_balancer_and_routes_lead_machines_there_too(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, "{}", publish="LoadBalancer")
    lab.world.run_for(SETTLED_S)
    assert state_of(lab) == "added-to-existing-cluster"
    cluster = cluster_of(lab)
    assert dig(cluster, "status", "controlPlaneEndpoint") == {"host": "192.168.121.200", "port": 6443}
    assert dig(cluster, "status", "ignitionEndpoint") == "ignition-server-clusters-example.apps.hub.labsim.internal"
    assert condition_status(cluster, "DataPlaneConnectionAvailable") == "True"
    assert lab.world.fabric.zone.resolve("api.example.krnl.es") == ("192.168.121.200",)
    assert {(row["service"], row["port"]) for row in published_by(lab)} == {
        ("kube-apiserver", 6443), ("ignition-server", 443), ("konnectivity", 443), ("oauth", 443)
    }  # fmt: skip
