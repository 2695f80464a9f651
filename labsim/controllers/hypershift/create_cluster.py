"""The objects that `hcp create cluster agent` makes (fact sheet, section 3): the same names, order and defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from labsim.controllers.hypershift.kubeconfigs import encoded
from labsim.errors import UsageError
from labsim.model.kinds import CONFIG_MAP, HOSTED_CLUSTER, NAMESPACE, NODE_POOL, SECRET
from labsim.model.objects import Object, new

INFRA_LABEL = "hypershift.openshift.io/auto-created-for-infra"
_DELETE_WITH_CLUSTER = {"hypershift.openshift.io/safe-to-delete-with-cluster": "true"}
_SERVICES = ("APIServer", "Ignition", "Konnectivity", "OAuthServer", "OIDC")
ENCRYPTION_KEY_BYTES = 32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CreateClusterOptions:
    """The flags of `hcp create cluster agent`, with its defaults. Files are given by content.

    `infra_id` is what the CLI would draw (`<name>-xxxxx`), `etcd_encryption_key` its 32 random bytes; a caller derives
    both from its Entropy. `node_pool_replicas` below zero makes no NodePool. `api_server_publishing` is the web
    console's choice and no flag: with a load balancer the other services have Routes.
    """

    name: str
    pull_secret: str
    agent_namespace: str
    api_server_address: str
    infra_id: str
    etcd_encryption_key: bytes
    release_image: str
    namespace: str = "clusters"
    base_domain: str = ""
    api_server_publishing: Literal["NodePort", "LoadBalancer"] = "NodePort"
    control_plane_availability_policy: str = "HighlyAvailable"
    infra_availability_policy: str = ""
    node_pool_replicas: int = 0
    node_upgrade_type: str = ""
    node_drain_timeout: str = "0s"
    node_volume_detach_timeout: str = "0s"
    auto_repair: bool = False
    arch: str = "amd64"
    agent_label_selector: Mapping[str, object] | None = None
    ssh_key: str = ""
    ssh_private_key: str = ""
    additional_trust_bundle: str = ""
    image_content_sources: Sequence[Mapping[str, object]] = ()
    etcd_storage_class: str = ""
    etcd_storage_size: str = "8Gi"
    service_cidr: Sequence[str] = ("172.31.0.0/16",)
    cluster_cidr: Sequence[str] = ("10.132.0.0/14",)
    machine_cidr: Sequence[str] = ()
    default_dual: bool = False
    network_type: str = "OVNKubernetes"
    fips: bool = False
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    olm_catalog_placement: str = "management"
    paused_until: str = ""


def create_cluster_agent_objects(options: CreateClusterOptions) -> list[Object]:
    """The objects in the order in which they are applied, each with the infra label. Raises UsageError."""
    _check(options)
    objects = [new(NAMESPACE, None, options.namespace)]
    if options.additional_trust_bundle:
        bundle = {"ca-bundle.crt": options.additional_trust_bundle}
        objects.append(new(CONFIG_MAP, options.namespace, "user-ca-bundle", data=bundle))
    objects.append(_secret(options, "pull-secret", {".dockerconfigjson": options.pull_secret}))
    if options.ssh_key:
        keys = {"id_rsa.pub": options.ssh_key}
        if options.ssh_private_key:
            keys["id_rsa"] = options.ssh_private_key
        objects.append(_secret(options, "ssh-key", keys))
    encryption = _secret(options, "etcd-encryption-key", {"key": options.etcd_encryption_key})
    encryption["type"] = "Opaque"
    objects.append(encryption)
    objects.append(_hosted_cluster(options))
    if options.node_pool_replicas >= 0:
        objects.append(_node_pool(options))
    for obj in objects:
        obj["metadata"].setdefault("labels", {})[INFRA_LABEL] = options.infra_id
    return objects


def _check(options: CreateClusterOptions) -> None:
    if not options.name:
        raise UsageError("--name is required")
    if not options.pull_secret:
        raise UsageError("--pull-secret is required")
    if not options.agent_namespace:
        raise UsageError('required flag(s) "agent-namespace" not set')
    if len(options.etcd_encryption_key) != ENCRYPTION_KEY_BYTES:
        raise UsageError(f"the etcd encryption key must have {ENCRYPTION_KEY_BYTES} bytes")


def _secret(options: CreateClusterOptions, suffix: str, values: Mapping[str, str | bytes]) -> Object:
    data = {key: encoded(value) for key, value in values.items()}
    made = new(SECRET, options.namespace, f"{options.name}-{suffix}", data=data)
    made["metadata"]["labels"] = dict(_DELETE_WITH_CLUSTER)
    return made


def _networking(options: CreateClusterOptions) -> Object:
    cluster, service = list(options.cluster_cidr), list(options.service_cidr)
    if options.default_dual:
        cluster, service = ["10.132.0.0/14", "fd01::/48"], ["172.31.0.0/16", "fd02::/112"]
    networking: Object = {
        "clusterNetwork": [{"cidr": cidr} for cidr in cluster],
        "serviceNetwork": [{"cidr": cidr} for cidr in service],
        "networkType": options.network_type,
    }
    if options.machine_cidr:
        networking["machineNetwork"] = [{"cidr": cidr} for cidr in options.machine_cidr]
    return networking


def _strategy(options: CreateClusterOptions, service: str) -> Object:
    if options.api_server_publishing == "NodePort":
        return {"type": "NodePort", "nodePort": {"address": options.api_server_address}}
    return {"type": "LoadBalancer"} if service == "APIServer" else {"type": "Route"}


def _hosted_cluster(options: CreateClusterOptions) -> Object:
    volume: Object = {"size": options.etcd_storage_size}
    if options.etcd_storage_class:
        volume["storageClassName"] = options.etcd_storage_class
    encryption = {"type": "aescbc", "aescbc": {"activeKey": {"name": f"{options.name}-etcd-encryption-key"}}}
    spec: Object = {
        "autoscaling": {},
        "capabilities": {},
        "configuration": {},
        "controllerAvailabilityPolicy": options.control_plane_availability_policy,
        "dns": {"baseDomain": options.base_domain or "example.com"},
        "etcd": {
            "managementType": "Managed",
            "managed": {"storage": {"type": "PersistentVolume", "persistentVolume": volume}},
        },
        "fips": options.fips,
        "infraID": options.infra_id,
        "networking": _networking(options),
        "olmCatalogPlacement": options.olm_catalog_placement,
        "platform": {"type": "Agent", "agent": {"agentNamespace": options.agent_namespace}},
        "pullSecret": {"name": f"{options.name}-pull-secret"},
        "release": {"image": options.release_image},
        "secretEncryption": encryption,
        "services": [
            {"service": service, "servicePublishingStrategy": _strategy(options, service)} for service in _SERVICES
        ],
        "sshKey": {"name": f"{options.name}-ssh-key"} if options.ssh_key else {},
    }
    if options.infra_availability_policy:
        spec["infrastructureAvailabilityPolicy"] = options.infra_availability_policy
    if options.image_content_sources:
        spec["imageContentSources"] = [dict(entry) for entry in options.image_content_sources]
    if options.additional_trust_bundle:
        spec["additionalTrustBundle"] = {"name": "user-ca-bundle"}
    if options.node_selector:
        spec["nodeSelector"] = dict(options.node_selector)
    if options.paused_until and options.paused_until.lower() != "true":
        spec["pausedUntil"] = options.paused_until
    made = new(HOSTED_CLUSTER, options.namespace, options.name, spec=spec)
    if options.annotations:
        made["metadata"]["annotations"] = dict(options.annotations)
    if options.labels:
        made["metadata"]["labels"] = dict(options.labels)
    return made


def _node_pool(options: CreateClusterOptions) -> Object:
    agent: Object = {}
    if options.agent_label_selector is not None:
        agent["agentLabelSelector"] = dict(options.agent_label_selector)
    spec: Object = {
        "arch": options.arch,
        "clusterName": options.name,
        "management": {"autoRepair": options.auto_repair, "upgradeType": options.node_upgrade_type or "InPlace"},
        "nodeDrainTimeout": options.node_drain_timeout,
        "nodeVolumeDetachTimeout": options.node_volume_detach_timeout,
        "platform": {"type": "Agent", "agent": agent},
        "release": {"image": options.release_image},
        "replicas": options.node_pool_replicas,
    }
    if options.paused_until:
        spec["pausedUntil"] = options.paused_until
    return new(NODE_POOL, options.namespace, options.name, spec=spec)
