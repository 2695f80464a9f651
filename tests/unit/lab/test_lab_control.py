"""The control socket: commands are carried out, refusals bring their hint, a deep folder is no hindrance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labsim.errors import LabError
from labsim.lab.control import ControlSocket, ask


def carry(command: dict[str, Any]) -> Any:
    if command["verb"] == "refuse":
        raise LabError("no", hint="ask for something else")
    return [command["verb"]]


@pytest.mark.parametrize("depth", [0, 20], ids=["shallow", "deep"])
def test_a_command_is_answered_however_deep_the_folder_lies(depth: int, tmp_path: Path) -> None:
    """Found when a test's folder got one letter longer: a socket address holds 108 bytes."""
    folder = tmp_path.joinpath(*["a-long-folder-name"] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "control.sock"
    control = ControlSocket(path, carry)
    try:
        assert ask(path, {"verb": "status"}) == ["status"]
        assert path.stat().st_mode & 0o077 == 0
        with pytest.raises(LabError, match="no") as refused:
            ask(path, {"verb": "refuse"})
        assert refused.value.hint == "ask for something else"
    finally:
        control.close()
    assert not path.exists()


def test_a_lab_that_is_gone_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not answer"):
        ask(tmp_path / "control.sock", {"verb": "status"})
    with pytest.raises(LabError, match="does not answer"):
        ask(tmp_path / "nowhere" / "control.sock", {"verb": "status"})
