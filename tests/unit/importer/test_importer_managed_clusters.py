"""The import of hosted clusters: one ManagedCluster each, by name alone."""

from __future__ import annotations

import io

import pytest

from labsim.clock import EventQueue
from labsim.controllers.importer import Importer
from labsim.controllers.runtime.engine import Engine
from labsim.entropy import Entropy
from labsim.history import History
from labsim.kube.crds import hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.model.kinds import ADDON_DEPLOYMENT_CONFIG, HOSTED_CLUSTER, MANAGED_CLUSTER, NAMESPACE
from labsim.model.objects import Object, annotations_of, condition_status, labels_of, new

MERGE = "application/merge-patch+json"


class _Nothing:
    """Surroundings without other clusters."""

    def hosted_servers(self) -> dict[str, ApiServer]:
        return {}


class Hub:
    def __init__(self) -> None:
        self.queue = EventQueue()
        entropy = Entropy(1)
        self.server = ApiServer(name="hub", clock=self.queue, entropy=entropy, crds=hub_crds())
        history = History(self.queue.now, io.BytesIO())
        around = _Nothing()
        self.engine = Engine(scheduler=self.queue, entropy=entropy, history=history, hub=self.server, around=around)  # type: ignore[arg-type]
        for name in ("clusters", "others", "multicluster-engine"):
            self.server.create(new(NAMESPACE, None, name), NAMESPACE)

    def start(self) -> None:
        self.engine.add(Importer())
        self.run_for(1)

    def run_for(self, seconds: float) -> None:
        end_s = self.queue.now() + seconds
        while self.queue.run_next(end_s):
            pass
        self.queue.advance_to(end_s)
        assert self.engine.failures == []

    def create(self, namespace: str = "clusters", name: str = "example", **labels: str) -> None:
        node_port = {"type": "NodePort", "nodePort": {"address": "192.0.2.10"}}
        services = ("APIServer", "Ignition", "Konnectivity", "OAuthServer")
        spec = {
            "platform": {"type": "Agent", "agent": {"agentNamespace": "agents"}},
            "pullSecret": {"name": "pull"},
            "release": {"image": "quay.io/ocp:4.22.0-x86_64"},
            "services": [{"service": service, "servicePublishingStrategy": node_port} for service in services],
        }
        made = new(HOSTED_CLUSTER, namespace, name, spec=spec)
        made["metadata"]["labels"] = labels
        self.server.create(made, HOSTED_CLUSTER)

    def say_available(self, reason: str = "AsExpected", namespace: str = "clusters", name: str = "example") -> None:
        entry = {"type": "Available", "status": "True", "reason": reason, "message": ""}
        body = {"status": {"conditions": [entry]}}
        self.server.patch(HOSTED_CLUSTER, namespace, name, body, patch_type=MERGE, subresource="status")

    def managed(self, name: str = "example") -> Object | None:
        try:
            return self.server.get(MANAGED_CLUSTER, "", name)
        except ApiError:
            return None


def test_the_hub_itself_is_there_from_the_start() -> None:
    hub = Hub()
    hub.start()
    local = hub.managed("local-cluster")
    assert local is not None
    assert labels_of(local)["local-cluster"] == "true"
    assert condition_status(local, "ManagedClusterConditionAvailable") == "True"


def test_import_waits_for_available_as_expected_and_asks_each_minute() -> None:
    hub = Hub()
    hub.start()
    hub.create(purpose="test", cloud="lab")
    hub.run_for(30)
    hub.say_available("SomethingElse")
    hub.run_for(60)
    assert hub.managed() is None
    hub.say_available()
    hub.run_for(60)
    managed = hub.managed()
    assert managed is not None
    assert annotations_of(managed) == {
        "import.open-cluster-management.io/klusterlet-deploy-mode": "Hosted",
        "import.open-cluster-management.io/hosting-cluster-name": "local-cluster",
        "open-cluster-management/created-via": "hypershift",
    }
    assert labels_of(managed)["vendor"] == "auto-detect"
    assert (labels_of(managed)["cloud"], labels_of(managed)["purpose"]) == ("lab", "test"), "the cluster's labels win"
    assert managed["spec"]["hubAcceptsClient"] is True
    assert managed["spec"]["leaseDurationSeconds"] == 60


def test_a_taken_name_is_passed_over_in_silence() -> None:
    hub = Hub()
    hub.start()
    hub.create()
    hub.say_available()
    hub.run_for(70)
    first = hub.managed()
    hub.create("others")
    hub.say_available(namespace="others")
    hub.run_for(70)
    assert hub.managed() == first


@pytest.mark.parametrize(("value", "imported"), [("true", False), ("false", True)])
def test_import_can_be_turned_off(value: str, imported: bool) -> None:
    hub = Hub()
    spec = {"customizedVariables": [{"name": "autoImportDisabled", "value": value}]}
    config = new(ADDON_DEPLOYMENT_CONFIG, "multicluster-engine", "hypershift-addon-deploy-config", spec=spec)
    hub.server.create(config, ADDON_DEPLOYMENT_CONFIG)
    hub.start()
    hub.create()
    hub.say_available()
    hub.run_for(130)
    assert (hub.managed() is not None) is imported


def test_deleting_a_hosted_cluster_leaves_its_managed_cluster() -> None:
    hub = Hub()
    hub.start()
    hub.create()
    hub.say_available()
    hub.run_for(70)
    hub.server.delete(HOSTED_CLUSTER, "clusters", "example")
    hub.run_for(120)
    assert hub.managed() is not None
