"""What the operator refuses in a HostedCluster (fact sheet, section 1.2)."""

from __future__ import annotations

import ipaddress
from itertools import combinations

from labsim.controllers.hypershift.desired import find
from labsim.controllers.hypershift.settings import HyperShiftSettings, minor_of
from labsim.controllers.runtime.effects import Program
from labsim.model.kinds import CONFIG_MAP, NAMESPACE, SECRET
from labsim.model.objects import Object, annotations_of, dig, namespace_of

_NETWORKS = ("machineNetwork", "clusterNetwork", "serviceNetwork")
_SKIP = "hypershift.openshift.io/skip-release-image-validation"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def configuration_problem(cluster: Object, *, has_routes: bool) -> Program[str]:
    """The message of ValidConfiguration=False, "" where the configuration passes. has_routes: the hub knows Routes."""
    agent_namespace = dig(cluster, "spec", "platform", "agent", "agentNamespace", default="")
    if not agent_namespace:
        return "agentcluster needs .spec.platform.agent to be filled"
    if (yield from find(NAMESPACE, "", agent_namespace)) is None:
        return f'failed to get agent namespace: namespaces "{agent_namespace}" not found'
    bundle = dig(cluster, "spec", "additionalTrustBundle", "name", default="")
    if bundle:
        found = yield from find(CONFIG_MAP, namespace_of(cluster), bundle)
        if found is None:
            return f'failed to get configMap {bundle}: configmaps "{bundle}" not found'
        if "ca-bundle.crt" not in (found.get("data") or {}):
            return f"configMap {bundle} must have a ca-bundle.crt key"
    return _services_problem(cluster, has_routes) or _networks_problem(cluster)


def _services_problem(cluster: Object, has_routes: bool) -> str:
    hostnames: dict[str, str] = {}
    services: list[Object] = dig(cluster, "spec", "services", default=[])
    ranges = _networks(cluster, "serviceNetwork")
    for entry in services:
        name, strategy = entry.get("service", ""), entry.get("servicePublishingStrategy") or {}
        kind = strategy.get("type", "")
        if kind == "Route" and not has_routes:
            return f'cluster does not support Routes, but service "{name}" is exposed via a Route'
        host = dig(strategy, "route", "hostname") or dig(strategy, "loadBalancer", "hostname")
        if host:
            if host in hostnames:
                other = hostnames[host]
                return f"service type {name} can't be published with the same hostname {host} as service type {other}"
            hostnames[host] = name
        if kind != "NodePort":
            continue
        port = dig(strategy, "nodePort", "port", default=0)
        if name == "APIServer" and port and not 30000 <= port <= 32767:
            return "port must be within the configured range 30000-32767 or 0 for dynamic assignment"
        address = _address(dig(strategy, "nodePort", "address", default=""))
        if address is not None and any(address in network for network in ranges):
            return "Nodeport IP is within the service network range: ip is within cidr"
    return ""


def _networks_problem(cluster: Object) -> str:
    named = [(kind, network) for kind in _NETWORKS for network in _networks(cluster, kind)]
    for (kind, network), (other_kind, other) in combinations(named, 2):
        if network.version == other.version and network.overlaps(other):
            return f"{kind} {network} overlaps with {other_kind} {other}"
    primary = {networks[0].version for kind in _NETWORKS if (networks := _networks(cluster, kind))}
    if len(primary) > 1:
        return "declare multiple network stacks as primary network (clusterNetwork, serviceNetwork), not allowed"
    advertised = _address(dig(cluster, "spec", "networking", "apiServer", "advertiseAddress", default=""))
    for kind, network in named:
        if advertised is not None and advertised in network:
            return f"advertiseAddress {advertised} overlaps with {kind} {network}"
    return ""


def _networks(cluster: Object, kind: str) -> list[_Network]:
    entries = dig(cluster, "spec", "networking", kind, default=())
    return [ipaddress.ip_network(entry["cidr"], strict=False) for entry in entries]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def release_problem(cluster: Object, settings: HyperShiftSettings) -> Program[tuple[str, str]]:
    """Reason and message of ValidReleaseImage=False, ("", "") where the release can be used."""
    image = str(dig(cluster, "spec", "release", "image", default=""))
    pull_secret = str(dig(cluster, "spec", "pullSecret", "name", default=""))
    secret = yield from find(SECRET, namespace_of(cluster), pull_secret)
    if secret is None:
        return "SecretNotFound", f'failed to get pull secret: secrets "{pull_secret}" not found'
    if ".dockerconfigjson" not in (secret.get("data") or {}):
        return "SecretNotFound", f"expected .dockerconfigjson key in pull secret {pull_secret}"
    if annotations_of(cluster).get(_SKIP) == "true":
        return "", ""
    version = settings.version_of(image)
    if version is None:
        return "InvalidImage", f"failed to lookup release image: failed to get repo setup: unknown release {image}"
    if minor_of(version) > settings.newest_minor:
        newest = f"4.{settings.newest_minor}.0"
        return "InvalidImage", f"the latest version supported is: {newest}. Attempting to use: {version}"
    if minor_of(version) < settings.oldest_minor:
        oldest = f"4.{settings.oldest_minor}.0"
        text = f"the minimum version supported for platform Agent is: {oldest}. Attempting to use: {version}"
        return "InvalidImage", text
    return "", ""
