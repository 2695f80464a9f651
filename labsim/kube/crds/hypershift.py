"""CustomResourceDefinitions of hypershift.openshift.io: HostedCluster, NodePool, HostedControlPlane.

The fields of the Agent flow are checked and defaulted; the many others are kept as they come.
Source: the HyperShift fact sheet, sections 1 and 2 (API v1beta1 of openshift/hypershift).
"""

from __future__ import annotations

from typing import Any

from labsim.kube.crds.builder import (
    Schema,
    anything,
    array,
    boolean,
    column,
    conditions,
    crd,
    enum,
    int32,
    int_or_string,
    integer,
    map_of,
    obj,
    open_obj,
    rule,
    string,
    time,
    version,
)
from labsim.model.kinds import HOSTED_CLUSTER, HOSTED_CONTROL_PLANE, NODE_POOL

_DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NODE_PORT_HOST = (
    r"^(([a-zA-Z0-9-]+[.])+[a-zA-Z]{2,}|localhost|([0-9]{1,3}[.]){3}[0-9]{1,3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$"
)


def crds() -> list[Schema]:
    return [_hosted_cluster(), _node_pool(), _hosted_control_plane()]


def _rules(*entries: Schema) -> dict[str, Any]:
    return {"x-kubernetes-validations": list(entries)}


def _immutable(message: str) -> dict[str, Any]:
    return _rules(rule("self == oldSelf", message))


def _image() -> Schema:
    text = "Image must start with a word character (letters, digits, or underscores) and contain no white spaces"
    return string(minLength=1, maxLength=253, **_rules(rule(r"self.matches('^(\\w+\\S+)$')", text)))


def _release() -> Schema:
    return open_obj({"image": _image()}, required=["image"])


def _name_reference() -> Schema:
    return open_obj({"name": string(default="")})


def _cidr() -> Schema:
    text = "cidr must be a valid IPv4 or IPv6 CIDR notation (e.g., 192.168.1.0/24 or 2001:db8::/64)"
    four = "self.matches('^([0-9]{1,3}[.]){3}[0-9]{1,3}/[0-9]{1,2}$')"
    six = "self.matches('^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/[0-9]{1,3}$')"
    pattern = f"{four} || {six}"
    return string(maxLength=43, **_rules(rule(pattern, text)))


def _networks(which: str, default: str | None) -> Schema:
    fields = {"cidr": _cidr()}
    if which == "clusterNetwork":
        fields["hostPrefix"] = int32()
    entry = open_obj(fields, required=["cidr"])
    extra: dict[str, Any] = {} if default is None else {"default": [{"cidr": default}]}
    message = f"{which} is immutable and cannot be modified once set."
    return array(entry, minItems=1, maxItems=2, **extra, **_immutable(message))


def _networking() -> Schema:
    unique = (
        "(!has(self.machineNetwork) || !has(self.clusterNetwork) || "
        "self.machineNetwork.all(m, self.clusterNetwork.all(c, m.cidr != c.cidr))) && "
        "(!has(self.machineNetwork) || !has(self.serviceNetwork) || "
        "self.machineNetwork.all(m, self.serviceNetwork.all(s, m.cidr != s.cidr))) && "
        "(!has(self.clusterNetwork) || !has(self.serviceNetwork) || "
        "self.clusterNetwork.all(c, self.serviceNetwork.all(s, c.cidr != s.cidr)))"
    )
    text = "CIDR ranges in machineNetwork, clusterNetwork, and serviceNetwork must be unique and non-overlapping"
    return open_obj(
        {
            "networkType": enum("OpenShiftSDN", "Calico", "OVNKubernetes", "Other", default="OVNKubernetes"),
            "machineNetwork": _networks("machineNetwork", None),
            "clusterNetwork": _networks("clusterNetwork", "10.132.0.0/14"),
            "serviceNetwork": _networks("serviceNetwork", "172.31.0.0/16"),
            "apiServer": open_obj(
                {
                    "advertiseAddress": string(**_immutable("advertiseAddress is immutable")),
                    "port": int32(**_immutable("port is immutable")),
                    "allowedCIDRBlocks": array(string(), maxItems=500),
                }
            ),
            "allocateNodeCIDRs": string(),
        },
        default={
            "networkType": "OVNKubernetes",
            "clusterNetwork": [{"cidr": "10.132.0.0/14"}],
            "serviceNetwork": [{"cidr": "172.31.0.0/16"}],
        },
        **_rules(rule(unique, text)),
    )


def _etcd() -> Schema:
    volume = open_obj(
        {
            "size": int_or_string(default="8Gi", **_immutable("Etcd PV storage size is immutable")),
            "storageClassName": string(**_immutable("storageClassName is immutable")),
        }
    )
    storage = open_obj(
        {"type": enum("PersistentVolume"), "persistentVolume": volume, "restoreSnapshotURL": array(string())},
        required=["type"],
    )
    only = (
        "self.managementType == 'Managed' ? (has(self.managed) && !has(self.unmanaged)) "
        ": (has(self.unmanaged) && !has(self.managed))"
    )
    return open_obj(
        {
            "managementType": enum("Managed", "Unmanaged", **_immutable("managementType is immutable")),
            "managed": open_obj({"storage": storage}, required=["storage"]),
            "unmanaged": anything(),
        },
        required=["managementType"],
        default={
            "managementType": "Managed",
            "managed": {"storage": {"type": "PersistentVolume", "persistentVolume": {"size": "8Gi"}}},
        },
        **_rules(rule(only, "Only managed configuration must be set when managementType is Managed")),
    )


def _services() -> Schema:
    host = r"^(?:[a-zA-Z0-9-]+[.])+[a-zA-Z]{2,}$"
    host_text = "hostname must be a valid domain name (e.g., example.com)"
    hostname = string(maxLength=253, **_rules(rule(f"self.matches('{host}')", host_text)))
    address = string(
        minLength=1,
        maxLength=253,
        **_rules(rule(f"self.matches('{_NODE_PORT_HOST}')", "address must be a valid hostname, IPv4, or IPv6 address")),
    )
    strategy = open_obj(
        {
            "type": enum("LoadBalancer", "NodePort", "Route", "None", "S3"),
            "nodePort": open_obj({"address": address, "port": int32()}, required=["address"]),
            "loadBalancer": open_obj({"hostname": hostname}),
            "route": open_obj({"hostname": hostname}),
        },
        required=["type"],
        **_rules(
            rule(
                "self.type == 'NodePort' ? has(self.nodePort) : !has(self.nodePort)",
                "nodePort is required when type is NodePort, and forbidden otherwise",
            ),
            rule(
                "self.type == 'Route' || !has(self.route)",
                "only route is allowed when type is Route, and forbidden otherwise",
            ),
            rule(
                "self.type == 'LoadBalancer' || !has(self.loadBalancer)",
                "only loadBalancer is required when type is LoadBalancer, and forbidden otherwise",
            ),
        ),
    )
    entry = open_obj(
        {
            "service": enum("APIServer", "OAuthServer", "OIDC", "Konnectivity", "Ignition", "OVNSbDb"),
            "servicePublishingStrategy": strategy,
        },
        required=["service", "servicePublishingStrategy"],
    )
    few = "spec.services in body should have at least 4 items or 3 for IBMCloud"
    fixed = "Services is immutable. Changes might result in unpredictable and disruptive behavior."
    return array(
        entry,
        maxItems=6,
        **{"x-kubernetes-list-type": "atomic"},
        **_rules(rule("size(self) >= 4", few), rule("self == oldSelf", fixed)),
    )


def _platform(agent: Schema) -> Schema:
    kinds = ("AWS", "Azure", "IBMCloud", "KubeVirt", "Agent", "PowerVS", "None", "OpenStack", "GCP")
    return open_obj({"type": enum(*kinds, **_immutable("Type is immutable")), "agent": agent}, required=["type"])


def _hosted_spec() -> dict[str, Schema]:
    """The fields that HostedCluster and HostedControlPlane have in common."""
    agent = open_obj({"agentNamespace": string(minLength=1, maxLength=63)}, required=["agentNamespace"])
    return {
        "clusterID": string(**_immutable("clusterID is immutable")),
        "infraID": string(
            maxLength=253,
            **_rules(
                rule(
                    f"self.matches('{_DNS_NAME}')", "infraID must consist of lowercase alphanumeric characters or '-'"
                ),
                rule("self == oldSelf", "infraID is immutable"),
            ),
        ),
        "platform": _platform(agent),
        "controllerAvailabilityPolicy": enum(
            "HighlyAvailable",
            "SingleReplica",
            default="HighlyAvailable",
            **_immutable("ControllerAvailabilityPolicy is immutable"),
        ),
        "infrastructureAvailabilityPolicy": enum("HighlyAvailable", "SingleReplica", default="SingleReplica"),
        "networking": _networking(),
        "etcd": _etcd(),
        "services": _services(),
        "pullSecret": open_obj({"name": string(default="")}),
        "sshKey": _name_reference(),
        "secretEncryption": open_obj({"type": enum("kms", "aescbc"), "aescbc": anything(), "kms": anything()}),
        "fips": boolean(**_immutable("fips is immutable")),
        "imageContentSources": array(open_obj({"source": string(), "mirrors": array(string())}), maxItems=255),
        "additionalTrustBundle": _name_reference(),
        "olmCatalogPlacement": enum(
            "management", "guest", default="management", **_immutable("OLMCatalogPlacement is immutable")
        ),
        "autoscaling": open_obj({"scaling": enum("ScaleUpAndScaleDown", "ScaleUpOnly")}),
        "pausedUntil": string(),
        "configuration": anything(),
        "nodeSelector": map_of(string(), maxProperties=20),
        "labels": map_of(string(), maxProperties=20),
        "tolerations": array(anything(), maxItems=25),
    }


def _dns() -> Schema:
    name_text = "baseDomain must be a valid domain name (e.g., example, example.com, sub.example.com)"
    pattern = r"^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?[.])*[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)$"
    return open_obj(
        {
            "baseDomain": string(
                maxLength=253,
                **_rules(
                    rule(f"self == '' || self.matches('{pattern}')", name_text),
                    rule("oldSelf == '' || self == oldSelf", "baseDomain is immutable"),
                ),
            ),
            "baseDomainPrefix": string(maxLength=253, **_immutable("baseDomainPrefix is immutable")),
            "publicZoneID": string(),
            "privateZoneID": string(),
        }
    )


def _version_status() -> Schema:
    entry = open_obj(
        {
            "state": string(),
            "startedTime": time(nullable=True),
            "completionTime": time(nullable=True),
            "version": string(),
            "image": string(),
            "verified": boolean(),
        }
    )
    return open_obj({"desired": anything(), "history": array(entry), "observedGeneration": integer()})


def _endpoint() -> Schema:
    return open_obj({"host": string(), "port": int32()})


def _hosted_cluster() -> Schema:
    pause = "PausedUntil must be a date in RFC3339 format or 'True', 'true', 'False' or 'false'"
    date = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$"
    spec = _hosted_spec()
    spec["release"] = _release()
    spec["controlPlaneRelease"] = _release()
    spec["dns"] = _dns()
    spec["pausedUntil"] = string(
        minLength=4,
        maxLength=35,
        **_rules(rule(f"self.matches('{date}') || self in ['true', 'True', 'false', 'False']", pause)),
    )
    spec["capabilities"] = open_obj(
        {"enabled": array(string()), "disabled": array(string())},
        **_rules(
            rule(
                "!has(self.enabled) || !has(self.disabled) || self.enabled.all(e, !(e in self.disabled))",
                "Capabilities can not be both enabled and disabled at once.",
            )
        ),
    )
    status = open_obj(
        {
            "version": _version_status(),
            "kubeconfig": _name_reference(),
            "kubeadminPassword": _name_reference(),
            "ignitionEndpoint": string(),
            "controlPlaneEndpoint": _endpoint(),
            "oauthCallbackURLTemplate": string(),
            "payloadArch": string(),
            "conditions": conditions(),
        }
    )
    kept = [
        rule("!has(oldSelf.clusterID) || has(self.clusterID)", "clusterID cannot be removed once set"),
        rule("!has(oldSelf.infraID) || has(self.infraID)", "infraID cannot be removed once set"),
        rule(
            "!has(oldSelf.secretEncryption) || has(self.secretEncryption)",
            "secretEncryption cannot be removed once configured",
        ),
    ]
    available = '.status.conditions[?(@.type=="Available")]'
    return crd(
        HOSTED_CLUSTER,
        [
            version(
                "v1beta1",
                spec=open_obj(
                    spec,
                    required=["platform", "pullSecret", "release", "services"],
                    **{"x-kubernetes-validations": kept},
                ),
                status=status,
                columns=[
                    column("Version", '.status.version.history[?(@.state=="Completed")].version'),
                    column("KubeConfig", ".status.kubeconfig.name"),
                    column("Progress", ".status.version.history[*].state"),
                    column("Available", f"{available}.status"),
                    column("Progressing", '.status.conditions[?(@.type=="Progressing")].status'),
                    column("Message", f"{available}.message"),
                ],
            )
        ],
        short_names=["hc", "hcs"],
    )


def _hosted_control_plane() -> Schema:
    spec = _hosted_spec()
    spec["releaseImage"] = _image()
    spec["dns"] = anything()
    status = open_obj(
        {
            "ready": boolean(default=False),
            "initialized": boolean(default=False),
            "externalManagedControlPlane": boolean(default=True),
            "controlPlaneEndpoint": _endpoint(),
            "kubeConfig": open_obj({"name": string(), "key": string()}),
            "kubeadminPassword": _name_reference(),
            "version": string(),
            "versionStatus": _version_status(),
            "conditions": conditions(),
        }
    )
    return crd(
        HOSTED_CONTROL_PLANE,
        [version("v1beta1", spec=open_obj(spec), status=status)],
        short_names=["hcp", "hcps"],
        categories=["cluster-api"],
    )


def _node_pool_management() -> Schema:
    rolling = open_obj({"maxUnavailable": int_or_string(default=0), "maxSurge": int_or_string(default=1)})
    replace = open_obj(
        {"strategy": enum("RollingUpdate", "OnDelete", default="RollingUpdate"), "rollingUpdate": rolling},
        **_rules(
            rule(
                "!has(self.rollingUpdate) || self.strategy == 'RollingUpdate'",
                "The 'rollingUpdate' field can only be set when 'strategy' is 'RollingUpdate'",
            )
        ),
    )
    return open_obj(
        {
            "upgradeType": enum("Replace", "InPlace", **_immutable("UpgradeType is immutable")),
            "replace": replace,
            "inPlace": open_obj({"maxUnavailable": int_or_string(default=1)}),
            "autoRepair": boolean(default=False),
        },
        required=["upgradeType"],
        **_rules(
            rule(
                "!has(self.inPlace) || self.upgradeType == 'InPlace'",
                "The 'inPlace' field can only be set when 'upgradeType' is 'InPlace'",
            )
        ),
    )


def _label_selector() -> Schema:
    expression = obj({"key": string(), "operator": string(), "values": array(string())}, required=["key", "operator"])
    return obj({"matchLabels": map_of(string()), "matchExpressions": array(expression)})


def _node_pool() -> Schema:
    autoscaling = open_obj(
        {"min": int32(minimum=0), "max": int32(minimum=1)},
        required=["max", "min"],
        **_rules(rule("self.max >= self.min", "max must be equal or greater than min")),
    )
    taint = open_obj(
        {"key": string(), "value": string(), "effect": enum("NoSchedule", "PreferNoSchedule", "NoExecute")},
        required=["effect", "key"],
    )
    rules = [
        rule("!has(oldSelf.arch) || has(self.arch)", "Arch is required once set"),
        rule(
            "self.arch != 's390x' || self.platform.type == 'KubeVirt'", "s390x is only supported on KubeVirt platform"
        ),
        rule("!(has(self.replicas) && has(self.autoScaling))", "Both replicas or autoScaling should not be set"),
        rule(
            "!has(self.autoScaling) || self.autoScaling.min > 0 || self.platform.type in ['AWS', 'Azure']",
            "Scale-from-zero (autoScaling.min=0) is currently only supported for AWS and Azure platforms",
        ),
    ]
    spec = open_obj(
        {
            "clusterName": string(
                minLength=1,
                maxLength=253,
                pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                **_immutable("ClusterName is immutable"),
            ),
            "release": _release(),
            "platform": _platform(open_obj({"agentLabelSelector": _label_selector()})),
            "replicas": int32(minimum=0),
            "management": _node_pool_management(),
            "autoScaling": autoscaling,
            "config": array(_name_reference(), maxItems=10),
            "tuningConfig": array(_name_reference(), maxItems=10),
            "nodeDrainTimeout": string(),
            "nodeVolumeDetachTimeout": string(),
            "nodeLabels": map_of(string()),
            "taints": array(taint, maxItems=50),
            "pausedUntil": string(),
            "arch": enum("amd64", "arm64", "ppc64le", "s390x", default="amd64", **_immutable("Arch is immutable")),
        },
        required=["clusterName", "management", "platform", "release"],
        **{"x-kubernetes-validations": rules},
    )
    status = open_obj(
        {
            "replicas": int32(),
            "version": string(),
            "platform": anything(),
            "conditions": conditions(severity=string()),
        }
    )

    def condition(name: str, part: str = "status") -> str:
        return f'.status.conditions[?(@.type=="{name}")].{part}'

    return crd(
        NODE_POOL,
        [
            version(
                "v1beta1",
                spec=spec,
                status=status,
                columns=[
                    column("Cluster", ".spec.clusterName"),
                    column("Desired Nodes", ".spec.replicas", "integer"),
                    column("Current Nodes", ".status.replicas", "integer"),
                    column("Autoscaling", condition("AutoscalingEnabled")),
                    column("Autorepair", condition("AutorepairEnabled")),
                    column("Version", ".status.version"),
                    column("UpdatingVersion", condition("UpdatingVersion")),
                    column("UpdatingConfig", condition("UpdatingConfig")),
                    column("Message", condition("Ready", "message")),
                ],
                scale={"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
            )
        ],
        short_names=["np", "nps"],
    )
