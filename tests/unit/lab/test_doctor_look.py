"""What the doctor looks up: nobody keeps it waiting, and what may not be read is a fact, not a crash."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from labsim.errors import LabError
from labsim.lab.doctor import look
from labsim.machines.libvirt.acceleration import find_acceleration


def test_a_hypervisor_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(look, "HYPERVISOR_ANSWERS_WITHIN_S", 0.05)
    monkeypatch.setattr(look, "check_hypervisor", lambda uri: answered.wait(10))
    problem, fix = look._hypervisor("qemu:///session")
    answered.set()
    assert "does not answer" in problem
    assert fix == "look at it: virsh -c qemu:///session list"


def test_what_the_hypervisor_lacks_comes_with_its_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str) -> None:
        raise LabError("no QEMU", hint="install it")

    monkeypatch.setattr(look, "check_hypervisor", refuse)
    assert look._hypervisor("qemu:///session") == ("no QEMU", "install it")


def test_a_folder_that_is_not_made_yet_is_judged_by_the_one_above(tmp_path: Path) -> None:
    found = look._folder("labs", tmp_path / "not" / "yet")
    assert found.path == str(tmp_path / "not" / "yet")
    assert found.writable
    assert found.free_bytes > 0


def test_a_folder_that_may_not_be_looked_into_is_not_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    assert look._folder("labs", Path("/proc/1/no-such-folder")).path == "/proc/1/no-such-folder"


def test_the_group_kvm_helps_only_where_the_processor_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> int:
        raise PermissionError(13, "Permission denied")

    able, unable = tmp_path / "able", tmp_path / "unable"
    able.write_text("flags\t\t: fpu vmx\n")
    unable.write_text("flags\t\t: fpu\n")
    monkeypatch.setattr(os, "open", refuse)
    found = [find_acceleration(cpuinfo, tmp_path / "kvm") for cpuinfo in (able, unable)]
    monkeypatch.undo()
    assert [one.refused for one in found] == [True, False]
    assert not find_acceleration(able, tmp_path / "kvm").refused  # no such device


def test_the_largest_base_image_counts_where_it_may_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look._image_bytes(tmp_path) == look.USUAL_IMAGE_BYTES
    (tmp_path / "base-1.iso").write_bytes(b"123")
    assert look._image_bytes(tmp_path) == 3

    def refuse(*args: object, **kwargs: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "glob", refuse)
    assert look._image_bytes(tmp_path) == look.USUAL_IMAGE_BYTES


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ({"uefi"}, {"secure-boot"})),
        ({"targets": [{"architecture": "aarch64"}]}, (set(), set())),
        ({"mapping": {"executable": {"filename": "/not/there"}}}, (set(), set())),
        ({"mapping": "nonsense"}, (set(), set())),
    ],
)
def test_a_firmware_counts_where_its_file_is_there(
    tmp_path: Path, changes: dict[str, object], expected: tuple[set[str], set[str]]
) -> None:
    image = tmp_path / "code.fd"
    image.touch()
    descriptor = {
        "interface-types": ["uefi"],
        "mapping": {"device": "flash", "executable": {"filename": str(image)}},
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["secure-boot"],
    }
    file = tmp_path / "50-edk2.json"
    file.write_text(json.dumps({**descriptor, **changes}))
    assert look._descriptor(file) == expected
