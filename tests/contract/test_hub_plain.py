"""A lab on somebody's cluster: what it makes there, what it leaves alone, and that nothing is left behind.

Against the embedded hub served bare, and against a real kube-apiserver where its binaries are given.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubehttp_serving import SERVERS
from real_api_server import real_api_server

from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import LabError
from labsim.hub.embedded.bare import BareHub
from labsim.hub.plain import definitions
from labsim.hub.plain.client import PlainClient
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.hub.plain.in_world_time import InWorldTime
from labsim.hub.plain.marks import label_of, labs_of
from labsim.hub.plain.scope import Scope
from labsim.hub.plain.server import PlainServer
from labsim.hub.plain.sweep import sweep
from labsim.kube.crds import plain_hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.patches import MERGE_PATCH
from labsim.kube.store import Revision
from labsim.kube.users import ADMIN
from labsim.lab.hub_choice import HubChoice
from labsim.lab.lab_request import LabRequest
from labsim.lab.ledger import Ledger
from labsim.lab.opening import open_lab
from labsim.lab.plain import GROUPS
from labsim.model.kinds import AGENT, CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, NAMESPACE, Kind
from labsim.model.objects import Object, name_of, new
from labsim.model.scenario import LabSpec, load_scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"
WITHIN_S = 60.0


@pytest.fixture(scope="module", params=SERVERS)
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster's, with nothing of labsim on it."""
    folder = tmp_path_factory.mktemp("cluster")
    if request.param == "kube-apiserver":
        with real_api_server(folder) as real:
            yield real.kubeconfig
        return
    hub = BareHub({"the-token": ADMIN})
    hub.write_kubeconfig(folder / "kubeconfig", "the-token", "admin")
    yield folder / "kubeconfig"
    hub.close()


@pytest.fixture
def user(kubeconfig: Path) -> Iterator[ClusterConnection]:
    """Somebody else on the cluster."""
    connection = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig))
    yield connection
    connection.close()


class SmallWorld:
    """What a PlainServer needs of a world; the test takes in what was posted."""

    def __init__(self) -> None:
        self.actor = ""
        self.seen: list[tuple[str, str, str, str]] = []  # actor, event, kind, name

    def post(self, call: Any) -> None: ...

    def act(self, actor: str) -> str:
        before, self.actor = self.actor, actor
        return before

    def saw(self, revision: Revision) -> None:
        self.seen.append((self.actor, str(revision.type), revision.kind.kind, revision.name))


class OnCluster:
    """One lab's server and client on the cluster."""

    def __init__(self, kubeconfig: Path, lab_id: str) -> None:
        self.world = SmallWorld()
        connection = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig))
        time = InWorldTime(lambda real_s: real_s, lambda: float("inf"))
        self.gaps: list[Kind] = []
        self.server = PlainServer(connection, Scope(lab_id), self.world, time, self.gaps.append)
        self.server.subscribe(self.world.saw)
        self.client = PlainClient(self.server)

    def names(self, kind: Kind) -> list[str]:
        self.server.mirror.pump()
        return [name_of(obj) for obj in self.server.mirror.list(kind)]

    def wait_for(self, kind: Kind, names: list[str]) -> None:
        assert self.server.mirror.wait_for(lambda: self.names(kind) == names, WITHIN_S), self.names(kind)


@pytest.fixture
def labs(kubeconfig: Path, user: ClusterConnection) -> Iterator[tuple[OnCluster, OnCluster]]:
    """Two labs on one cluster, each with its own namespace; all of it gone afterwards."""
    definitions.install(user, plain_hub_crds(), "one")
    definitions.install(user, plain_hub_crds(), "two")
    one, two = OnCluster(kubeconfig, "one"), OnCluster(kubeconfig, "two")
    try:
        for lab in (one, two):
            for kind in (NAMESPACE, AGENT, CONFIG_MAP):
                lab.server.follow(kind, lambda revision: None)
            lab.client.ensure(new(NAMESPACE, None, f"of-{lab.server.scope.lab_id}"), NAMESPACE)
        yield one, two
    finally:
        for lab in (one, two):
            lab.server.close()
            sweep(user, lab.server.scope.lab_id, ends_namespaces=True)


def present(user: ClusterConnection, kind: Kind) -> dict[str, Object]:
    return {name_of(item): item for item in user.call("GET", kind.path()).get("items") or ()}


def agent(namespace: str, name: str) -> Object:
    return new(AGENT, namespace, name, spec={"approved": False, "role": ""})


def test_a_cluster_with_kinds_of_its_own_is_refused_and_nothing_is_touched(
    kubeconfig: Path, user: ClusterConnection, tmp_path: Path
) -> None:
    foreign = next(item for item in plain_hub_crds() if item["metadata"]["name"].startswith("hostedclusters."))
    user.call("POST", CUSTOM_RESOURCE_DEFINITION.path(), body=foreign)
    before = {name: item["metadata"]["uid"] for name, item in present(user, CUSTOM_RESOURCE_DEFINITION).items()}
    spec = load_scenario(SCENARIOS / "documentation-layout.yaml").spec.lab
    try:
        with pytest.raises(LabError) as refused:
            _open(kubeconfig, spec, tmp_path)
        assert int(refused.value.exit_code) == 4
        assert "hostedclusters.hypershift.openshift.io" in refused.value.message
        after = {name: item["metadata"]["uid"] for name, item in present(user, CUSTOM_RESOURCE_DEFINITION).items()}
        assert after == before
        assert not [item for item in present(user, NAMESPACE).values() if labs_of(item)]
        assert not Ledger(tmp_path / "ledger.jsonl").pending()
    finally:
        user.call("DELETE", CUSTOM_RESOURCE_DEFINITION.path("", name_of(foreign)))
        _wait_until(lambda: not present(user, CUSTOM_RESOURCE_DEFINITION))


def _open(kubeconfig: Path, spec: LabSpec, folder: Path) -> Any:
    hub = HubChoice(hub="plain", kubeconfig=str(kubeconfig))
    return open_lab(spec, LabRequest(name="refused", folder=folder, speed=60.0, hub=hub))


def test_definitions_are_shared_and_go_with_the_last_mark(user: ClusterConnection) -> None:
    names = {name_of(item) for item in plain_hub_crds()}
    definitions.install(user, plain_hub_crds(), "first")
    definitions.install(user, plain_hub_crds(), "second")
    definitions.check(user, plain_hub_crds())
    assert {name for name, item in present(user, CUSTOM_RESOURCE_DEFINITION).items() if labs_of(item)} == names
    definitions.uninstall(user, "first")
    left = present(user, CUSTOM_RESOURCE_DEFINITION)
    assert set(left) == names
    assert all(labs_of(item) == {"second"} for item in left.values())
    definitions.uninstall(user, "second")
    assert not present(user, CUSTOM_RESOURCE_DEFINITION)


def test_definitions_of_a_component_that_somebody_else_runs_are_theirs(user: ClusterConnection) -> None:
    provider = [
        item for item in plain_hub_crds() if item["spec"]["group"] == "capi-provider.agent-install.openshift.io"
    ]
    user.call("POST", CUSTOM_RESOURCE_DEFINITION.path(), body=provider[0])
    theirs = GROUPS["agentProvider"]
    try:
        with pytest.raises(LabError, match="kinds of its own"):
            definitions.check(user, plain_hub_crds())
        definitions.check(user, plain_hub_crds(), theirs)
        definitions.install(user, plain_hub_crds(), "one", theirs)
        found = present(user, CUSTOM_RESOURCE_DEFINITION)
        assert len(found) == len(plain_hub_crds())
        assert [name for name, item in found.items() if not labs_of(item)] == [name_of(provider[0])]
        definitions.uninstall(user, "one")
        assert list(present(user, CUSTOM_RESOURCE_DEFINITION)) == [name_of(provider[0])]
    finally:
        definitions.uninstall(user, "one")
        user.call("DELETE", CUSTOM_RESOURCE_DEFINITION.path("", name_of(provider[0])))
        _wait_until(lambda: not present(user, CUSTOM_RESOURCE_DEFINITION))


def test_every_group_that_is_installed_is_some_components() -> None:
    assert {item["spec"]["group"] for item in plain_hub_crds()} == {
        group for groups in GROUPS.values() for group in groups
    }


def test_definitions_of_another_version_are_refused(user: ClusterConnection) -> None:
    definitions.install(user, plain_hub_crds(), "older")
    first = plain_hub_crds()[0]
    changed = [{**first, "spec": {**first["spec"], "preserveUnknownFields": False}}, *plain_hub_crds()[1:]]
    try:
        with pytest.raises(LabError, match="another labsim version"):
            definitions.check(user, changed)
    finally:
        definitions.uninstall(user, "older")


def test_two_labs_do_not_see_each_others_agents(labs: tuple[OnCluster, OnCluster], user: ClusterConnection) -> None:
    one, two = labs
    one.client.create(agent("of-one", "a"), AGENT)
    two.client.create(agent("of-two", "b"), AGENT)
    user.call("POST", AGENT.path("default"), body=agent("default", "nobodys"))
    user.call("POST", AGENT.path("of-two"), body=agent("of-two", "by-hand"))
    try:
        one.wait_for(AGENT, ["a"])
        two.wait_for(AGENT, ["b", "by-hand"])
        assert [name_of(obj) for obj in one.server.list(AGENT)[0]] == ["a"]
        assert one.client.get(AGENT, "of-two", "b") is None
        assert {name for _, _, kind, name in one.world.seen if kind == "Agent"} == {"a"}
    finally:
        user.call("DELETE", AGENT.path("default", "nobodys"))


def test_what_is_written_is_marked_and_seen_before_the_call_returns(labs: tuple[OnCluster, OnCluster]) -> None:
    one, _ = labs
    one.client.create(agent("of-one", "a"), AGENT)
    found = one.client.get(AGENT, "of-one", "a")
    assert found is not None
    assert labs_of(found) == {"one"}
    one.client.patch(AGENT, "of-one", "a", {"spec": {"approved": True}})
    found = one.client.get(AGENT, "of-one", "a")
    assert found is not None
    assert found["spec"]["approved"] is True
    assert one.client.delete(AGENT, "of-one", "a")
    assert one.client.get(AGENT, "of-one", "a") is None
    assert not one.client.delete(AGENT, "of-one", "a")
    writes = [(actor, event) for actor, event, kind, _ in one.world.seen if kind == "Agent"]
    assert writes == [("lab", "ADDED"), ("lab", "MODIFIED"), ("lab", "DELETED")]


def test_a_write_of_somebody_else_is_told_as_theirs(labs: tuple[OnCluster, OnCluster], user: ClusterConnection) -> None:
    one, _ = labs
    one.client.create(agent("of-one", "a"), AGENT)
    body = {"metadata": {"labels": {"by": "hand"}}}
    user.call("PATCH", AGENT.path("of-one", "a"), body=body, content_type=MERGE_PATCH)
    assert one.server.mirror.wait_for(lambda: ("outside", "MODIFIED", "Agent", "a") in one.world.seen, WITHIN_S)


def test_what_is_not_the_labs_is_left_alone(labs: tuple[OnCluster, OnCluster], user: ClusterConnection) -> None:
    one, two = labs
    theirs = two.client.create(agent("of-two", "b"), AGENT)
    user.call("POST", CONFIG_MAP.path("default"), body=new(CONFIG_MAP, "default", "mine", data={"a": "1"}))
    try:
        attempts: tuple[Callable[[], object], ...] = (
            lambda: one.server.patch(AGENT, "of-two", "b", {"spec": {"approved": True}}, patch_type=MERGE_PATCH),
            lambda: one.server.update(theirs, AGENT),
            lambda: one.server.delete(AGENT, "of-two", "b"),
            lambda: one.server.delete(CONFIG_MAP, "default", "mine"),
            lambda: one.server.patch(NAMESPACE, "", "of-two", {"metadata": {"labels": {}}}, patch_type=MERGE_PATCH),
        )
        for attempt in attempts:
            with pytest.raises(ApiError) as refused:
                attempt()
            assert refused.value.code == 403
        with pytest.raises(LabError, match="belongs to the lab two"):
            one.client.ensure(new(NAMESPACE, None, "of-two"), NAMESPACE)
        assert two.client.get(AGENT, "of-two", "b") == theirs
    finally:
        user.call("DELETE", CONFIG_MAP.path("default", "mine"))


def test_what_is_there_once_for_a_cluster_is_shared_and_goes_with_the_last_lab(
    labs: tuple[OnCluster, OnCluster], user: ClusterConnection
) -> None:
    one, two = labs
    kind = Kind("cluster.open-cluster-management.io", "v1", "ManagedCluster", "managedclusters", False)
    wanted = new(kind, None, "shared", spec={"hubAcceptsClient": True})
    one.client.ensure(wanted, kind)
    assert labs_of(two.client.ensure(wanted, kind)) == {"one", "two"}
    sweep(user, "one", ends_namespaces=True)
    assert labs_of(present(user, kind)["shared"]) == {"two"}
    sweep(user, "two", ends_namespaces=True)
    with pytest.raises(ApiError):
        user.call("GET", kind.path("", "shared"))


def test_a_sweep_strips_finalizers_of_marked_objects_only(
    labs: tuple[OnCluster, OnCluster], user: ClusterConnection
) -> None:
    two = labs[1]
    for lab in labs:
        held = agent(f"of-{lab.server.scope.lab_id}", "held")
        held["metadata"]["finalizers"] = ["contract.test/hold"]
        lab.client.create(held, AGENT)
    mine = new(CONFIG_MAP, "default", "mine", data={})
    mine["metadata"]["finalizers"] = ["contract.test/hold"]
    user.call("POST", CONFIG_MAP.path("default"), body=mine)
    try:
        sweep(user, "one", ends_namespaces=True)
        sweep(user, "one", ends_namespaces=True)
        assert "of-one" not in present(user, NAMESPACE)
        assert present(user, AGENT)["held"]["metadata"]["namespace"] == "of-two"
        kept = user.call("GET", CONFIG_MAP.path("default", "mine"))
        assert kept["metadata"]["finalizers"] == ["contract.test/hold"]
        assert not kept["metadata"].get("deletionTimestamp")
        assert two.names(AGENT) == ["held"]
    finally:
        body = {"metadata": {"finalizers": None}}
        user.call("PATCH", CONFIG_MAP.path("default", "mine"), body=body, content_type=MERGE_PATCH)
        user.call("DELETE", CONFIG_MAP.path("default", "mine"))


def test_down_after_kill_9_leaves_the_cluster_as_it_was(
    kubeconfig: Path, user: ClusterConnection, tmp_path: Path
) -> None:
    before = {kind: set(present(user, kind)) for kind in (NAMESPACE, CUSTOM_RESOURCE_DEFINITION)}
    run = tmp_path / "run"
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            [*_labsim("run"), str(SCENARIOS / "documentation-layout.yaml"), "--hub", "plain",
             "--kubeconfig", str(kubeconfig), "--run-dir", str(run)],
            stdout=log, stderr=log, env=dict(os.environ),
        )  # fmt: skip
    hosted = Kind("hypershift.openshift.io", "v1beta1", "HostedControlPlane", "hostedcontrolplanes")
    try:
        _wait_until(lambda: _count(user, hosted) > 0 or running.poll() is not None)
        assert running.poll() is None, (tmp_path / "log").read_text()
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait(10)
    assert any(labs_of(item) for item in present(user, NAMESPACE).values())
    down = subprocess.run([*_labsim("down"), str(run)], capture_output=True, text=True, timeout=120, check=False)
    assert down.returncode == 0, down.stderr
    assert {kind: set(present(user, kind)) for kind in before} == before
    assert not Ledger(run / "ledger.jsonl").pending()


def _labsim(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "labsim.cli.main", *arguments]


def _count(user: ClusterConnection, kind: Kind) -> int:
    try:
        return len(user.call("GET", kind.path()).get("items") or ())
    except ApiError:
        return 0


def _wait_until(holds: Any) -> None:
    deadline_s = monotonic_s() + WITHIN_S
    while not holds():
        assert monotonic_s() < deadline_s
        wait_s(0.1)


def test_a_cluster_that_does_not_answer_is_an_error_with_a_hint(tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
    )
    (tmp_path / "kubeconfig").write_text(text)
    spec = load_scenario(SCENARIOS / "documentation-layout.yaml").spec.lab
    with pytest.raises(LabError, match="does not answer") as refused:
        _open(tmp_path / "kubeconfig", spec, tmp_path)
    assert refused.value.hint
    with pytest.raises(LabError, match="cannot be used"):
        _open(tmp_path / "nowhere", spec, tmp_path)


def test_marks_are_labels() -> None:
    assert label_of("x-1") == "lab.labsim.dev/x-1"
