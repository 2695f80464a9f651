"""`labsim hub kubeconfig`: which file it prints, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from labsim.cli.main import app
from labsim.errors import LabError, UsageError
from labsim.lab.folder import LabFolder, labs_root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabFolder:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = LabFolder(labs_root() / "one")
    made.make()
    made.write_facts({"state": "up"})
    return made


def test_each_role_is_shown_its_own(folder: LabFolder) -> None:
    folder.kubeconfig.write_text("of the administrator\n")
    folder.reader_kubeconfig.write_text("of the reader\n")
    for arguments, shown in (
        ([], "administrator"),
        (["--as", "administrator"], "administrator"),
        (["--as", "reader"], "reader"),
    ):
        result = CliRunner().invoke(app, ["hub", "kubeconfig", *arguments])
        assert result.stdout == f"of the {shown}\n"


def test_a_cluster_of_somebody_else_has_no_reader_of_ours(folder: LabFolder) -> None:
    refused = CliRunner().invoke(app, ["hub", "kubeconfig", "--as", "reader"]).exception
    assert isinstance(refused, LabError)
    assert "is it up?" in refused.hint
    folder.kubeconfig.write_text("of the administrator\n")
    refused = CliRunner().invoke(app, ["hub", "kubeconfig", "--as", "reader"]).exception
    assert isinstance(refused, LabError)
    assert "its own users" in refused.hint


def test_a_bare_api_has_the_users_of_its_file() -> None:
    refused = CliRunner().invoke(app, ["hub", "serve", "--bare", "--reader-kubeconfig", "x"]).exception
    assert isinstance(refused, UsageError)
    assert "--tokens" in refused.hint
