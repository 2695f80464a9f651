"""Whoever is outside a world hears only what is on the disk; a new world goes on from there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from labsim.durable_log import LogFailed
from labsim.kube.catalog import Catalog
from labsim.kube.watch import WatchOptions, WatchStream
from labsim.model.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, SERVICE
from labsim.model.objects import Object, dig
from labsim.world import durability
from labsim.world.durability import Durability, read_state
from labsim.world.world import World


def config_map(name: str, value: str = "") -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"value": value}}


class Disk:
    """The order in which syncs and answers come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.story: list[str] = []
        monkeypatch.setattr(os, "fdatasync", lambda descriptor: self.story.append("sync"))


def new_world(path: Path) -> World:
    world = World(seed=1, durability=Durability(path, {}))
    assert world.durability is not None
    world.durability.begin()
    return world


def next_world(path: Path) -> World:
    """The world of a process after one that was killed."""
    log, kept = read_state(path)
    keeping = Durability(path, kept.facts)
    world = World(seed=1, start_s=kept.now_s, durability=keeping, kept=kept)
    keeping.go_on(log, kept.starts + 1)
    return world


def killed(world: World) -> None:
    assert world.durability is not None
    world.durability.close()


def run(world: World) -> None:
    """One round: what was asked, and what is due."""
    world.run_for(0.001)


def test_an_answer_comes_after_its_sync_and_those_of_one_round_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, disk = new_world(tmp_path / "log"), Disk(monkeypatch)
    for name in ("a", "b", "c"):
        made = world.post(lambda name=name: world.hub.create(config_map(name), CONFIG_MAP))  # type: ignore[misc]
        made.add_done_callback(lambda _, name=name: disk.story.append(name))  # type: ignore[misc]
    run(world)
    assert disk.story == ["sync", "a", "b", "c"]
    killed(world)


def test_a_watch_tells_only_what_is_kept(tmp_path: Path) -> None:
    world = new_world(tmp_path / "log")
    hub = world.hub
    catalog = Catalog(())
    resource = catalog.find("", "v1", "configmaps")
    assert resource is not None
    stream = WatchStream(hub, resource, WatchOptions(since=hub.revision), world.now)
    hub.create(config_map("a"), CONFIG_MAP)
    assert stream.read() == b""
    assert world.durability is not None
    world.durability.keep_now()
    assert b'"ADDED"' in (stream.read() or b"")
    killed(world)


def test_a_disk_that_fails_ends_the_world_and_nobody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world(tmp_path / "log")
    world.post(lambda: world.hub.create(config_map("kept"), CONFIG_MAP))
    run(world)

    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        answer = world.post(lambda: world.hub.create(config_map("lost"), CONFIG_MAP))
        with pytest.raises(LogFailed, match="Input/output error"):
            run(world)
    assert not answer.done()
    killed(world)
    assert next_world(tmp_path / "log").hub.get(CONFIG_MAP, "default", "kept")


def test_the_next_world_has_the_same_objects_and_goes_on_with_revisions_ports_and_new_uids(tmp_path: Path) -> None:
    world = new_world(tmp_path / "log")
    hub = world.hub
    hub.create(config_map("gone"), CONFIG_MAP)
    hub.create(config_map("changed", "old"), CONFIG_MAP)
    patch = {"data": {"value": "new"}}
    hub.patch(CONFIG_MAP, "default", "changed", patch, patch_type="application/merge-patch+json")
    uid = hub.get(CONFIG_MAP, "default", "gone")["metadata"]["uid"]
    hub.delete(CONFIG_MAP, "default", "gone")
    service = {"metadata": {"name": "s", "namespace": "default"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    port = dig(hub.create(service, SERVICE), "spec", "ports")[0]["nodePort"]
    run(world)
    before = list(hub.everything())
    assert world.durability is not None
    world.durability.keep_now()
    killed(world)

    again = next_world(tmp_path / "log").hub
    assert list(again.everything()) == before
    assert again.revision == hub.revision
    assert [change.type for change in again.store.since(hub.revision - 2) or ()] == ["DELETED", "ADDED"]
    other = {**service, "metadata": {"name": "t", "namespace": "default"}}
    other["spec"] = {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}
    with pytest.raises(Exception, match="already allocated"):
        again.create(other, SERVICE)
    made = again.create(config_map("gone"), CONFIG_MAP)
    assert made["metadata"]["uid"] != uid
    assert int(made["metadata"]["resourceVersion"]) == hub.revision + 1


def test_definitions_are_served_again(tmp_path: Path) -> None:
    world = new_world(tmp_path / "log")
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    spec = {"group": "x.io", "scope": "Namespaced", "names": names, "versions": [version]}
    world.hub.create({"metadata": {"name": "things.x.io"}, "spec": spec}, CUSTOM_RESOURCE_DEFINITION)
    assert world.durability is not None
    world.durability.keep_now()
    killed(world)
    assert next_world(tmp_path / "log").hub.kind_for("x.io", "v1", "things") is not None


def test_what_was_not_synced_is_lost_as_a_whole(tmp_path: Path) -> None:
    world = new_world(tmp_path / "log")
    assert world.durability is not None
    world.hub.create(config_map("kept"), CONFIG_MAP)
    world.durability.keep_now()
    size = (tmp_path / "log").stat().st_size
    world.hub.create(config_map("a"), CONFIG_MAP)
    world.hub.create(config_map("b"), CONFIG_MAP)
    world.durability.keep_now()
    killed(world)
    whole = (tmp_path / "log").read_bytes()
    for left in range(size, len(whole), 7):
        (tmp_path / "log").write_bytes(whole[:left])
        again = next_world(tmp_path / "log")
        names = {obj["metadata"]["name"] for obj in again.hub.list(CONFIG_MAP)[0]}
        assert names == {"kept"}, left
        killed(again)


def test_a_log_that_outgrew_its_state_is_written_anew_and_old_watches_get_410(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "GROWTH_BYTES_MIN", 100_000)
    world = new_world(tmp_path / "log")
    keeping: Any = world.durability
    world.hub.create(config_map("a"), CONFIG_MAP)
    old = world.hub.revision
    largest = 0
    for number in range(300):
        patch = {"data": {"value": f"{number}" * 3000}}
        world.hub.patch(CONFIG_MAP, "default", "a", patch, patch_type="application/merge-patch+json")
        keeping.keep_now()
        largest = max(largest, (tmp_path / "log").stat().st_size)
    killed(world)
    again = next_world(tmp_path / "log").hub
    assert largest < 3_000_000
    assert again.get(CONFIG_MAP, "default", "a")["data"]["value"] == "299" * 3000
    assert again.revision == world.hub.revision
    assert again.store.since(old) is None


def test_another_version_of_labsim_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(new_world(tmp_path / "log"))
    monkeypatch.setattr(durability, "__version__", "9.9.9")
    with pytest.raises(LogFailed, match=r"this is 9\.9\.9"):
        read_state(tmp_path / "log")
