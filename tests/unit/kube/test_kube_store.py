"""The store against a naive one, and what its log says."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.kube.store import FIRST_REVISION, Revision, Store
from labsim.model.kinds import CONFIG_MAP, NODE, SECRET

NAMES = st.sampled_from(["a", "a-b", "a.b", "a0", "a1", "b"])
WRITES = st.lists(
    st.tuples(st.sampled_from([CONFIG_MAP, SECRET]), NAMES, NAMES, st.integers(0, 3), st.booleans()), max_size=40
)


def _obj(namespace: Any, name: Any, value: Any = 0) -> Any:
    return {"metadata": {"namespace": namespace, "name": name}, "value": value}


def _carry_out(store: Any, writes: Any, naive: Any) -> None:
    for kind, namespace, name, value, removes in writes:
        key = (kind, namespace, name)
        if not removes:
            store.put(kind, _obj(namespace, name, value))
            naive[key] = value
        elif key in naive:
            store.remove(kind, _obj(namespace, name, naive.pop(key)))


@settings(max_examples=150, deadline=None)
@given(WRITES)
def test_the_store_holds_what_a_dictionary_would(writes: Any) -> None:
    store = Store()
    naive: dict[Any, int] = {}
    _carry_out(store, writes, naive)
    for kind in (CONFIG_MAP, SECRET):
        found = [(r.namespace, r.name, r.object["value"]) for r in store.list(kind)]
        wanted = [(ns, name, value) for (k, ns, name), value in naive.items() if k == kind]
        assert found == sorted(wanted, key=lambda item: f"{item[0]}/{item[1]}".encode())
        for namespace in ("a", "a-b", "a0", "b"):
            inside = [r.name for r in store.list(kind, namespace)]
            assert inside == [name for ns, name, _ in found if ns == namespace]


@settings(max_examples=150, deadline=None)
@given(WRITES, st.integers(0, 40))
def test_a_list_and_what_came_after_it_is_the_later_list(writes: Any, cut: Any) -> None:
    """Whoever lists and then follows the log never misses or repeats a change."""
    store = Store()
    naive: dict[Any, int] = {}
    _carry_out(store, writes[:cut], naive)
    begun = store.revision
    state = {(r.kind, r.namespace, r.name): r.object for kind in (CONFIG_MAP, SECRET) for r in store.list(kind)}
    _carry_out(store, writes[cut:], naive)
    later = store.since(begun)
    assert later is not None
    for entry in later:
        key = (entry.kind, entry.namespace, entry.name)
        assert entry.previous_object == state.get(key)
        if entry.type == "DELETED":
            del state[key]
        else:
            assert (entry.type == "ADDED") == (key not in state)
            state[key] = entry.object
    assert [entry.revision for entry in later] == list(range(begun + 1, store.revision + 1))
    assert state == {(r.kind, r.namespace, r.name): r.object for kind in (CONFIG_MAP, SECRET) for r in store.list(kind)}


def test_the_log_is_bounded_and_says_so() -> None:
    store = Store(log_revisions_max=5)
    for number in range(12):
        store.put(NODE, {"metadata": {"name": f"node-{number}"}})
    assert store.oldest == store.revision - 5
    assert store.since(store.oldest - 1) is None
    assert len(store.since(store.oldest) or ()) == 5
    assert store.since(store.revision) == []
    assert [entry.name for entry in store.since(store.revision - 1, NODE) or ()] == ["node-11"]


def test_low_revisions_count_as_gone() -> None:
    store = Store()
    assert store.since(1) is None
    assert store.since(FIRST_REVISION) == []


def test_listeners_hear_one_order_even_when_one_of_them_writes() -> None:
    store = Store()
    heard: list[int] = []
    kinds: list[str] = []

    def answer(revision: Revision) -> None:
        if revision.name == "a" and revision.type == "ADDED":
            store.put(SECRET, _obj("n", "made-by-listener"))

    store.subscribe(answer)
    store.subscribe(lambda revision: heard.append(revision.revision))
    store.subscribe(lambda revision: kinds.append(revision.kind.kind), SECRET)
    store.put(CONFIG_MAP, _obj("n", "a"))
    assert heard == [FIRST_REVISION + 1, FIRST_REVISION + 2]
    assert kinds == ["Secret"]


def test_an_unsubscribed_listener_hears_nothing_more() -> None:
    store = Store()
    heard: list[Revision] = []
    stop = store.subscribe(heard.append, CONFIG_MAP)
    store.put(CONFIG_MAP, _obj("n", "a"))
    stop()
    stop()
    store.put(CONFIG_MAP, _obj("n", "b"))
    assert [entry.name for entry in heard] == ["a"]


def test_a_listener_that_fails_does_not_silence_the_rest() -> None:
    """The failure reaches the writer; later writes are heard again."""
    store = Store()
    heard: list[str] = []

    def fail(_revision: Revision) -> None:
        if not heard:
            heard.append("failed")
            raise RuntimeError("listener")

    store.subscribe(fail)
    store.subscribe(lambda revision: heard.append(revision.name))
    with contextlib.suppress(RuntimeError):
        store.put(CONFIG_MAP, _obj("n", "a"))
    store.put(CONFIG_MAP, _obj("n", "b"))
    assert heard == ["failed", "b"]
