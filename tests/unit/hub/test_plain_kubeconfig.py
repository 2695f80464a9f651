"""A kubeconfig that cannot be used is told with its path and a hint, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the Python client of Kubernetes is not installed")

from labsim.errors import LabError
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection

USABLE = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: x}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


def connect(path: Path, context: str = "") -> None:
    ClusterConnection(ClusterAccess(kubeconfig=path, context=context)).close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a: [",
        b"\xff\xfe",
        b"- 1\n",
        b"a: 1\n",
        USABLE.replace("current-context: x", "current-context: y").encode(),
        USABLE.replace("contexts: [", "contexts: [5, ").encode(),
        USABLE.replace("clusters: [{name: c, cluster: {", "clusters: [{name: c, other: {").encode(),
        USABLE.replace("https://127.0.0.1:1", "nonsense").encode(),
    ],
    ids=["empty", "no-yaml", "binary", "list", "other", "no-context", "wrong-type", "no-cluster", "no-url"],
)
def test_what_is_no_kubeconfig_is_one_line_and_a_hint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(content)
    with pytest.raises(LabError, match="cannot be used") as refused:
        connect(path)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    assert "--kubeconfig" in refused.value.hint


def test_a_usable_kubeconfig_is_used(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(USABLE)
    connect(path)
    with pytest.raises(LabError, match="cannot be used"):
        connect(path, context="other")
    with pytest.raises(LabError, match="cannot be used"):
        connect(tmp_path / "nowhere")
