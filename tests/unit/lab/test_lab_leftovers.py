"""What is a lab's is found and removed, also after a crash in the middle of a removal; what is not is left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labsim.cli import labs
from labsim.errors import ExitCode, LabError
from labsim.lab import leftovers
from labsim.lab.folder import LabFolder, labs_root
from labsim.lab.ledger import Ledger
from labsim.machines.libvirt.domain_removal import DIRECTORY, DOMAIN
from labsim.machines.libvirt.files import MARK_FILE, remove_directory
from labsim.machines.libvirt.marked import MarkedDomain
from labsim.machines.libvirt.session import SESSION_URI

UUID = "5b0c1c52-6f0e-4c6c-8f7c-e2e000000000"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(leftovers, "has_session", lambda: False)
    return labs_root()


def dead_lab(root: Path, name: str) -> LabFolder:
    folder = LabFolder(root / name)
    folder.make()
    folder.write_facts({"pid": 1, "process_started": "never"})
    directory = folder.path / "machines" / "worker-0"
    Ledger(folder.ledger).intend(DIRECTORY, str(directory), mark=f"{name}-mark")
    directory.mkdir(parents=True)
    (directory / MARK_FILE).write_text(f"{name}-mark\n")
    (directory / "vda.raw").touch()
    return folder


def test_a_dead_lab_is_found_and_down_all_removes_it_beside_strangers(root: Path) -> None:
    dead_lab(root, "one")
    stranger = root / "mine" / "thesis.txt"
    stranger.parent.mkdir()
    stranger.write_text("mine")
    found = leftovers.search(root).found
    assert sorted(thing.kind for thing in found) == ["folder", "folder", "volume"]
    assert {(thing.lab, thing.state, thing.remove) for thing in found} == {("one", "dead", "labsim down one")}
    assert labs.down_labs("", every=True) == ExitCode.PASSED
    assert leftovers.search(root).found == ()
    assert [path.name for path in root.iterdir()] == ["mine"]
    assert stranger.read_text() == "mine"
    with pytest.raises(LabError, match="no lab's folder"):
        labs.down_labs("mine", every=False)


def test_a_lab_that_cannot_be_removed_does_not_keep_the_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = dead_lab(root, "a-bad-one")
    Ledger(folder.ledger).intend("something unknown", "x", mark="m")
    dead_lab(root, "good")
    assert labs.down_labs("", every=True) == ExitCode.LAB_FAILED
    assert [path.name for path in root.iterdir()] == ["a-bad-one"]
    assert "lab a-bad-one is not removed" in capsys.readouterr().err


def test_a_domain_without_a_ledger_is_found_by_its_mark(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dead_lab(root, "one")
    Ledger(folder.ledger).intend(DOMAIN, UUID, mark="one-mark")
    ours = MarkedDomain(
        uri=SESSION_URI, uuid=UUID, name="any", mark="one-mark", folder=folder.path, nvram=None, media=None
    )
    monkeypatch.setattr(leftovers, "marked_domains", lambda uri: [ours])
    domains = [thing for thing in leftovers.search(root).found if thing.kind == "domain"]
    assert [(thing.identity, thing.remove) for thing in domains] == [(UUID, "labsim down one")]
    shutil.rmtree(root)
    monkeypatch.setattr(leftovers, "has_session", lambda: True)
    (left,) = leftovers.search(root).found
    assert (left.lab, left.state) == ("one-mark", "dead")
    assert left.remove.startswith(f"virsh -c {SESSION_URI} undefine")
    assert UUID in left.remove


def test_a_removal_that_breaks_off_anywhere_can_be_said_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark goes last, so what stays says whose it is."""
    folder = dead_lab(root, "one")
    machine = folder.path / "machines" / "worker-0"
    for number in range(3):
        (machine / f"data{number}.raw").touch()
    unlink, calls = Path.unlink, [0]

    def unlink_two(path: Path, missing_ok: bool = False) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_two)
    with pytest.raises(KeyboardInterrupt):
        remove_directory(machine, "one-mark")
    assert (machine / MARK_FILE).exists()
    remove_directory(machine, "one-mark")
    assert not machine.exists()
