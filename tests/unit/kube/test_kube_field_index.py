"""Pods by their node: what the index finds is what a walk over all pods finds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.kube.server import ApiServer
from labsim.kube.store import Store
from labsim.model.kinds import AGENT, POD
from labsim.model.objects import Object, dig, name_of, namespace_of, new

NAMES, NODES, NAMESPACES = ("a", "b", "c", "d"), ("", "n1", "n2"), ("default", "kube-system")
STEP = st.tuples(st.sampled_from(("create", "bind", "delete")), st.sampled_from(NAMESPACES), st.sampled_from(NAMES))


def pod(namespace: str, name: str, node: str) -> Object:
    spec: Object = {"containers": [{"name": "c", "image": "i"}]}
    if node:
        spec["nodeName"] = node
    return new(POD, namespace, name, spec=spec)


def found(server: ApiServer, node: str, namespace: str | None) -> list[tuple[str, str]]:
    pods, _ = server.list(POD, namespace, field_selector=f"spec.nodeName={node}")
    return [(namespace_of(entry), name_of(entry)) for entry in pods]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(STEP, st.sampled_from(NODES)), max_size=20), st.integers(0, 20))
def test_an_index_finds_what_a_walk_finds(steps: list[tuple[tuple[str, str, str], str]], asked_first: int) -> None:
    server = ApiServer(name="t", clock=EventQueue(), entropy=Entropy(1))
    for index, ((what, namespace, name), node) in enumerate(steps):
        if index == asked_first:
            found(server, "n1", None)
        present = server.store.get(POD, namespace, name)
        if what == "create" and present is None:
            server.create(pod(namespace, name, node), POD)
        elif what == "bind" and present is not None and not dig(present.object, "spec", "nodeName"):
            body = {"spec": {"nodeName": node or "n1"}}
            server.patch(POD, namespace, name, body, patch_type="application/merge-patch+json", subresource="binding")
        elif what == "delete" and present is not None:
            server.delete(POD, namespace, name)
    everybody, _ = server.list(POD)
    for node in NODES:
        for place in (None, *NAMESPACES):
            walked = [
                (namespace_of(entry), name_of(entry))
                for entry in everybody
                if dig(entry, "spec", "nodeName", default="") == node and place in (None, namespace_of(entry))
            ]
            assert found(server, node, place) == walked


def test_a_merge_patch_shares_what_it_does_not_name_and_changes_nothing_that_was_handed_out() -> None:
    from labsim.kube.crds import hub_crds

    server = ApiServer(name="t", clock=EventQueue(), entropy=Entropy(1), crds=hub_crds())
    spec = {"approved": False, "hostname": "h", "role": ""}
    before = server.create(new(AGENT, "default", "a", spec=spec), AGENT)
    copy = {**before, "metadata": dict(before["metadata"])}
    merge = "application/merge-patch+json"
    status = {"status": {"debugInfo": {"state": "known"}}}
    with_status = server.patch(AGENT, "default", "a", status, patch_type=merge, subresource="status")
    after = server.patch(AGENT, "default", "a", {"spec": {"approved": True}}, patch_type=merge)
    assert before == copy
    assert after["status"] is with_status["status"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert [obj["spec"]["approved"] for obj in (before, with_status, after)] == [False, False, True]


def test_who_follows_a_node_hears_of_its_pods_only_and_of_those_that_leave_it() -> None:
    store = Store()
    heard: list[tuple[str, str]] = []
    stop = store.subscribe(lambda revision: heard.append((revision.type, revision.name)), POD, "node-1")

    def put(name: str, node: str) -> None:
        store.put(POD, {"metadata": {"namespace": "n", "name": name}, "spec": {"nodeName": node}})

    put("a", "node-1")
    put("b", "node-2")
    put("a", "node-1")
    put("a", "node-2")
    put("a", "node-2")
    put("b", "node-1")
    store.remove(POD, {"metadata": {"namespace": "n", "name": "b"}, "spec": {"nodeName": "node-1"}})
    assert heard == [("ADDED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("MODIFIED", "b"), ("DELETED", "b")]
    stop()
    put("c", "node-1")
    assert len(heard) == 5
