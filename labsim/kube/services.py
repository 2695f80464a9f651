"""Services: the addresses and ports that the server hands out, their defaults and checks."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from labsim.entropy import Entropy
from labsim.kube.errors import cause
from labsim.model.objects import Object, dig

CLUSTER_NETWORK = ipaddress.ip_network("172.30.0.0/16")
RESERVED_ADDRESSES = 256  # at the range's start: 172.30.0.1 is the API server's own Service, .10 the DNS'
NODE_PORTS = (30000, 32767)
Cause = dict[str, str]


class ServiceNetwork:
    """Hands out cluster IPs and node ports. They are derived from the Service's name, and stay its own."""

    def __init__(self, entropy: Entropy, port_is_free: Callable[[int], bool]) -> None:
        self._entropy = entropy
        self._port_is_free = port_is_free
        self._ports: dict[int, str] = {}
        self._addresses: dict[str, str] = {}

    def complete(self, service: Object, old: Object | None) -> None:
        """Default a Service and give it what it has not got yet; nothing is taken for good before `keep`."""
        spec = service.setdefault("spec", {})
        owner = _owner(service)
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        if old is not None and not spec.get("clusterIP") and dig(old, "spec", "clusterIP"):
            for field in ("clusterIP", "clusterIPs"):
                if field in old["spec"]:
                    spec[field] = old["spec"][field]
        for port in spec.get("ports") or ():
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port.get("port", 0))
        if spec["type"] != "ExternalName":
            self._address(spec, owner)
            self._node_ports(spec, owner, old)
        if spec["type"] in ("NodePort", "LoadBalancer"):
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        service.setdefault("status", {"loadBalancer": {}})

    def problems(self, service: Object, old: Object | None) -> list[Cause]:
        spec = service["spec"]
        found = _port_problems(spec)
        owner = _owner(service)
        for index, port in enumerate(spec.get("ports") or ()):
            number = port.get("nodePort")
            here = f"spec.ports[{index}].nodePort"
            if number and self._ports.get(number, owner) != owner:
                text = f"Invalid value: {number}: provided port is already allocated"
                found.append(cause("FieldValueInvalid", text, here))
            elif number and not NODE_PORTS[0] <= number <= NODE_PORTS[1]:
                text = f"Invalid value: {number}: provided port is not in the valid range. The range of valid ports is "
                found.append(cause("FieldValueInvalid", f"{text}{NODE_PORTS[0]}-{NODE_PORTS[1]}", here))
        address = spec.get("clusterIP")
        before = dig(old, "spec", "clusterIP", default="")
        if before and address != before and spec["type"] != "ExternalName":
            shown = f'Invalid value: ["{address}"]: '
            found.append(cause("FieldValueInvalid", f"{shown}may not change once set", "spec.clusterIPs[0]"))
        elif address and address != "None" and self._addresses.get(address, owner) != owner:
            text = f'Invalid value: "{address}": failed to allocate IP {address}: provided IP is already allocated'
            found.append(cause("FieldValueInvalid", text, "spec.clusterIPs"))
        return found

    def keep(self, service: Object, old: Object | None) -> None:
        """The Service is stored: what it was given is its own now, what it had before is free."""
        if old is not None:
            self.forget(old)
        owner, spec = _owner(service), service["spec"]
        if spec.get("clusterIP") not in (None, "", "None"):
            self._addresses[spec["clusterIP"]] = owner
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                self._ports[port["nodePort"]] = owner

    def restore(self, service: Object) -> None:
        """A Service that was stored by a server before this one: what it has is its own."""
        self.keep(service, None)
        for port in service["spec"].get("ports") or ():
            if port.get("nodePort"):
                self._port_is_free(port["nodePort"])

    def forget(self, service: Object) -> None:
        """The Service in this state is gone: what it held is free."""
        self._addresses.pop(dig(service, "spec", "clusterIP", default=""), None)
        for port in dig(service, "spec", "ports", default=()):
            self._ports.pop(port.get("nodePort", 0), None)

    def _address(self, spec: Object, owner: str) -> None:
        if not spec.get("clusterIP"):
            attempt = 0
            while True:
                last = CLUSTER_NETWORK.num_addresses - 2
                number = self._entropy.integer(f"cluster-ip/{owner}/{attempt}", RESERVED_ADDRESSES, last)
                address = str(CLUSTER_NETWORK[number])
                if self._addresses.get(address, owner) == owner:
                    break
                attempt += 1
            spec["clusterIP"] = address
        spec["clusterIPs"] = [spec["clusterIP"]]
        if spec["clusterIP"] != "None" or spec.get("selector"):
            spec.setdefault("ipFamilies", ["IPv4"])
            spec.setdefault("ipFamilyPolicy", "SingleStack")
        spec.setdefault("internalTrafficPolicy", "Cluster")

    def _node_ports(self, spec: Object, owner: str, old: Object | None) -> None:
        ports = spec.get("ports") or ()
        if spec["type"] not in ("NodePort", "LoadBalancer"):
            before = {port.get("nodePort") for port in dig(old, "spec", "ports", default=())}
            for port in ports:  # a Service that is no NodePort any more gives its ports back
                if port.get("nodePort") in before:
                    port.pop("nodePort", None)
            return
        known = {
            (port.get("port"), port.get("protocol")): port.get("nodePort")
            for port in dig(old, "spec", "ports", default=())
        }
        taken = {port["nodePort"] for port in ports if port.get("nodePort")}
        for index, port in enumerate(ports):
            if not port.get("nodePort"):
                earlier = known.get((port.get("port"), port.get("protocol")))
                port["nodePort"] = earlier or self._free_port(f"{owner}/{index}", owner, taken)
                taken.add(port["nodePort"])

    def _free_port(self, purpose: str, owner: str, taken: set[int]) -> int:
        attempt = 0
        while True:
            port = self._entropy.integer(f"node-port/{purpose}/{attempt}", *NODE_PORTS)
            if port not in taken and self._ports.get(port, owner) == owner and self._port_is_free(port):
                return port
            attempt += 1


def _owner(service: Object) -> str:
    metadata = service["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _port_problems(spec: Object) -> list[Cause]:
    ports = spec.get("ports") or []
    found = []
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        found.append(cause("FieldValueRequired", "Required value", "spec.ports"))
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            found.append(cause("FieldValueRequired", "Required value", f"{here}.name"))
        for field in ("port", "targetPort"):
            number = port.get(field, 0)
            if isinstance(number, int) and not 1 <= number <= 65535:
                text = f"Invalid value: {number}: must be between 1 and 65535, inclusive"
                found.append(cause("FieldValueInvalid", text, f"{here}.{field}"))
    return found
