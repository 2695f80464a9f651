"""The Services of a control plane and the addresses that they are published at (fact sheet, section 7)."""

from __future__ import annotations

import dataclasses

from labsim.controllers.hypershift.desired import ensure_exists
from labsim.controllers.hypershift.names import CLUSTER_ANNOTATION, COMPONENT_LABEL
from labsim.controllers.runtime.effects import Program
from labsim.model.kinds import SERVICE
from labsim.model.objects import Object, annotations_of, dig, namespace_of, new, owner_reference


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something is reached from outside."""

    host: str
    port: int


# name of the Service: (name of the published service, port, target port)
PUBLISHED = {
    "kube-apiserver": ("APIServer", 6443, 6443),
    "konnectivity-server": ("Konnectivity", 8091, 8091),
    "oauth-openshift": ("OAuthServer", 6443, 6443),
    "ignition-server-proxy": ("Ignition", 443, 8443),
}
# name of the Service: name of its Route, where it has one
ROUTES = {
    "kube-apiserver": "kube-apiserver",
    "konnectivity-server": "konnectivity-server",
    "oauth-openshift": "oauth",
    "ignition-server-proxy": "ignition-server",
}
_INTERNAL = {"ignition-server": (443, 9090), "etcd-client": (2379, 2379), "openshift-apiserver": (443, 8443)}


def strategy_of(cluster: Object, service: str) -> Object:
    """The publishing strategy of a service in a HostedCluster's or HostedControlPlane's spec."""
    for entry in dig(cluster, "spec", "services", default=()):
        if entry.get("service") == service:
            strategy: Object = entry.get("servicePublishingStrategy") or {}
            return strategy
    return {}


def ensure_services(hcp: Object, routes_domain: str) -> Program[dict[str, Endpoint]]:
    """Every Service; answers the outside endpoints that have their address already, by name of the Service."""
    endpoints: dict[str, Endpoint] = {}
    for name, (service, port, target) in PUBLISHED.items():
        strategy = strategy_of(hcp, service)
        kind = strategy.get("type", "NodePort")
        entry: Object = {"name": "https", "port": port, "targetPort": target, "protocol": "TCP"}
        wanted_port = dig(strategy, "nodePort", "port", default=0)
        if kind == "NodePort" and wanted_port > 0:
            entry["nodePort"] = wanted_port
        made = yield from ensure_exists(_service(hcp, name, entry, "ClusterIP" if kind == "Route" else kind), SERVICE)
        endpoint = endpoint_of(made, strategy, routes_domain)
        if endpoint is not None:
            endpoints[name] = endpoint
    for name, (port, target) in _INTERNAL.items():
        inner: Object = {"name": "https", "port": port, "targetPort": target, "protocol": "TCP"}
        yield from ensure_exists(_service(hcp, name, inner, "ClusterIP"), SERVICE)
    return endpoints


def _service(hcp: Object, name: str, port: Object, kind: str) -> Object:
    made = new(
        SERVICE, namespace_of(hcp), name, spec={"type": kind, "ports": [port], "selector": {COMPONENT_LABEL: name}}
    )
    made["metadata"].update(
        labels={COMPONENT_LABEL: name},
        annotations={CLUSTER_ANNOTATION: annotations_of(hcp).get(CLUSTER_ANNOTATION, "")},
        ownerReferences=[owner_reference(hcp)],
    )
    return made


def endpoint_of(service: Object, strategy: Object, routes_domain: str) -> Endpoint | None:
    """Where a Service is reached from outside; None while it has no address."""
    kind = strategy.get("type", "NodePort")
    if kind == "NodePort":
        address, node_port = (
            dig(strategy, "nodePort", "address"),
            dig(service, "spec", "ports", default=[{}])[0].get("nodePort"),
        )
        return Endpoint(address, int(node_port)) if address and node_port else None
    if kind == "Route":
        host = dig(strategy, "route", "hostname")
        if not host and routes_domain:
            host = f"{ROUTES[service['metadata']['name']]}-{namespace_of(service)}.{routes_domain}"
        return Endpoint(host, 443) if host else None
    ingress = dig(service, "status", "loadBalancer", "ingress", default=())
    for entry in ingress:
        host = dig(strategy, "loadBalancer", "hostname") or entry.get("hostname") or entry.get("ip")
        if host:
            return Endpoint(host, int(service["spec"]["ports"][0]["port"]))
    return None
