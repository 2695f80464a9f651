"""A log of large objects forgets early, so that a thousand agents fit into memory."""

from __future__ import annotations

import tracemalloc

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.kube.catalog import Catalog
from labsim.kube.server import ApiServer
from labsim.kube.store import Store
from labsim.kube.watch import WatchOptions, WatchStream
from labsim.model.kinds import AGENT, CONFIG_MAP, NAMESPACE
from labsim.model.objects import Object


def agent(name: str, size: int) -> Object:
    return {"metadata": {"name": name, "namespace": "lab"}, "spec": {"text": "x" * size}}


def test_the_log_keeps_no_more_bytes_than_it_may() -> None:
    store = Store(log_bytes_max=10_000)
    first = store.revision
    for _ in range(50):
        store.put(AGENT, agent("a", 1000))
    kept = store.since(store.oldest)
    assert kept is not None
    assert 8 <= len(kept) <= 10
    assert store.since(first) is None
    assert [entry.revision for entry in kept] == list(range(store.oldest + 1, store.revision + 1))


def test_one_change_is_always_kept() -> None:
    store = Store(log_bytes_max=10)
    made = store.put(AGENT, agent("a", 1000))
    assert store.since(store.revision - 1) == [made]


def test_states_that_share_their_parts_cost_what_has_changed() -> None:
    server = ApiServer(name="hub", clock=EventQueue(1_700_000_000.0), entropy=Entropy(1))
    server.create({"metadata": {"name": "lab"}}, NAMESPACE)
    large = {"metadata": {"name": "a", "namespace": "lab"}, "data": {f"k{n}": "x" * 100 for n in range(400)}}
    server.create(large, CONFIG_MAP)
    begun = server.revision
    tracemalloc.start()
    try:
        for number in range(200):
            patch = {"metadata": {"labels": {"n": str(number)}}}
            server.patch(CONFIG_MAP, "lab", "a", patch, patch_type="application/merge-patch+json")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = server.store.since(begun)
    assert kept is not None
    assert [entry.object["metadata"]["labels"]["n"] for entry in kept] == [str(number) for number in range(200)]
    assert taken < 0.2 * sum(len(entry.data) for entry in kept)


def test_the_tree_of_a_removed_object_counts() -> None:
    store = Store(log_bytes_max=100_000)
    for number in range(30):
        store.put(AGENT, agent(f"a-{number}", 10_000))
        gone = store.get(AGENT, "lab", f"a-{number}")
        assert gone is not None
        store.remove(AGENT, {**gone.object, "metadata": dict(gone.object["metadata"])})
    kept = store.since(store.oldest)
    assert kept is not None
    assert 2 <= len(kept) <= 6


def test_a_text_takes_no_more_room_than_it_needs() -> None:
    store = Store()
    tracemalloc.start()
    try:
        for number in range(50):
            store.put(AGENT, {"metadata": {"name": "a"}, "spec": {"items": [f"{number}" + "x" * 50] * 300}})
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = store.since(store.oldest)
    assert kept is not None
    assert taken < 1.3 * sum(len(entry.data) for entry in kept)


def test_what_a_late_watch_reads_is_not_kept_twice() -> None:
    server = ApiServer(name="hub", clock=EventQueue(1_700_000_000.0), entropy=Entropy(1))
    large = {"metadata": {"name": "a", "namespace": "default"}, "data": {f"k{n}": "x" * 100 for n in range(400)}}
    server.create(large, CONFIG_MAP)
    begun = server.revision
    for number in range(100):
        patch = {"metadata": {"labels": {"n": str(number)}}}
        server.patch(CONFIG_MAP, "default", "a", patch, patch_type="application/merge-patch+json")
    resource = Catalog(()).find("", "v1", "configmaps")
    assert resource is not None
    tracemalloc.start()
    try:
        stream = WatchStream(server, resource, WatchOptions(since=begun), lambda: 0.0)
        told = stream.read()
        stream.close()
        assert told is not None
        assert told.count(b"\n") == 100
        size = len(told)
        del told, stream
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 0.1 * size
