"""Commands of other processes about machines of an open lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labsim.errors import CheckFailed, LabsimError, NothingSelected, UsageError
from labsim.lab.daemon import _on_world
from labsim.lab.lab import Lab
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import open_lab
from labsim.machines.driver import CD_FIRST, NoSuchDevice, NoSuchSnapshot, Power, WrongPower
from labsim.model.scenario import LabSpec


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    spec = LabSpec.model_validate(
        {"infraEnvs": [{"name": "lab"}], "machines": [{"name": "worker", "count": 2, "infraEnv": "lab"}]}
    )
    with open_lab(spec, LabRequest(name="by-hand", folder=tmp_path, seed="1")) as opened:
        opened.lab.make()
        yield opened.lab


def say(lab: Lab, verb: str, machines: str = "worker-0", **options: Any) -> Any:
    return _on_world(lab, {"verb": verb, "machines": [machines], **options})


def boot_from_the_iso(lab: Lab) -> Any:
    return _on_world(lab, {"verb": "boot", "machines": ["worker-0"], "from": "discovery-iso", "forGood": True})


def test_each_command_says_what_it_did_to_each_machine(lab: Lab) -> None:
    assert say(lab, "snapshot", "worker-*", name="empty") == ["worker-0 kept as empty", "worker-1 kept as empty"]
    assert boot_from_the_iso(lab) == ["worker-0 boots from discovery-iso"]
    assert lab.driver.observe("worker-0").boot_order == CD_FIRST
    assert say(lab, "pause") == ["worker-0 paused"]
    assert say(lab, "resume") == ["worker-0 goes on"]
    assert say(lab, "reset") == ["worker-0 reset"]
    assert say(lab, "plug", disk={"size": "10GiB", "bus": "scsi"}) == ["sda plugged into worker-0"]
    (card,) = say(lab, "plug", nic={})
    assert card.endswith(" plugged into worker-0")
    assert say(lab, "unplug", device="sda") == ["sda unplugged from worker-0"]
    assert say(lab, "revert", to="empty") == ["worker-0 is as it was at empty, and off"]
    assert lab.driver.observe("worker-0").power is Power.OFF
    assert say(lab, "boot") == ["worker-0 boots from disk"]
    assert say(lab, "stop") == ["worker-0 stopped"]


@pytest.mark.parametrize(
    ("command", "expected", "says"),
    [
        ({"verb": "reset"}, WrongPower, "is off"),
        ({"verb": "pause", "machines": ["nobody"]}, NothingSelected, "no machine matches nobody"),
        ({"verb": "boot", "from": "tape"}, UsageError, "cannot boot from 'tape'"),
        ({"verb": "plug"}, UsageError, "exactly one of disk and nic"),
        ({"verb": "plug", "disk": {"size": "10GiB", "bus": "sata"}}, UsageError, "sata disk cannot be plugged"),
        ({"verb": "plug", "disk": {"size": "ten"}}, UsageError, "no size"),
        ({"verb": "unplug", "device": "vdz"}, NoSuchDevice, "vdz"),
        ({"verb": "revert", "to": "never"}, NoSuchSnapshot, "never"),
        ({"verb": "snapshot", "name": "../escape"}, UsageError, "name"),
    ],
    ids=lambda value: value["verb"] if isinstance(value, dict) else None,
)
def test_what_cannot_be_done_is_refused(
    lab: Lab, command: dict[str, Any], expected: type[LabsimError], says: str
) -> None:
    with pytest.raises(expected, match=says):
        _on_world(lab, {"machines": ["worker-0"], **command})


def test_a_graceful_stop_that_nobody_heeds_fails_and_says_what_to_do(lab: Lab) -> None:
    boot_from_the_iso(lab)
    with pytest.raises(CheckFailed, match="worker-0 did not shut down within 10s") as caught:
        say(lab, "stop", graceful=True, within="10s")
    assert "labsim stop --hard" in caught.value.hint
