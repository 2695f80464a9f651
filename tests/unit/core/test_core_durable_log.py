"""The durable log: what was synced is there, what was torn is cut off, and damage is told apart from it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from labsim.durable_log import MAGIC, DurableLog, LogFailed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = DurableLog.made(tmp_path / "log", [b"first"])
    log.append(b"second")
    log.sync()
    log.append(b"third" * 5)
    log.sync()
    log.close()
    return tmp_path / "log"


def payloads(path: Path) -> list[bytes]:
    log, found = DurableLog.opened(path)
    log.close()
    return found


def test_what_was_appended_is_there(path: Path) -> None:
    assert payloads(path) == [b"first", b"second", b"third" * 5]


def test_a_log_that_was_torn_anywhere_in_its_last_frame_goes_on_before_it(path: Path) -> None:
    whole = path.read_bytes()
    last = 8 + len(b"third" * 5)
    for left in range(len(whole) - last, len(whole)):
        path.write_bytes(whole[:left])
        log, found = DurableLog.opened(path)
        assert found == [b"first", b"second"]
        log.append(b"fourth")
        log.sync()
        log.close()
        assert payloads(path) == [b"first", b"second", b"fourth"], f"torn at {left}"


def test_a_last_frame_whose_bytes_never_reached_the_disk_is_cut_off(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-10] + bytes(10))
    assert payloads(path) == [b"first", b"second"]


def test_damage_before_the_end_is_refused_with_its_place(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    place = whole.index(b"second")
    whole[place] ^= 1
    path.write_bytes(whole)
    with pytest.raises(LogFailed, match=f"damaged at byte {place - 8}"):
        DurableLog.opened(path)
    assert path.read_bytes() == whole


def test_another_format_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(MAGIC, b"labsim-log 2\n"))
    with pytest.raises(LogFailed, match="no log of this version") as refused:
        DurableLog.opened(path)
    assert "labsim-log 1" in refused.value.hint


def test_two_processes_do_not_write_one_log(path: Path) -> None:
    log, _ = DurableLog.opened(path)
    with pytest.raises(LogFailed, match="in use by another process"):
        DurableLog.opened(path)
    log.close()


def test_a_full_disk_is_one_line_with_a_hint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = DurableLog.opened(path)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LogFailed, match="No space left on device") as failed:
        log.append(b"fourth")
    assert "make room" in failed.value.hint
    log.close()


def test_writing_anew_replaces_a_log_as_a_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(LogFailed):
            DurableLog.made(path, [b"new"])
    assert payloads(path) == [b"first", b"second", b"third" * 5]
    assert list(path.parent.iterdir()) == [path]
    DurableLog.made(path, [b"new"]).close()
    assert payloads(path) == [b"new"]
