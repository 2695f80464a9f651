"""`labsim bench api`: its clients do what the rows say, and its table says what was compared with what."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labsim.cli.bench_api import COLLECTION, DEFINITION, ratio_row, ratio_table
from labsim.cli.bench_client import BenchConnection, Load, Watchers
from labsim.cli.bench_servers import no_real_server
from labsim.hub.embedded.bare import BareHub
from labsim.kube.users import User


@pytest.fixture
def hub() -> Iterator[BareHub]:
    made = BareHub({"token": User("admin", "admin", ("system:masters",))})
    try:
        connection = BenchConnection(made.port, "token")
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        namespace = {"metadata": {"name": "bench"}}
        assert connection.ask("POST", definitions, json.dumps(DEFINITION).encode())[0] == 201
        assert connection.ask("POST", "/api/v1/namespaces", json.dumps(namespace).encode())[0] == 201
        connection.socket.close()
        yield made
    finally:
        made.close()


def work(hub: BareHub, what: str, **more: Any) -> dict[str, Any]:
    path = COLLECTION.format("bench")
    return {"port": hub.port, "token": "token", "path": path, "what": what, "name": "one", "for_s": 5.0} | more


def test_each_operation_is_done_as_often_as_it_is_counted(hub: BareHub) -> None:
    for what in ("create", "update", "patch", "get", "list"):
        assert Load(work(hub, what, count=3)).run()["done"] == 3
    connection = BenchConnection(hub.port, "token")
    listed = json.loads(connection.ask("GET", COLLECTION.format("bench"))[1])["items"]
    connection.socket.close()
    found = {item["metadata"]["name"]: (item["spec"]["count"], item["metadata"]["generation"]) for item in listed}
    assert found == {"one": (1002, 7), "one-0": (0, 1), "one-1": (1, 1), "one-2": (2, 1)}


def test_a_refused_request_is_no_figure(hub: BareHub) -> None:
    Load(work(hub, "create", count=1)).run()
    with pytest.raises(RuntimeError, match="create: 409"):
        Load(work(hub, "create", count=1)).run()


def test_watchers_end_when_each_has_every_change(hub: BareHub) -> None:
    writer = Load(work(hub, "patch", count=5))
    watchers = Watchers(work(hub, "watch", count=5, watchers=3))
    writing = threading.Thread(target=writer.run)
    writing.start()
    assert watchers.run()["done"] == 15
    writing.join()


def test_the_ratio_says_how_many_times_better_ours_is() -> None:
    rows = [
        ratio_row("create", [300.0, 250.0, 100.0], "/s", 2.0),
        ratio_row("start", [1.0, 2.0, 3.0], "s", 2.0, less_is_better=True),
    ]
    ratios = [(row["ratioInMemory"], row["ratioOnDisk"], row["reached"]) for row in rows]
    assert ratios == [(3.0, 2.5, True), (3.0, 1.5, False)], "both have to reach it"
    durability = {"labsim": "in memory", "labsim up": "log", "kube-apiserver": "etcd, fsync"}
    heads, create, start = ratio_table(rows, durability).splitlines()
    assert "labsim (in memory)" in heads
    assert "labsim up (log)" in heads
    assert "kube-apiserver (etcd, fsync)" in heads
    assert create.split()[-4:] == ["3.00x", "2.50x", "2x", "yes"]
    assert start.split()[-4:] == ["3.00x", "1.50x", "2x", "no"]
    alone = ratio_table([ratio_row("create", [300.0, 250.0], "/s", 2.0)], {"labsim": "in memory", "labsim up": "log"})
    assert alone.splitlines()[1].split() == ["create", "300", "/s", "250", "/s", "2x"]


def test_without_binaries_it_is_said_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    assert no_real_server().startswith("KUBEBUILDER_ASSETS is not set")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert no_real_server() == f"KUBEBUILDER_ASSETS={tmp_path} has no etcd and no kube-apiserver"
