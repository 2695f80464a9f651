"""The parts of the libvirt driver that need no hypervisor: connection, files, acceleration, profiles, probe ISO."""

from __future__ import annotations

import errno
import os
import types
from pathlib import Path
from typing import Any

import pytest

from labsim.errors import InvalidFile, LabError, UsageError
from labsim.machines.boot_probe import write_probe_iso
from labsim.machines.driver import DiskSpec, MachineSpec
from labsim.machines.libvirt import session
from labsim.machines.libvirt.acceleration import find_acceleration
from labsim.machines.libvirt.connection import Connection
from labsim.machines.libvirt.errors import INTERNAL_ERROR, NO_DOMAIN, SYSTEM_ERROR, HypervisorError, not_installed
from labsim.machines.libvirt.files import MARK_FILE, MachineFiles, remove_directory
from labsim.machines.profiles import load_profiles, profile

# -- connection ----------


class FakeError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self._code = code

    def get_error_code(self) -> int:
        return self._code


class FakeHypervisor:
    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def isAlive(self) -> int:  # noqa: N802 - libvirt's name
        return 1

    def close(self) -> None:
        self.closed = True


def fake_libvirt(opened: list[FakeHypervisor]) -> Any:
    def open_(uri: str) -> FakeHypervisor:
        opened.append(FakeHypervisor(len(opened)))
        return opened[-1]

    return types.SimpleNamespace(libvirtError=FakeError, open=open_)


def connection(opened: list[FakeHypervisor]) -> Connection:
    return Connection("qemu:///elsewhere", load=lambda: fake_libvirt(opened))


def test_a_connection_is_opened_when_first_needed_and_kept() -> None:
    opened: list[FakeHypervisor] = []
    asked = connection(opened)
    assert opened == []
    assert [asked.call(lambda hypervisor: hypervisor.number) for _ in range(3)] == [0, 0, 0]


def test_a_lost_connection_is_renewed_once_and_the_question_said_again() -> None:
    opened: list[FakeHypervisor] = []

    def ask(hypervisor: Any) -> int:
        if hypervisor.number == 0:
            raise FakeError(INTERNAL_ERROR, "client socket is closed")
        return int(hypervisor.number)

    assert connection(opened).call(ask) == 1
    assert opened[0].closed


def test_a_connection_that_is_lost_again_is_an_error() -> None:
    opened: list[FakeHypervisor] = []

    def ask(hypervisor: Any) -> None:
        raise FakeError(SYSTEM_ERROR, "Cannot recv data: Connection reset by peer")

    with pytest.raises(HypervisorError) as caught:
        connection(opened).call(ask)
    assert caught.value.rule.name == "connection-lost"
    assert len(opened) == 2


def test_another_error_is_not_asked_twice() -> None:
    opened: list[FakeHypervisor] = []

    def ask(hypervisor: Any) -> None:
        raise FakeError(NO_DOMAIN, "Domain not found")

    with pytest.raises(HypervisorError):
        connection(opened).call(ask)
    assert len(opened) == 1


def test_a_closed_driver_says_so() -> None:
    asked = connection([])
    asked.close()
    with pytest.raises(LabError, match="closed"):
        asked.call(lambda hypervisor: None)


def test_without_the_binding_the_error_says_how_to_get_it() -> None:
    def load() -> types.ModuleType:
        raise not_installed(ModuleNotFoundError("No module named 'libvirt'"))

    with pytest.raises(HypervisorError, match="not installed") as caught:
        Connection(load=load).call(lambda hypervisor: None)
    assert "pip install" in caught.value.hint


# -- the session ----------


def test_an_ordinary_user_has_libvirt_start_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert session.session_uri() == "qemu:///session"


def test_root_without_libvirt_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("labsim.machines.libvirt.session.shutil.which", lambda name, path: None)
    with pytest.raises(HypervisorError, match="not installed") as caught:
        session.session_uri()
    assert "install-packages.sh" in caught.value.hint


@pytest.mark.parametrize(("program", "socket"), [("libvirtd", "libvirt-sock"), ("virtqemud", "virtqemud-sock")])
def test_root_finds_its_session_with_and_without_a_runtime_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, socket: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        "labsim.machines.libvirt.session.shutil.which",
        lambda name, path: f"/usr/sbin/{name}" if name == program else None,
    )
    monkeypatch.setattr(session, "_answers", lambda path: True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert session.session_uri() == f"qemu:///session?socket={tmp_path}/libvirt/{socket}"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert session.session_uri() == f"qemu:///session?socket=/home/somebody/.cache/libvirt/{socket}"


# -- files ----------

SPEC = MachineSpec(
    name="worker-0",
    uuid="5b0c1c52-6f0e-4c6c-8f7c-000000000001",
    cpus=1,
    memory_mib=64,
    disks=(DiskSpec(name="vda", size_bytes=1 << 30, serial="s"),),
    nics=(),
)


def test_disks_are_sparse_and_keep_their_contents(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path, "lab-1")
    files.make(SPEC)
    (disk,) = files.disks(SPEC)
    assert disk.stat().st_size == 1 << 30
    assert disk.stat().st_blocks * 512 < 1 << 20
    with disk.open("r+b") as file:
        file.write(b"boot")
    files.make(SPEC)
    with disk.open("rb") as file:
        assert file.read(4) == b"boot"


def test_a_disk_never_shrinks(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path, "lab-1")
    files.make(SPEC)
    smaller = MachineSpec(
        name=SPEC.name,
        uuid=SPEC.uuid,
        cpus=1,
        memory_mib=64,
        disks=(DiskSpec(name="vda", size_bytes=1 << 20, serial="s"),),
        nics=(),
    )
    with pytest.raises(LabError, match="shrink"):
        files.make(smaller)


def test_a_long_console_is_read_oldest_first(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path, "lab-1")
    files.make(SPEC)
    console = files.console(SPEC.name)
    for suffix, text in ((".1", "one "), (".0", "two "), ("", "three")):
        Path(f"{console}{suffix}").write_text(text)
    assert files.console_bytes(SPEC.name) == b"one two three"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "UPPER", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match="name"):
        MachineFiles(tmp_path, "lab-1").directory(name)


def test_only_a_directory_with_the_mark_is_deleted(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path, "lab-1")
    files.make(SPEC)
    directory = files.directory(SPEC.name)
    with pytest.raises(LabError, match="belongs to 'lab-1'"):
        remove_directory(directory, "lab-2")
    assert directory.is_dir()
    remove_directory(directory, "lab-1")
    remove_directory(directory, "lab-1")
    assert not directory.exists()


def test_a_directory_without_a_mark_is_deleted_only_when_it_holds_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "worker-0"
    directory.mkdir()
    (directory / MARK_FILE).touch()
    (directory / "letters.txt").write_text("somebody's")
    with pytest.raises(LabError, match=r"letters\.txt"):
        remove_directory(directory, "lab-1")
    (directory / "letters.txt").unlink()
    remove_directory(directory, "lab-1")
    assert not directory.exists()


def test_a_link_in_the_place_of_a_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "treasure").mkdir()
    (tmp_path / "treasure" / MARK_FILE).write_text("lab-1")
    (tmp_path / "worker-0").symlink_to(tmp_path / "treasure")
    with pytest.raises(LabError, match="link"):
        remove_directory(tmp_path / "worker-0", "lab-1")
    assert (tmp_path / "treasure").is_dir()


# -- acceleration ----------


def test_without_processor_flags_a_device_that_opens_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu sse2 hypervisor\n")
    found = find_acceleration(tmp_path / "cpuinfo", Path("/dev/null"))
    assert not found.kvm
    assert "vmx" in found.notice


@pytest.mark.parametrize("device", ["/dev/null", "/nowhere/kvm"])
@pytest.mark.parametrize("told", ["flags\t\t: fpu vmx\n", "CPU implementer\t: 0x41\n"], ids=["x86", "arm"])
def test_with_flags_the_device_must_still_work(tmp_path: Path, device: str, told: str) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    found = find_acceleration(tmp_path / "cpuinfo", Path(device))
    assert not found.kvm
    assert device in found.notice
    assert "\n" not in found.notice


def test_without_a_processor_file_nothing_is_assumed(tmp_path: Path) -> None:
    assert not find_acceleration(tmp_path / "none").kvm


# -- profiles ----------


def test_the_shipped_profiles() -> None:
    default, small = profile("default"), profile("small")
    assert (default.cpus, default.memory_mib, default.disk_bytes) == (4, 16 << 10, 120 << 30)
    assert (small.cpus, small.memory_mib, small.disk_bytes) == (1, 256, 1 << 30)


def test_all_mistakes_of_a_profile_file_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "profiles.yaml"
    file.write_text("a: {cpus: 0, memory: lots, disk: 1GiB, color: red}\nb: 7\nc: {cpus: true, memory: 1GiB}\n")
    with pytest.raises(InvalidFile) as caught:
        load_profiles(file)
    paths = [path for path, _, _ in caught.value.problems]
    assert sorted(paths) == ["a.color", "a.cpus", "a.memory", "b", "c.cpus", "c.disk"]


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        profile("tiny")
    assert "default, small" in caught.value.hint


# -- the probe ----------


def test_the_probe_iso_is_bootable_and_holds_its_boot_sector(tmp_path: Path) -> None:
    content = write_probe_iso(tmp_path / "probe.iso", install=True).read_bytes()
    assert content[17 * 2048 + 7 : 17 * 2048 + 30] == b"EL TORITO SPECIFICATION"
    assert bytes.fromhex("baf803b043ee") in content, "mov dx, 0x3f8; mov al, 'C'; out dx, al"
    assert content.count(b"\x55\xaa") >= 2


# -- snapshots ----------


def test_a_snapshot_is_put_back_byte_for_byte_and_holes_stay_holes(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path, "lab-1")
    disk = DiskSpec(name="vda", size_bytes=1 << 30, serial="s")
    spec = MachineSpec(name="worker-0", uuid="u", cpus=1, memory_mib=64, disks=(disk,), nics=())
    files.make(spec)
    (path,) = files.disks(spec)
    with path.open("r+b") as file:
        for place in (0, 500 << 20, (1 << 30) - 7):
            file.seek(place)
            file.write(b"present")
    files.nvram("worker-0").write_bytes(b"variables")
    before = path.read_bytes()
    files.keep("worker-0", "first")
    assert files.snapshots("worker-0") == ("first",)
    path.write_bytes(b"something else")
    files.nvram("worker-0").write_bytes(b"others")
    files.bring_back("worker-0", "first")
    assert path.read_bytes() == before
    assert files.nvram("worker-0").read_bytes() == b"variables"
    kept = tmp_path / "machines" / "worker-0" / "snapshots" / "first" / "vda.raw"
    assert max(path.stat().st_blocks, kept.stat().st_blocks) * 512 < 1 << 20


def test_a_snapshot_that_the_disk_cannot_hold_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = MachineFiles(tmp_path, "lab-1")
    disk = DiskSpec(name="vda", size_bytes=512, serial="s")
    files.make(MachineSpec(name="worker-0", uuid="u", cpus=1, memory_mib=64, disks=(disk,), nics=()))

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr("labsim.machines.libvirt.files.copy_sparse", full)
    with pytest.raises(LabError, match="the disk is full"):
        files.keep("worker-0", "first")
    assert files.snapshots("worker-0") == ()
    assert list((tmp_path / "machines" / "worker-0" / "snapshots").iterdir()) == []
