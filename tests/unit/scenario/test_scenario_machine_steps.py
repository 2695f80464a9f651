"""What a scenario does to machines by hand, seen at their agents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labsim.lab.lab import Lab
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import open_lab
from labsim.machines.driver import CD_FIRST, Power
from labsim.model.objects import dig
from labsim.model.scenario import Scenario, parse_scenario
from labsim.scenario.runner import run_scenario
from labsim.scenario.steps import title_of
from labsim.scenario.subject import ScenarioLab
from labsim.scenario.verdicts import RunResult


def scenario(steps: str) -> Scenario:
    document = {
        "apiVersion": "labsim/v1alpha1",
        "kind": "Scenario",
        "metadata": {"name": "by-hand"},
        "spec": {
            "lab": {
                "infraEnvs": [{"name": "lab"}],
                "machines": [{"name": "worker", "count": 2, "infraEnv": "lab"}],
            },
            "steps": yaml.safe_load(steps),
        },
    }
    return parse_scenario(yaml.safe_dump(document))


@contextlib.contextmanager
def lab_after(steps: str, folder: Path) -> Iterator[tuple[Lab, RunResult]]:
    wanted = scenario(steps)
    with open_lab(wanted.spec.lab, LabRequest(name="by-hand", folder=folder, seed="1")) as opened:
        subject: Any = ScenarioLab(opened.lab)
        opened.lab.make()
        yield opened.lab, run_scenario(subject, wanted)


def passed(result: RunResult) -> bool:
    return [step.message for step in result.steps if step.message] == []


BOTH_ARE_KNOWN = """
- boot: {machines: worker-*, from: discovery-iso}
- expect: {agents: all, count: 2, state: known-unbound, within: 15m}
"""


def test_a_paused_machine_is_missed_and_comes_back(tmp_path: Path) -> None:
    steps = f"""{BOTH_ARE_KNOWN}
- pause: {{machines: worker-0}}
- expect: {{agents: {{machines: worker-0}}, count: 1, state: disconnected-unbound, within: 10m}}
- expect: {{agents: {{machines: worker-1}}, count: 1, state: known-unbound, within: 1m}}
- resume: {{machines: worker-0}}
- expect: {{agents: all, count: 2, state: known-unbound, within: 10m}}
"""
    with lab_after(steps, tmp_path) as (lab, result):
        assert passed(result), result.steps
        assert lab.console_of("worker-0").count(b"started from") == 1, "it was never started again"


def test_a_system_heeds_its_power_button_and_firmware_does_not(tmp_path: Path) -> None:
    with lab_after(f"{BOTH_ARE_KNOWN}\n- stop: {{machines: worker-0, graceful: true}}", tmp_path / "up") as (
        lab,
        result,
    ):
        assert passed(result), result.steps
        assert lab.driver.observe("worker-0").power is Power.OFF
        assert lab.console_of("worker-0").endswith(b"the power button was pressed: shutting down\n")
    steps = """
- boot: {machines: worker-0, from: discovery-iso}
- stop: {machines: worker-0, graceful: true, within: 30s}
"""
    with lab_after(steps, tmp_path / "starting") as (lab, result):
        assert "worker-0 did not shut down within 30s" in str(result.steps[-1].message)
        assert lab.driver.observe("worker-0").power is Power.ON


def test_what_is_plugged_in_shows_in_the_inventory_while_the_machine_runs(tmp_path: Path) -> None:
    """The service hears of it at the next inventory; the Agent says so when the service looks at it again."""
    plugged = f"""{BOTH_ARE_KNOWN}
- plug: {{machines: worker-0, disk: {{size: 50GiB, bus: scsi, wwn: "0x5000c50000000001"}}}}
- plug: {{machines: worker-0, nic: {{mac: "52:54:00:aa:bb:09"}}}}
- wait: {{for: 2m}}
- label: {{agents: all, labels: {{look: again}}}}
- wait: {{for: 1m}}
"""
    unplugged = f"""{plugged}
- unplug: {{machines: worker-0, device: sda}}
- wait: {{for: 2m}}
- label: {{agents: all, labels: {{look: once-more}}}}
- wait: {{for: 1m}}
"""
    with lab_after(plugged, tmp_path / "in") as (lab, result):
        assert passed(result), result.steps
        disks = inventory_of(lab, "worker-0")["disks"]
        assert [disk["id"] for disk in disks if disk["name"] == "sda"] == ["/dev/disk/by-id/wwn-0x5000c50000000001"]
        cards = inventory_of(lab, "worker-0")["interfaces"]
        assert [card["macAddress"] for card in cards if not card.get("ipV4Addresses")] == ["52:54:00:aa:bb:09"]
    with lab_after(unplugged, tmp_path / "out") as (lab, result):
        assert passed(result), result.steps
        assert "sda" not in [disk["name"] for disk in inventory_of(lab, "worker-0")["disks"]]


def inventory_of(lab: Lab, machine: str) -> Any:
    agent = next(agent for agent in lab.agents() if lab.machine_of(agent) == machine)
    return dig(agent, "status", "inventory", default={})


def test_a_machine_goes_back_to_the_empty_disk_that_it_had(tmp_path: Path) -> None:
    steps = f"""
- snapshot: {{machines: worker-*, name: empty}}
{BOTH_ARE_KNOWN}
- approve: {{agents: all}}
- createHostedCluster: {{name: example, nodePool: {{replicas: 2}}}}
- expect: {{agents: {{cluster: example}}, count: 2, state: added-to-existing-cluster, within: 60m}}
- revert: {{machines: worker-0, to: empty}}
- reboot: {{machines: worker-*, from: disk}}
- wait: {{for: 2m}}
"""
    with lab_after(steps, tmp_path) as (lab, result):
        assert passed(result), result.steps
        assert lab.console_of("worker-0").count(b"started from disk") == 1, "there is nothing on its disk"
        assert lab.console_of("worker-1").count(b"started from disk") == 2


def test_a_wrong_order_for_good_shows_after_a_reset(tmp_path: Path) -> None:
    steps = f"""{BOTH_ARE_KNOWN}
- approve: {{agents: all}}
- createHostedCluster: {{name: example, nodePool: {{replicas: 2}}}}
- expect: {{agents: {{cluster: example}}, count: 2, state: added-to-existing-cluster, within: 60m}}
- reboot: {{machines: worker-0, from: discovery-iso, forGood: true}}
- wait: {{for: 3m}}
- reset: {{machines: worker-*}}
- wait: {{for: 3m}}
"""
    with lab_after(steps, tmp_path) as (lab, result):
        assert passed(result), result.steps
        assert lab.driver.observe("worker-0").boot_order == CD_FIRST
        assert lab.console_of("worker-0").count(b"started from discovery-iso") == 3
        assert lab.console_of("worker-1").count(b"started from disk") == 2


@pytest.mark.parametrize(
    ("step", "title"),
    [
        ("boot: {machines: worker-0, from: disk, forGood: true}", "boot worker-0 from disk for good"),
        ("pause: {machines: worker-*}", "pause worker-*"),
        ("revert: {machines: [worker-0, worker-1], to: first}", "revert worker-0, worker-1"),
    ],
)
def test_a_step_is_told_in_one_line(step: str, title: str) -> None:
    assert title_of(scenario(f"- {step}").spec.steps[0]) == title
