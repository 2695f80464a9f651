"""The objects of `hcp create cluster agent`."""

from __future__ import annotations

import pytest
from hypershift_hub import ADDRESS, options

from labsim.controllers.hypershift.create_cluster import INFRA_LABEL, create_cluster_agent_objects
from labsim.errors import UsageError
from labsim.model.objects import Object, labels_of, name_of


def by_kind(objects: list[Object], kind: str) -> Object:
    return next(obj for obj in objects if obj["kind"] == kind)


def test_objects_come_in_the_clis_order_with_its_label() -> None:
    objects = create_cluster_agent_objects(options(additional_trust_bundle="PEM"))
    assert [(obj["kind"], name_of(obj)) for obj in objects] == [
        ("Namespace", "clusters"),
        ("ConfigMap", "user-ca-bundle"),
        ("Secret", "example-pull-secret"),
        ("Secret", "example-ssh-key"),
        ("Secret", "example-etcd-encryption-key"),
        ("HostedCluster", "example"),
        ("NodePool", "example"),
    ]
    assert {labels_of(obj)[INFRA_LABEL] for obj in objects} == {"example-abcde"}
    secrets = [obj for obj in objects if obj["kind"] == "Secret"]
    assert all(labels_of(obj)["hypershift.openshift.io/safe-to-delete-with-cluster"] == "true" for obj in secrets)
    assert ["type" in obj for obj in secrets] == [False, False, True]


def test_the_hosted_cluster_is_what_the_cli_renders() -> None:
    wanted = options(control_plane_availability_policy="HighlyAvailable")
    spec = by_kind(create_cluster_agent_objects(wanted), "HostedCluster")["spec"]
    assert spec == {
        "autoscaling": {},
        "capabilities": {},
        "configuration": {},
        "controllerAvailabilityPolicy": "HighlyAvailable",
        "dns": {"baseDomain": "example.com"},
        "etcd": {
            "managementType": "Managed",
            "managed": {"storage": {"type": "PersistentVolume", "persistentVolume": {"size": "8Gi"}}},
        },
        "fips": False,
        "infraID": "example-abcde",
        "networking": {
            "clusterNetwork": [{"cidr": "10.132.0.0/14"}],
            "serviceNetwork": [{"cidr": "172.31.0.0/16"}],
            "networkType": "OVNKubernetes",
        },
        "olmCatalogPlacement": "management",
        "platform": {"type": "Agent", "agent": {"agentNamespace": "agents"}},
        "pullSecret": {"name": "example-pull-secret"},
        "release": {"image": options().release_image},
        "secretEncryption": {"type": "aescbc", "aescbc": {"activeKey": {"name": "example-etcd-encryption-key"}}},
        "services": [
            {
                "service": service,
                "servicePublishingStrategy": {"type": "NodePort", "nodePort": {"address": ADDRESS}},
            }
            for service in ("APIServer", "Ignition", "Konnectivity", "OAuthServer", "OIDC")
        ],
        "sshKey": {"name": "example-ssh-key"},
    }


def test_the_node_pool_is_in_place_and_named_as_the_cluster() -> None:
    pool = by_kind(create_cluster_agent_objects(options(node_pool_replicas=3)), "NodePool")
    assert pool["spec"] == {
        "arch": "amd64",
        "clusterName": "example",
        "management": {"autoRepair": False, "upgradeType": "InPlace"},
        "nodeDrainTimeout": "0s",
        "nodeVolumeDetachTimeout": "0s",
        "platform": {"type": "Agent", "agent": {}},
        "release": {"image": options().release_image},
        "replicas": 3,
    }


def test_a_negative_count_makes_no_node_pool() -> None:
    objects = create_cluster_agent_objects(options(node_pool_replicas=-1))
    assert all(obj["kind"] != "NodePool" for obj in objects)


def test_dual_stack_defaults() -> None:
    spec = by_kind(create_cluster_agent_objects(options(default_dual=True)), "HostedCluster")["spec"]
    assert [entry["cidr"] for entry in spec["networking"]["serviceNetwork"]] == ["172.31.0.0/16", "fd02::/112"]


@pytest.mark.parametrize(("until", "on_cluster"), [("true", None), ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z")])
def test_a_pause_of_true_lands_on_the_node_pool_only(until: str, on_cluster: str | None) -> None:
    objects = create_cluster_agent_objects(options(paused_until=until))
    assert by_kind(objects, "HostedCluster")["spec"].get("pausedUntil") == on_cluster
    assert by_kind(objects, "NodePool")["spec"]["pausedUntil"] == until


@pytest.mark.parametrize(
    ("change", "message"), [({"name": ""}, "--name is required"), ({"pull_secret": ""}, "--pull-secret is required")]
)
def test_what_the_cli_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_cluster_agent_objects(options(**change))
