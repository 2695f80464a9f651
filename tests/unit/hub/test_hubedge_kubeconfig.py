"""The kubeconfig: private, whole or not at all."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
import yaml

from labsim.errors import LabError
from labsim.hub.embedded.identity import HubAuthority, new_token
from labsim.hub.embedded.kubeconfig import write_kubeconfig


def test_it_is_readable_by_its_owner_only_and_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "kubeconfig"
    for token in ("one", "two"):
        write_kubeconfig(path, "https://127.0.0.1:6443", ca_pem="PEM", token=token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["kubeconfig"]
    document = yaml.safe_load(path.read_text())
    assert document["users"][0]["user"]["token"] == "two"
    assert base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]) == b"PEM"
    assert document["current-context"] == document["contexts"][0]["name"]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write") as caught:
        write_kubeconfig(tmp_path / "file" / "kubeconfig", "https://x", ca_pem="", token="t")
    assert caught.value.hint


def test_authorities_and_tokens_are_never_the_same() -> None:
    assert HubAuthority().ca_pem != HubAuthority().ca_pem
    assert len({new_token() for _ in range(50)}) == 50
