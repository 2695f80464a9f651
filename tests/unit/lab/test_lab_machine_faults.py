"""Faults of a lab's machines: their symptoms in upstream's words, and that each of them is undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labsim.errors import LabError, NothingSelected, UsageError
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.machine_commands import carry_out
from labsim.lab.machine_faults import NoPower, carry_fault_command
from labsim.machines.driver import BootSource, NoMedia, Power
from labsim.model.kinds import AGENT
from labsim.model.machine_fault import FaultDetails, fault_of
from labsim.model.objects import dig
from labsim.model.scenario import parse_scenario
from labsim.scenario.runner import run_scenario
from labsim.scenario.subject import ScenarioLab
from labsim.scenario.verdicts import Verdict

SCENARIO = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: faults}
spec:
  lab:
    infraEnvs: [{name: pool, autoApprove: true}]
    machines: [{name: worker, infraEnv: pool}]
  steps:
    - createHostedCluster: {name: example, availability: SingleReplica, nodePool: {replicas: 1}}
"""
NAME = "worker-0"
UP_S = 300.0


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose machine is free."""
    made = Lab(parse_scenario(SCENARIO).spec.lab, LabOptions(name="faults", folder=tmp_path))
    made.make()
    start(made, BootSource.DISCOVERY_ISO)
    made.world.run_for(UP_S)
    assert state_of(made) == "known-unbound"
    return made


def start(lab: Lab, source: BootSource) -> None:
    carry_out(lab, "reboot", [NAME], {"source": source.value}, lambda line: None)


def state_of(lab: Lab) -> str:
    (agent,) = lab.hub.list(AGENT)
    return str(dig(agent, "status", "debugInfo", "state"))


def state_info_of(lab: Lab) -> str:
    (agent,) = lab.hub.list(AGENT)
    return str(dig(agent, "status", "debugInfo", "stateInfo", default=""))


def validation_of(lab: Lab, wanted: str) -> tuple[str, str]:
    """Status and message of a validation."""
    (agent,) = lab.hub.list(AGENT)
    for validations in dig(agent, "status", "validationsInfo").values():
        for validation in validations:
            if validation["id"] == wanted:
                return validation["status"], validation["message"]
    raise AssertionError(f"no validation {wanted}")


def cluster_made(lab: Lab) -> None:
    step = parse_scenario(SCENARIO).spec.steps[0].create_hosted_cluster
    assert step is not None
    lab.create_hosted_cluster(step)


def begin(lab: Lab, **fault: Any) -> Callable[[], None]:
    begun = lab.faults.begin(NAME, fault_of(fault))
    return lambda: lab.faults.mend([begun])


def comes_to(lab: Lab, state: str, within_s: float = 3600.0) -> None:
    assert lab.run_until(lambda: state_of(lab) == state, lab.now() + within_s), f"{state_of(lab)}: {state_info_of(lab)}"


def test_a_machine_without_a_network_is_disconnected_in_upstreams_words(lab: Lab) -> None:
    mend = begin(lab, what="cable-out")
    comes_to(lab, "disconnected-unbound", 600.0)
    assert state_info_of(lab) == "Host has stopped communicating with the installation service"
    assert validation_of(lab, "connected") == ("failure", "Host is disconnected")
    mend()
    comes_to(lab, "known-unbound", 300.0)
    assert b"i/o timeout" in lab.console_of(NAME)


def test_a_power_cut_takes_the_machine_off_until_it_is_mended(lab: Lab) -> None:
    mend = begin(lab, what="power-cut")
    assert lab.driver.observe(NAME).power is Power.OFF
    with pytest.raises(NoPower) as refused:
        start(lab, BootSource.DISCOVERY_ISO)
    assert refused.value.hint
    comes_to(lab, "disconnected-unbound", 600.0)
    mend()
    comes_to(lab, "known-unbound", 600.0)


@pytest.mark.parametrize("place", [{"service": "ignition-server"}, {"name": "ignition.example"}])
def test_what_a_fault_blocks_is_blocked_until_it_is_mended(lab: Lab, place: dict[str, str]) -> None:
    fabric = lab.world.fabric
    cluster_made(lab)
    lab.run_until(lambda: any(found.service == "ignition-server" for found in fabric.endpoints()), lab.now() + 3600.0)
    (server,) = (found for found in fabric.endpoints() if found.service == "ignition-server")
    mend = begin(lab, what="blocked", **place)
    assert fabric.is_blocked(NAME, server) == ("service" in place)
    assert not fabric.is_blocked("another", server)
    mend()
    assert not fabric.is_blocked(NAME, server)


def test_a_blocked_ignition_server_fails_its_validation_in_upstreams_words(lab: Lab) -> None:
    mend = begin(lab, what="blocked", service="ignition-server")
    cluster_made(lab)
    comes_to(lab, "insufficient")
    assert lab.run_until(lambda: validation_of(lab, "ignition-downloadable")[0] == "failure", lab.now() + 600.0)
    message = validation_of(lab, "ignition-downloadable")[1]
    assert message.startswith("This host has failed to download the ignition file from https://")
    assert message.endswith("connect: connection refused. Please ensure the host can reach this URL")
    assert message in state_info_of(lab)
    mend()
    comes_to(lab, "added-to-existing-cluster")


def test_a_blocked_port_is_that_port_on_every_host(lab: Lab) -> None:
    mend = begin(lab, what="blocked", port=443)
    comes_to(lab, "disconnected-unbound", 600.0)
    mend()
    comes_to(lab, "known-unbound")


def test_a_blocked_name_fails_the_validation_of_that_name_alone(lab: Lab) -> None:
    mend = begin(lab, what="blocked", name="API-int.example.krnl.es")
    cluster_made(lab)
    comes_to(lab, "insufficient")

    def failed() -> bool:
        return validation_of(lab, "api-int-domain-name-resolved-correctly")[0] == "failure"

    assert lab.run_until(failed, lab.now() + 600.0)
    assert validation_of(lab, "api-int-domain-name-resolved-correctly")[1] == (
        "Couldn't resolve domain name api-int.example.krnl.es on the host. To continue installation, create the "
        "necessary DNS entries to resolve this domain name to your cluster's internal API load balancer IP address"
    )
    assert validation_of(lab, "api-domain-name-resolved-correctly")[0] == "success"
    mend()
    comes_to(lab, "added-to-existing-cluster")


def test_the_api_s_own_name_is_that_of_the_ignition_server_too(lab: Lab) -> None:
    begin(lab, what="blocked", name="api.example.krnl.es")
    cluster_made(lab)
    assert lab.run_until(lambda: "no such host" in state_info_of(lab), lab.now() + 1200.0)
    assert "This host has failed to download the ignition file from https://api.example.krnl.es:" in state_info_of(lab)


def test_a_node_without_the_api_waits_for_a_person_in_upstreams_words(lab: Lab) -> None:
    begin(lab, what="blocked", service="kube-apiserver")
    cluster_made(lab)
    comes_to(lab, "installing-pending-user-action", 2 * 3600.0)
    assert state_info_of(lab).startswith(
        "Host timed out when pulling the configuration files. Verify in the host console that the host boots from the "
        "OpenShift installation disk"
    )


def test_media_that_are_out_do_not_disturb_what_runs_from_memory_and_stop_the_next_start(lab: Lab) -> None:
    mend = begin(lab, what="media-out")
    lab.world.run_for(1200.0)
    assert state_of(lab) == "known-unbound"
    with pytest.raises(NoMedia):
        start(lab, BootSource.DISCOVERY_ISO)
    start(lab, BootSource.DISK)
    assert b"No bootable device." in lab.console_of(NAME)
    comes_to(lab, "disconnected-unbound", 900.0)
    mend()
    start(lab, BootSource.DISK)
    comes_to(lab, "known-unbound", 600.0)


@pytest.mark.parametrize(
    ("skew", "wrong"), [({"ahead": "2h"}, True), ({"ahead": "30m"}, False), ({"behind": "1h"}, True)]
)
def test_a_clock_that_is_too_wrong_fails_its_validation(lab: Lab, skew: dict[str, str], wrong: bool) -> None:
    mend = begin(lab, what="clock-skew", **skew)
    lab.world.run_for(600.0)
    status, message = validation_of(lab, "time-synced-between-host-and-service")
    assert (status == "failure", message.startswith("Host clock is not synchronized, ")) == (wrong, wrong)
    assert state_of(lab) == "known-unbound", "it is no reason to leave the pool"
    mend()
    lab.world.run_for(600.0)
    assert validation_of(lab, "time-synced-between-host-and-service") == (
        "success",
        "Host clock is synchronized with service",
    )


@pytest.mark.parametrize(("full", "message"), [(False, "Input/output error"), (True, "No space left on device")])
def test_a_disk_that_cannot_be_written_fails_the_installation(lab: Lab, full: bool, message: str) -> None:
    mend = begin(lab, what="disk-failing", full=full)
    cluster_made(lab)
    comes_to(lab, "error")
    assert state_info_of(lab) == f"Failed - failed writing image to /dev/vda: {message}"
    mend()
    driver: Any = lab.driver
    assert driver.machine(NAME).disk_error == ""


def test_every_fault_is_in_the_history_and_undone_at_the_end_of_a_run(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    text = SCENARIO.replace(
        "    - createHosted",
        "    - boot: {machines: worker-0, from: discovery-iso}\n"
        "    - fault: {machines: worker-0, what: media-out}\n"
        "    - fault: {machines: worker-0, what: clock-skew, behind: 1h}\n"
        "    - fault: {machines: worker-0, what: cable-out}\n"
        "    - fault: {machines: worker-0, what: blocked, port: 443}\n"
        "    - fault: {machines: worker-0, what: disk-failing}\n"
        "    - fault: {machines: worker-0, what: power-cut}\n"
        "    - wait: {for: 1m}\n    #",
    )
    scenario = parse_scenario(text)
    lab = Lab(scenario.spec.lab, LabOptions(name="faults", folder=tmp_path))
    lab.make()
    lab.world.history.listen(lines.append, "fault")
    before = lab.driver.observe(NAME)
    subject: Any = ScenarioLab(lab)
    assert run_scenario(subject, scenario).verdict is Verdict.PASSED
    kinds = ["media-out", "clock-skew", "cable-out", "blocked", "disk-failing", "power-cut"]
    assert [line["fault"] for line in lines if line["what"] == "on"] == kinds
    ended = [line["fault"] for line in lines if line["what"] == "off"]
    assert ended == [*reversed(kinds[:-1]), "power-cut"], "power comes back when everything else has"
    assert lab.faults.present() == []
    after = lab.driver.observe(NAME)
    assert (after.has_link, after.power, after.media is not None) == (True, Power.ON, True)
    assert before.power is Power.OFF


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"what": "power-cut", "service": "ignition-server"}, "service goes with blocked, not with power-cut"),
        ({"what": "blocked"}, "blocked needs exactly one of service, port, name"),
        ({"what": "blocked", "port": 1, "name": "x"}, "blocked needs exactly one of service, port, name"),
        ({"what": "clock-skew"}, "clock-skew needs either ahead or behind"),
        ({"what": "clock-skew", "ahead": "1h", "behind": "1h"}, "clock-skew needs either ahead or behind"),
        ({"what": "cable-out", "ahead": "1h"}, "ahead goes with clock-skew, not with cable-out"),
        ({"what": "cable-out", "full": True}, "full goes with disk-failing, not with cable-out"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaultDetails.model_validate(fault)


def test_commands_begin_list_and_clear(lab: Lab) -> None:
    def carry(**command: Any) -> list[Any]:
        return carry_fault_command(lab.faults, lab.machine_names(), json.loads(json.dumps(command)))

    assert carry(fault="list") == []
    assert carry(fault={"what": "cable-out"}, machines=["w*"]) == ["fault 1 is on: cable-out of worker-0"]
    assert carry(fault={"what": "blocked", "port": 443}, machines=["worker-0"]) == [
        "fault 2 is on: blocked port 443 of worker-0"
    ]
    assert carry(fault="list")[1] == {"number": 2, "machine": "worker-0", "fault": "blocked", "details": "port 443"}
    with pytest.raises(UsageError, match="has that fault already"):
        carry(fault={"what": "cable-out"}, machines=["worker-0"])
    with pytest.raises(UsageError, match="blocked needs exactly one"):
        carry(fault={"what": "blocked"}, machines=["worker-0"])
    with pytest.raises(NothingSelected, match="no machine matches nobody"):
        carry(fault={"what": "cable-out"}, machines=["nobody"])
    with pytest.raises(NothingSelected, match="there is no fault 7"):
        carry(fault="clear", numbers=[7])
    assert carry(fault="clear", numbers=[1]) == ["fault 1 is off: cable-out of worker-0"]
    assert carry(fault="clear") == ["fault 2 is off: blocked port 443 of worker-0"]
    assert carry(fault="clear") == ["no fault is on"]


def test_machines_that_share_an_address_are_not_kept_from_one_place(lab: Lab) -> None:
    class Others:
        """A driver without faulty parts, and not the simulated one."""

    lab.driver = Others()  # type: ignore[assignment]
    for fault in ({"what": "blocked", "port": 443}, {"what": "clock-skew", "ahead": "1h"}, {"what": "disk-failing"}):
        with pytest.raises(LabError) as refused:
            begin(lab, **fault)
        assert refused.value.hint
    assert lab.faults.present() == []


def test_mending_what_is_not_broken_fails_the_step(tmp_path: Path) -> None:
    scenario = parse_scenario(SCENARIO.replace("    - createHosted", "    - mend: {machines: worker-0}\n    #"))
    lab = Lab(scenario.spec.lab, LabOptions(name="faults", folder=tmp_path))
    lab.make()
    subject: Any = ScenarioLab(lab)
    (step,) = run_scenario(subject, scenario).steps
    assert (step.verdict, step.message) == (Verdict.FAILED, "nothing to mend: worker-0 has no fault")


def test_a_restarted_lab_takes_away_what_a_killed_process_has_left(lab: Lab) -> None:
    driver: Any = lab.driver
    driver.set_link(NAME, False)
    driver.fail_disks(NAME, "Input/output error")
    lab.faults.forget()
    assert driver.observe(NAME).has_link
    assert driver.machine(NAME).disk_error == ""


def test_a_lab_that_is_left_in_order_is_left_without_faults(lab: Lab) -> None:
    begin(lab, what="power-cut")
    begin(lab, what="cable-out")
    lab.leave()
    view = lab.driver.observe(NAME)
    assert (view.power, view.has_link, lab.faults.present()) == (Power.ON, True, [])
