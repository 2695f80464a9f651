"""A history that cannot be written ends its run, and nothing in the run sees it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labsim.errors import LabError
from labsim.report.evidence import EvidenceFile
from labsim.report.run_directory import RunDirectory

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_once_and_never_raised_at_the_writer() -> None:
    told: list[LabError] = []
    with EvidenceFile(FULL) as history:
        history.on_failure = told.append
        for _ in range(5):
            history.buffered.write(b"x" * 100_000)
        history.flush()
    assert [str(error) for error in told] == ["writing /dev/full: No space left on device"]
    assert history.failure is told[0]
    assert "free some disk space" in told[0].hint


def test_what_is_written_is_in_the_file(tmp_path: Path) -> None:
    with EvidenceFile(tmp_path / "history") as history:
        history.buffered.write(b"one\n")
        history.buffered.write(b"two\n" * 50_000)
    assert (tmp_path / "history").read_bytes() == b"one\n" + b"two\n" * 50_000
    assert history.failure is None


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=r"run directory .*: Not a directory"):
        RunDirectory(tmp_path / "file" / "run")
    with pytest.raises(LabError, match=r"writing .*: No such file or directory"):
        EvidenceFile(tmp_path / "nowhere" / "history")


def test_a_discarded_run_takes_with_it_what_was_made_for_it_and_no_more(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "runs" / "one")
    directory.write_inputs("text", {})
    directory.write_consoles({"worker-0": b"hello"})
    directory.discard()
    assert os.listdir(tmp_path) == []
    given = tmp_path / "given"
    given.mkdir()
    directory = RunDirectory(given)
    directory.write_inputs("text", {})
    directory.discard()
    assert os.listdir(given) == []


def test_a_discarded_run_leaves_the_folder_that_others_use(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "runs" / "one")
    RunDirectory(tmp_path / "runs" / "two")
    directory.discard()
    assert os.listdir(tmp_path / "runs") == ["two"]
