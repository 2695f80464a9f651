"""From what kept a command from its work to one line, a hint and an exit code."""

from __future__ import annotations

import errno
from typing import NoReturn

import pytest

from labsim.cli.outcome import carried_out
from labsim.errors import InvalidFile, LabError, NothingSelected, UsageError


def raising(error: BaseException) -> int:
    def command() -> NoReturn:
        raise error

    return carried_out(command)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("wrong", hint="right"), 2, "labsim: wrong\n  hint: right\n"),
        (LabError("cannot", hint="do this"), 4, "labsim: cannot\n  hint: do this\n"),
        (NothingSelected("none"), 5, "labsim: none\n"),
        (InvalidFile("file", [("a.b", "is wrong", "try c"), ("", "too", "")]), 2,
         "labsim: file: 2 mistake(s)\n  a.b: is wrong (try c)\n  too\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 4,
         "labsim: the system refused something that labsim needs: No space left on device (/x)\n"
         "  hint: free some disk space, or choose a place on another disk\n"),
        (KeyboardInterrupt(), 130, "labsim: interrupted; what was made is removed\n"),
    ],
    ids=["usage", "lab", "nothing", "file", "system", "interrupt"],
)  # fmt: skip
def test_what_went_wrong_is_told(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(error) == code
    assert capsys.readouterr().err == text


def test_a_fault_of_ours_is_70_and_shows_where(caplog: pytest.LogCaptureFixture) -> None:
    assert raising(ZeroDivisionError("ours")) == 70
    assert "labsim has a bug" in caplog.text
    assert "ZeroDivisionError: ours" in caplog.text


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0, 0), (3, 3), ("text", 0)])
def test_a_command_gives_its_own_code(value: object, code: int) -> None:
    assert carried_out(lambda: value) == code
