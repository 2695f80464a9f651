"""States of an object share what a write left alone: no write may reach into the state before."""

from __future__ import annotations

import orjson
import pytest

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.kube.sameness import same, unchanged
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.model.kinds import CONFIG_MAP, DEPLOYMENT, NAMESPACE, NODE, POD, SECRET, SERVICE, Kind
from labsim.model.objects import Object

MERGE = "application/merge-patch+json"
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
OBJECTS: dict[Kind, Object] = {
    CONFIG_MAP: {"data": {"a": "b"}},
    SECRET: {"data": {"a": "Yg=="}},
    SERVICE: {"spec": {"type": "NodePort", "ports": [{"port": 80}]}},
    POD: {"spec": TEMPLATE["spec"]},
    NODE: {"spec": {}, "status": {"capacity": {"cpu": "1"}}},
    DEPLOYMENT: {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    NAMESPACE: {},
}
PATCHES: tuple[tuple[Object, str], ...] = (
    ({"metadata": {"labels": {"x": "y"}}}, ""),
    ({"metadata": {"labels": None}}, ""),
    ({"stringData": {"new": "text"}}, ""),
    ({"spec": {"type": "ClusterIP"}}, ""),
    ({"spec": {"type": None}}, ""),
    ({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}, ""),
    ({"spec": {"strategy": None}}, ""),
    ({"status": {"phase": "Running", "nodeInfo": None}}, "status"),
    ({"status": None}, "status"),
)


def served(kind: Kind) -> ApiServer:
    server = ApiServer(name="hub", clock=EventQueue(1_700_000_000.0), entropy=Entropy(1))
    obj = {**orjson.loads(orjson.dumps(OBJECTS[kind])), "metadata": {"name": "it"}}
    if kind.namespaced:
        obj["metadata"]["namespace"] = "default"
    server.create(obj, kind)
    return server


@pytest.mark.parametrize("kind", OBJECTS, ids=str)
def test_a_merge_leaves_the_state_before_as_it_was(kind: Kind) -> None:
    server = served(kind)
    namespace = "default" if kind.namespaced else ""
    texts: dict[int, bytes] = {}
    states: dict[int, Object] = {}

    def note(revision: Revision) -> None:
        texts[revision.revision] = orjson.dumps(revision.object)
        states[revision.revision] = revision.object

    begun = server.revision
    first = server.get(kind, namespace, "it")
    server.subscribe(note, kind)
    text = orjson.dumps(first)
    for patch, subresource in PATCHES:
        if subresource == "status" and not server.served(kind).has_status:
            continue
        server.patch(kind, namespace, "it", patch, patch_type=MERGE, subresource=subresource)
    server.delete(kind, namespace, "it", options={"propagationPolicy": "Orphan"})
    assert orjson.dumps(first) == text
    assert {number: orjson.dumps(obj) for number, obj in states.items()} == texts
    kept = server.store.since(begun, kind)
    assert kept is not None
    assert [orjson.loads(entry.data) for entry in kept] == [orjson.loads(texts[entry.revision]) for entry in kept]


def test_what_equals_in_python_only_is_a_change() -> None:
    assert not same({"a": [1]}, {"a": [True]})
    assert not same({"a": 1.0}, {"a": 1})
    assert not same({"a": 0.0}, {"a": -0.0})
    assert not unchanged({"a": "b", "c": 1}, {"a": "b", "c": True})
    assert not unchanged([0], [False])
    assert not same({"a": None}, {"b": None})
    assert same({"a": 1, "b": [{"c": "d"}]}, {"b": [{"c": "d"}], "a": 1})
    assert unchanged({"a": "b"}, {"a": "b"})
