"""What the API refuses and fills in for HostedCluster and NodePool."""

from __future__ import annotations

from typing import Any

import pytest
from hypershift_hub import options

from labsim.clock import EventQueue
from labsim.controllers.hypershift.create_cluster import create_cluster_agent_objects
from labsim.entropy import Entropy
from labsim.kube.crds import hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.model.kinds import HOSTED_CLUSTER, NAMESPACE, NODE_POOL, Kind, kind_of
from labsim.model.objects import Object, new

MERGE = "application/merge-patch+json"


@pytest.fixture
def server() -> ApiServer:
    made = ApiServer(name="hub", clock=EventQueue(), entropy=Entropy(1), crds=hub_crds())
    made.create(new(NAMESPACE, None, "clusters"), NAMESPACE)
    return made


def rendered(kind: Kind) -> Object:
    return next(obj for obj in create_cluster_agent_objects(options()) if obj["kind"] == kind.kind)


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ApiError) as caught:
        call(*args, **kwargs)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    return caught.value.message


def test_what_the_cli_renders_survives_unpruned(server: ApiServer) -> None:
    for kind in (HOSTED_CLUSTER, NODE_POOL):
        wanted = rendered(kind)
        spec = server.create(wanted, kind)["spec"]
        for field, value in wanted["spec"].items():
            if isinstance(value, dict):
                assert set(value) <= set(spec[field]), field
            elif field != "services":
                assert spec[field] == value, field


def test_defaults(server: ApiServer) -> None:
    cluster = rendered(HOSTED_CLUSTER)
    for field in ("networking", "etcd", "controllerAvailabilityPolicy", "olmCatalogPlacement"):
        del cluster["spec"][field]
    spec = server.create(cluster, HOSTED_CLUSTER)["spec"]
    assert spec["networking"]["clusterNetwork"] == [{"cidr": "10.132.0.0/14"}]
    assert spec["etcd"]["managed"]["storage"]["persistentVolume"]["size"] == "8Gi"
    assert spec["controllerAvailabilityPolicy"] == "HighlyAvailable"
    assert spec["infrastructureAvailabilityPolicy"] == "SingleReplica"
    assert spec["olmCatalogPlacement"] == "management"
    pool = rendered(NODE_POOL)
    del pool["spec"]["arch"]
    assert server.create(pool, NODE_POOL)["spec"]["arch"] == "amd64"


@pytest.mark.parametrize("address", ["hub1", "api.x.lab1", "192.168.1.1:6443", "two words.example"])
def test_addresses_that_are_none(server: ApiServer, address: str) -> None:
    cluster = rendered(HOSTED_CLUSTER)
    cluster["spec"]["services"][0]["servicePublishingStrategy"] = {"type": "NodePort", "nodePort": {"address": address}}
    assert "address must be a valid hostname, IPv4, or IPv6 address" in refused(server.create, cluster, HOSTED_CLUSTER)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "localhost", "api.example.com"])
def test_addresses_that_are_good(server: ApiServer, address: str) -> None:
    cluster = rendered(HOSTED_CLUSTER)
    cluster["spec"]["services"][0]["servicePublishingStrategy"] = {"type": "NodePort", "nodePort": {"address": address}}
    assert server.create(cluster, HOSTED_CLUSTER)


def test_services_are_needed_and_consistent(server: ApiServer) -> None:
    cluster = rendered(HOSTED_CLUSTER)
    cluster["spec"]["services"] = cluster["spec"]["services"][:3]
    assert "at least 4 items" in refused(server.create, cluster, HOSTED_CLUSTER)
    cluster = rendered(HOSTED_CLUSTER)
    cluster["spec"]["services"][0]["servicePublishingStrategy"] = {"type": "NodePort"}
    assert "nodePort is required when type is NodePort" in refused(server.create, cluster, HOSTED_CLUSTER)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"infraID": "other"}, "infraID is immutable"),
        ({"infraID": None}, "infraID cannot be removed once set"),
        ({"fips": True}, "fips is immutable"),
        ({"dns": {"baseDomain": "other.example"}}, "baseDomain is immutable"),
        ({"controllerAvailabilityPolicy": "HighlyAvailable"}, "ControllerAvailabilityPolicy is immutable"),
        ({"services": []}, "Services is immutable."),
        ({"platform": {"type": "None"}}, "Type is immutable"),
        ({"pausedUntil": "soon"}, "PausedUntil must be a date in RFC3339 format"),
    ],
)
def test_what_a_hosted_cluster_may_not_become(server: ApiServer, change: Object, message: str) -> None:
    server.create(rendered(HOSTED_CLUSTER), HOSTED_CLUSTER)
    text = refused(server.patch, HOSTED_CLUSTER, "clusters", "example", {"spec": change}, patch_type=MERGE)
    assert message in text


def test_overlapping_networks_by_name(server: ApiServer) -> None:
    cluster = rendered(HOSTED_CLUSTER)
    cluster["spec"]["networking"]["machineNetwork"] = [{"cidr": "172.31.0.0/16"}]
    text = refused(server.create, cluster, HOSTED_CLUSTER)
    assert "CIDR ranges in machineNetwork, clusterNetwork, and serviceNetwork must be unique" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"autoScaling": {"min": 1, "max": 2}}, "Both replicas or autoScaling should not be set"),
        ({"replicas": None, "autoScaling": {"min": 3, "max": 2}}, "max must be equal or greater than min"),
        ({"replicas": None, "autoScaling": {"min": 0, "max": 2}}, "Scale-from-zero (autoScaling.min=0)"),
        ({"management": {"upgradeType": "Replace"}}, "UpgradeType is immutable"),
        ({"clusterName": "other"}, "ClusterName is immutable"),
        ({"arch": "arm64"}, "Arch is immutable"),
        (
            {"management": {"replace": {"strategy": "OnDelete", "rollingUpdate": {"maxSurge": 1}}}},
            "The 'rollingUpdate' field can only be set when 'strategy' is 'RollingUpdate'",
        ),
    ],
)
def test_what_a_node_pool_may_not_become(server: ApiServer, change: Object, message: str) -> None:
    server.create(rendered(NODE_POOL), NODE_POOL)
    text = refused(server.patch, NODE_POOL, "clusters", "example", {"spec": change}, patch_type=MERGE)
    assert message in text


def test_node_pools_scale_through_the_subresource(server: ApiServer) -> None:
    server.create(rendered(NODE_POOL), NODE_POOL)
    server.patch(NODE_POOL, "clusters", "example", {"spec": {"replicas": 5}}, patch_type=MERGE, subresource="scale")
    assert server.get(NODE_POOL, "clusters", "example")["spec"]["replicas"] == 5


def test_every_kind_of_the_cli_is_known() -> None:
    assert {kind_of(obj).plural for obj in create_cluster_agent_objects(options())} >= {"hostedclusters", "nodepools"}
