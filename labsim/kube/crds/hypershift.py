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
    open_obj,
    rule,
    string,
    time,
    version,
)
from labsim.kube.crds.hypershift_fields import image, immutable, name_reference, platform, release, rules
from labsim.kube.crds.hypershift_node_pool import node_pool
from labsim.model.kinds import HOSTED_CLUSTER, HOSTED_CONTROL_PLANE

_DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NODE_PORT_HOST = (
    r"^(([a-zA-Z0-9-]+[.])+[a-zA-Z]{2,}|localhost|([0-9]{1,3}[.]){3}[0-9]{1,3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$"
)

_CAPABILITIES = ("ImageRegistry", "openshift-samples", "Insights", "baremetal", "Console", "NodeTuning", "Ingress")
_CAPABILITIES_MAX = 25  # a real server refuses the rule below without a bound: it estimates its cost


def crds() -> list[Schema]:
    return [_hosted_cluster(), node_pool(), _hosted_control_plane()]


def _cidr() -> Schema:
    text = "cidr must be a valid IPv4 or IPv6 CIDR notation (e.g., 192.168.1.0/24 or 2001:db8::/64)"
    four = "self.matches('^([0-9]{1,3}[.]){3}[0-9]{1,3}/[0-9]{1,2}$')"
    six = "self.matches('^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/[0-9]{1,3}$')"
    pattern = f"{four} || {six}"
    return string(maxLength=43, **rules(rule(pattern, text)))


def _networks(which: str, default: str | None) -> Schema:
    fields = {"cidr": _cidr()}
    if which == "clusterNetwork":
        fields["hostPrefix"] = int32()
    entry = open_obj(fields, required=["cidr"])
    extra: dict[str, Any] = {} if default is None else {"default": [{"cidr": default}]}
    message = f"{which} is immutable and cannot be modified once set."
    return array(entry, minItems=1, maxItems=2, **extra, **immutable(message))


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
                    "advertiseAddress": string(**immutable("advertiseAddress is immutable")),
                    "port": int32(**immutable("port is immutable")),
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
        **rules(rule(unique, text)),
    )


def _etcd() -> Schema:
    volume = open_obj(
        {
            "size": int_or_string(default="8Gi", **immutable("Etcd PV storage size is immutable")),
            "storageClassName": string(**immutable("storageClassName is immutable")),
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
            "managementType": enum("Managed", "Unmanaged", **immutable("managementType is immutable")),
            "managed": open_obj({"storage": storage}, required=["storage"]),
            "unmanaged": anything(),
        },
        required=["managementType"],
        default={
            "managementType": "Managed",
            "managed": {"storage": {"type": "PersistentVolume", "persistentVolume": {"size": "8Gi"}}},
        },
        **rules(rule(only, "Only managed configuration must be set when managementType is Managed")),
    )


def _services() -> Schema:
    host = r"^(?:[a-zA-Z0-9-]+[.])+[a-zA-Z]{2,}$"
    host_text = "hostname must be a valid domain name (e.g., example.com)"
    hostname = string(maxLength=253, **rules(rule(f"self.matches('{host}')", host_text)))
    address = string(
        minLength=1,
        maxLength=253,
        **rules(rule(f"self.matches('{_NODE_PORT_HOST}')", "address must be a valid hostname, IPv4, or IPv6 address")),
    )
    strategy = open_obj(
        {
            "type": enum("LoadBalancer", "NodePort", "Route", "None", "S3"),
            "nodePort": open_obj({"address": address, "port": int32()}, required=["address"]),
            "loadBalancer": open_obj({"hostname": hostname}),
            "route": open_obj({"hostname": hostname}),
        },
        required=["type"],
        **rules(
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
        **rules(rule("size(self) >= 4", few), rule("self == oldSelf", fixed)),
    )


def _hosted_spec() -> dict[str, Schema]:
    """The fields that HostedCluster and HostedControlPlane have in common."""
    agent = open_obj({"agentNamespace": string(minLength=1, maxLength=63)}, required=["agentNamespace"])
    return {
        "clusterID": string(**immutable("clusterID is immutable")),
        "infraID": string(
            maxLength=253,
            **rules(
                rule(
                    f"self.matches('{_DNS_NAME}')", "infraID must consist of lowercase alphanumeric characters or '-'"
                ),
                rule("self == oldSelf", "infraID is immutable"),
            ),
        ),
        "platform": platform(agent),
        "controllerAvailabilityPolicy": enum(
            "HighlyAvailable",
            "SingleReplica",
            default="HighlyAvailable",
            **immutable("ControllerAvailabilityPolicy is immutable"),
        ),
        "infrastructureAvailabilityPolicy": enum("HighlyAvailable", "SingleReplica", default="SingleReplica"),
        "networking": _networking(),
        "etcd": _etcd(),
        "services": _services(),
        "pullSecret": open_obj({"name": string(default="")}),
        "sshKey": name_reference(),
        "secretEncryption": open_obj({"type": enum("kms", "aescbc"), "aescbc": anything(), "kms": anything()}),
        "fips": boolean(**immutable("fips is immutable")),
        "imageContentSources": array(open_obj({"source": string(), "mirrors": array(string())}), maxItems=255),
        "additionalTrustBundle": name_reference(),
        "olmCatalogPlacement": enum(
            "management", "guest", default="management", **immutable("OLMCatalogPlacement is immutable")
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
                **rules(
                    rule(f"self == '' || self.matches('{pattern}')", name_text),
                    rule("oldSelf == '' || self == oldSelf", "baseDomain is immutable"),
                ),
            ),
            "baseDomainPrefix": string(maxLength=253, **immutable("baseDomainPrefix is immutable")),
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
    spec["release"] = release()
    spec["controlPlaneRelease"] = release()
    spec["dns"] = _dns()
    spec["issuerURL"] = string(
        default="https://kubernetes.default.svc",
        maxLength=255,
        **rules(
            rule("self == oldSelf", "issuerURL is immutable"),
            rule("isURL(self)", "issuerURL must be a valid absolute URL"),
        ),
    )
    spec["pausedUntil"] = string(
        minLength=4,
        maxLength=35,
        **rules(rule(f"self.matches('{date}') || self in ['true', 'True', 'false', 'False']", pause)),
    )
    capabilities = array(enum(*_CAPABILITIES), maxItems=_CAPABILITIES_MAX, **{"x-kubernetes-list-type": "atomic"})
    spec["capabilities"] = open_obj(
        {"enabled": capabilities, "disabled": capabilities},
        **rules(
            rule(
                "!has(self.enabled) || !has(self.disabled) || self.enabled.all(e, !(e in self.disabled))",
                "Capabilities can not be both enabled and disabled at once.",
            ),
            rule(
                "!has(self.disabled) || !('Ingress' in self.disabled) || 'Console' in self.disabled",
                "Ingress capability can only be disabled if Console capability is also disabled",
            ),
        ),
    )
    status = open_obj(
        {
            "version": _version_status(),
            "kubeconfig": name_reference(),
            "kubeadminPassword": name_reference(),
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
    spec["releaseImage"] = image()
    spec["dns"] = anything()
    spec["issuerURL"] = string(maxLength=255)
    status = open_obj(
        {
            "ready": boolean(default=False),
            "initialized": boolean(default=False),
            "externalManagedControlPlane": boolean(default=True),
            "controlPlaneEndpoint": _endpoint(),
            "kubeConfig": open_obj({"name": string(), "key": string()}),
            "kubeadminPassword": name_reference(),
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
        labels={"cluster.x-k8s.io/v1beta1": "v1beta1"},
    )
