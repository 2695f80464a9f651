"""The ledger: on disk before anything is made, readable after a crash, removable any number of times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.errors import LabError
from labsim.lab.ledger import Entry, Ledger, remove_all


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "lab" / "ledger.jsonl")


def test_nothing_is_pending_where_there_is_no_ledger(ledger: Ledger) -> None:
    assert ledger.pending() == []
    assert not ledger.path.exists(), "looking makes nothing"


def test_what_is_intended_is_pending_until_it_is_removed_newest_first(ledger: Ledger) -> None:
    ledger.intend("volume", "/a", mark="lab-1")
    ledger.intend("domain", "u-1", mark="lab-1", detail={"uri": "qemu:///session"})
    ledger.created("domain", "u-1")
    assert [(entry.kind, entry.state) for entry in ledger.pending()] == [("domain", "created"), ("volume", "intended")]
    assert ledger.pending()[0].detail == {"uri": "qemu:///session"}
    assert ledger.pending()[0].mark == "lab-1"
    ledger.removed("domain", "u-1")
    assert [entry.identity for entry in ledger.pending()] == ["/a"]


def test_a_line_is_synced_before_the_call_returns(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append(ledger.path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    ledger.intend("domain", "u-1", mark="lab-1")
    assert synced, "nothing was synced"
    assert b'"u-1"' in synced[0]


@given(cut=st.integers(min_value=0, max_value=400))
def test_a_torn_last_line_is_dropped_and_the_next_one_is_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("torn") / "ledger.jsonl")
    for number in range(3):
        ledger.intend("domain", f"u-{number}", mark="lab")
    content = ledger.path.read_bytes()
    cut = min(cut, len(content))
    ledger.path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    assert [entry.identity for entry in ledger.pending()] == [f"u-{number}" for number in reversed(range(whole))]
    ledger.intend("domain", "after", mark="lab")
    assert ledger.pending()[0].identity == "after"
    assert len(ledger.pending()) == whole + 1


def test_a_broken_line_in_the_middle_is_an_error_not_a_silent_loss(ledger: Ledger) -> None:
    ledger.intend("domain", "u-1", mark="lab")
    with ledger.path.open("ab") as file:
        file.write(b"rubbish\n")
    ledger.intend("domain", "u-2", mark="lab")
    with pytest.raises(LabError, match="line 2") as caught:
        ledger.pending()
    assert caught.value.hint


def test_a_ledger_that_cannot_be_written_stops_the_making(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("a file where the folder should be")
    with pytest.raises(LabError, match="cannot be written"):
        Ledger(tmp_path / "lab" / "ledger.jsonl").intend("domain", "u-1", mark="lab")


def test_removal_tries_everything_and_keeps_what_is_left(ledger: Ledger) -> None:
    for identity in ("u-1", "u-2", "u-3"):
        ledger.intend("domain", identity, mark="lab")
    ledger.intend("mystery", "m", mark="lab")
    gone: list[str] = []

    def remover(entry: Entry) -> None:
        if entry.identity == "u-2" and "u-2" not in gone:
            gone.append("u-2")
            raise LabError("busy", hint="wait")
        gone.append(entry.identity)

    with pytest.raises(LabError, match="2 thing") as caught:
        remove_all(ledger, {"domain": remover})
    assert "busy (wait)" in caught.value.message
    assert "mystery m" in caught.value.message
    assert {entry.identity for entry in ledger.pending()} == {"u-2", "m"}
    remove_all(ledger, {"domain": remover, "mystery": remover})
    remove_all(ledger, {})
    assert ledger.pending() == []
    assert gone == ["u-3", "u-2", "u-1", "m", "u-2"]
