"""A log of large objects forgets early, so that a thousand agents fit into memory."""

from __future__ import annotations

from labsim.kube.store import Store
from labsim.model.kinds import AGENT
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
