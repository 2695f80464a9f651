"""What a world relies on in its hub's API server: in this process, or on a cluster (ours served bare, a real one)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubehttp_serving import SERVERS, RealClock
from real_api_server import real_api_server

from labsim.controllers.runtime.hub import HubServer
from labsim.edge_time import monotonic_s, wait_s
from labsim.entropy import Entropy
from labsim.hub.embedded.bare import BareHub
from labsim.hub.plain import definitions
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.hub.plain.in_world_time import InWorldTime
from labsim.hub.plain.scope import Scope
from labsim.hub.plain.server import PlainServer
from labsim.hub.plain.sweep import sweep
from labsim.kube.crds import hub_crds, plain_hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.patches import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.kube.users import ADMIN
from labsim.model.kinds import AGENT, CONFIG_MAP, NAMESPACE, NODE_POOL
from labsim.model.objects import Object, finalizers_of, is_deleting, labels_of, name_of, new

PLACE = "contract"
WITHIN_S = 30.0


class World:
    """Takes in what is posted when the test asks for it, as a world's thread would."""

    def post(self, call: Any) -> None: ...

    def act(self, actor: str) -> str:
        return actor


class Subject:
    """A server, and a way to let what it has been told arrive."""

    def __init__(self, server: HubServer, pump: Callable[[], None]) -> None:
        self.server = server
        self.pump = pump
        self.heard: list[tuple[str, str, str]] = []  # event, name, what the object says

    def hear(self, revision: Revision) -> None:
        approved = str(revision.object.get("spec", {}).get("approved"))
        self.heard.append((str(revision.type), revision.name, approved))

    def wait_for(self, events: list[tuple[str, str, str]]) -> None:
        deadline_s = monotonic_s() + WITHIN_S
        while self.heard != events and monotonic_s() < deadline_s:
            self.pump()
            wait_s(0.02)
        assert self.heard == events


@pytest.fixture(scope="module", params=("in-process", *SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    if request.param == "in-process":
        made = ApiServer(name="hub", clock=RealClock(), entropy=Entropy("contract"), crds=hub_crds())
        made.create(new(NAMESPACE, None, PLACE), NAMESPACE)
        yield Subject(made, lambda: None)
        return
    folder = tmp_path_factory.mktemp("cluster")
    if request.param == "kube-apiserver":
        with real_api_server(folder) as real:
            yield from on_cluster(real.kubeconfig)
        return
    hub = BareHub({"the-token": ADMIN})
    hub.write_kubeconfig(folder / "kubeconfig", "the-token", "admin")
    yield from on_cluster(folder / "kubeconfig")
    hub.close()


def on_cluster(kubeconfig: Path) -> Iterator[Subject]:
    user = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig))
    definitions.install(user, plain_hub_crds(), "lab")
    connection = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig))
    time = InWorldTime(lambda real_s: real_s, lambda: float("inf"))
    plain = PlainServer(connection, Scope("lab"), World(), time, lambda kind: None)
    try:
        plain.create(new(NAMESPACE, None, PLACE), NAMESPACE)
        yield Subject(plain, plain.mirror.pump)
    finally:
        plain.close()
        sweep(user, "lab", ends_namespaces=True)
        user.close()


@pytest.fixture
def subject(server: Subject) -> Iterator[Subject]:
    """The server, with no Agent and no ConfigMap of an earlier test."""
    server.heard = []
    yield server
    for kind in (AGENT, CONFIG_MAP):
        for obj in server.server.list(kind, PLACE)[0]:
            if finalizers_of(obj):
                body = {"metadata": {"finalizers": None}}
                server.server.patch(kind, PLACE, name_of(obj), body, patch_type=MERGE_PATCH)
            if not is_deleting(obj):
                server.server.delete(kind, PLACE, name_of(obj))


def agent(name: str, *, labels: dict[str, str] | None = None) -> Object:
    made = new(AGENT, PLACE, name, spec={"approved": False, "role": ""})
    if labels:
        made["metadata"]["labels"] = labels
    return made


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        call()
    return refused.value.code, refused.value.reason


def test_an_object_through_its_life(subject: Subject) -> None:
    hub = subject.server
    made = hub.create(agent("a"), AGENT)
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert hub.get(AGENT, PLACE, "a")["metadata"]["uid"] == made["metadata"]["uid"]
    changed = hub.patch(AGENT, PLACE, "a", {"spec": {"approved": True}}, patch_type=MERGE_PATCH)
    assert changed["metadata"]["generation"] == made["metadata"]["generation"] + 1
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    assert hub.delete(AGENT, PLACE, "a") is None
    assert refusal(lambda: hub.get(AGENT, PLACE, "a")) == (404, "NotFound")
    assert refusal(lambda: hub.delete(AGENT, PLACE, "a")) == (404, "NotFound")


def test_what_is_refused(subject: Subject) -> None:
    hub = subject.server
    made = hub.create(agent("a"), AGENT)
    assert refusal(lambda: hub.create(agent("a"), AGENT)) == (409, "AlreadyExists")
    hub.patch(AGENT, PLACE, "a", {"spec": {"approved": True}}, patch_type=MERGE_PATCH)
    assert refusal(lambda: hub.update(made, AGENT)) == (409, "Conflict")
    assert refusal(lambda: hub.patch(AGENT, PLACE, "a", {"spec": {"approved": "perhaps"}}, patch_type=MERGE_PATCH)) == (
        422,
        "Invalid",
    )
    assert refusal(lambda: hub.patch(AGENT, PLACE, "b", {}, patch_type=MERGE_PATCH)) == (404, "NotFound")
    elsewhere = {**agent("a"), "metadata": {"name": "a", "namespace": "nowhere"}}
    assert refusal(lambda: hub.create(elsewhere, AGENT)) == (404, "NotFound")


def test_a_write_of_what_was_read_changes_nothing_else(subject: Subject) -> None:
    hub = subject.server
    hub.create(agent("a", labels={"x": "y"}), AGENT)
    read = hub.get(AGENT, PLACE, "a")
    assert hub.update(read, AGENT)["metadata"]["resourceVersion"] == read["metadata"]["resourceVersion"]
    changed = {**read, "spec": {**read["spec"], "hostname": "worker"}}
    stored = hub.update(changed, AGENT)
    assert stored["spec"]["hostname"] == "worker"
    assert stored["metadata"]["creationTimestamp"] == read["metadata"]["creationTimestamp"]
    assert labels_of(stored) == labels_of(read)


def test_status_is_apart_from_the_rest(subject: Subject) -> None:
    hub = subject.server
    hub.create({**agent("a"), "status": {"bootstrap": True}}, AGENT)
    assert not hub.get(AGENT, PLACE, "a").get("status", {}).get("bootstrap")
    body = {"status": {"bootstrap": True}, "spec": {"approved": True}}
    stored = hub.patch(AGENT, PLACE, "a", body, patch_type=MERGE_PATCH, subresource="status")
    assert stored["status"]["bootstrap"] is True
    assert stored["spec"]["approved"] is False


def test_patches_of_every_type(subject: Subject) -> None:
    hub = subject.server
    hub.create(new(CONFIG_MAP, PLACE, "c", data={"a": "1"}), CONFIG_MAP)
    hub.patch(CONFIG_MAP, PLACE, "c", [{"op": "add", "path": "/data/b", "value": "2"}], patch_type=JSON_PATCH)
    hub.patch(CONFIG_MAP, PLACE, "c", {"data": {"c": "3"}}, patch_type=STRATEGIC_MERGE_PATCH)
    applied = new(CONFIG_MAP, PLACE, "c", data={"d": "4"})
    hub.patch(CONFIG_MAP, PLACE, "c", applied, patch_type=APPLY_PATCH, manager="contract")
    assert hub.get(CONFIG_MAP, PLACE, "c")["data"] == {"a": "1", "b": "2", "c": "3", "d": "4"}
    other = new(CONFIG_MAP, PLACE, "c", data={"d": "5"})

    def apply(*, force: bool) -> Object:
        return hub.patch(CONFIG_MAP, PLACE, "c", other, patch_type=APPLY_PATCH, manager="another", force=force)

    assert refusal(lambda: apply(force=False)) == (409, "Conflict")
    assert apply(force=True)["data"]["d"] == "5"
    fresh = new(CONFIG_MAP, PLACE, "fresh", data={"a": "1"})
    assert hub.patch(CONFIG_MAP, PLACE, "fresh", fresh, patch_type=APPLY_PATCH, manager="contract")["data"] == {
        "a": "1"
    }


def test_lists_are_ordered_and_selected(subject: Subject) -> None:
    hub = subject.server
    for name, labels in (("b", {"pool": "x"}), ("a", {"pool": "x"}), ("c", {"pool": "y"})):
        hub.create(agent(name, labels=labels), AGENT)
    assert [name_of(obj) for obj in hub.list(AGENT)[0]] == ["a", "b", "c"]
    assert [name_of(obj) for obj in hub.list(AGENT, PLACE, label_selector="pool=x")[0]] == ["a", "b"]
    assert [name_of(obj) for obj in hub.list(AGENT, PLACE, field_selector="metadata.name=c")[0]] == ["c"]
    assert hub.list(AGENT, "default")[0] == []
    assert all(obj["kind"] == "Agent" for obj in hub.list(AGENT)[0])
    hub.create(new(CONFIG_MAP, PLACE, "typed", data={}), CONFIG_MAP)
    assert all(obj["kind"] == "ConfigMap" for obj in hub.list(CONFIG_MAP, PLACE)[0])


def test_a_finalizer_holds_a_deletion(subject: Subject) -> None:
    hub = subject.server
    held = agent("held")
    held["metadata"]["finalizers"] = ["contract.test/hold"]
    hub.create(held, AGENT)
    waiting = hub.delete(AGENT, PLACE, "held")
    assert waiting is not None
    assert is_deleting(waiting)
    hub.patch(AGENT, PLACE, "held", {"metadata": {"finalizers": None}}, patch_type=MERGE_PATCH)
    assert refusal(lambda: hub.get(AGENT, PLACE, "held")) == (404, "NotFound")


def test_a_deletion_with_a_precondition(subject: Subject) -> None:
    hub = subject.server
    hub.create(agent("a"), AGENT)
    options = {"preconditions": {"uid": "another"}}
    assert refusal(lambda: hub.delete(AGENT, PLACE, "a", options=options)) == (409, "Conflict")
    assert hub.get(AGENT, PLACE, "a")


def test_scale(subject: Subject) -> None:
    hub = subject.server
    pool = new(
        NODE_POOL,
        PLACE,
        "pool",
        spec={
            "clusterName": "example",
            "replicas": 1,
            "release": {"image": "quay.io/x:4.17.0"},
            "platform": {"type": "Agent"},
            "management": {"upgradeType": "InPlace"},
        },
    )
    hub.create(pool, NODE_POOL)
    try:
        scale = hub.patch(
            NODE_POOL, PLACE, "pool", {"spec": {"replicas": 3}}, patch_type=MERGE_PATCH, subresource="scale"
        )
        assert scale["kind"] == "Scale"
        assert scale["spec"]["replicas"] == 3
        assert hub.get(NODE_POOL, PLACE, "pool")["spec"]["replicas"] == 3
    finally:
        hub.delete(NODE_POOL, PLACE, "pool")


def test_who_follows_a_kind_hears_every_change_in_order(subject: Subject) -> None:
    hub = subject.server
    hub.create(agent("first"), AGENT)
    subject.pump()
    present = hub.follow(AGENT, subject.hear)
    assert "first" in {name_of(obj) for obj in present}
    before = [("ADDED", "first", "False")] if not present else []
    hub.create(agent("a"), AGENT)
    for approved in (True, False, True):
        hub.patch(AGENT, PLACE, "a", {"spec": {"approved": approved}}, patch_type=MERGE_PATCH)
    hub.patch(AGENT, PLACE, "a", {"spec": {"approved": True}}, patch_type=MERGE_PATCH)  # changes nothing
    hub.delete(AGENT, PLACE, "a")
    expected = [("ADDED", "a", "False"), *(("MODIFIED", "a", text) for text in ("True", "False", "True"))]
    subject.wait_for([*before, *expected, ("DELETED", "a", "True")])
    assert "first" in {name_of(obj) for obj in hub.everything() if obj["kind"] == "Agent"}
