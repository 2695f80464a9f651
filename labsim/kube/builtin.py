"""What the server fills in and checks for built-in kinds, as far as the flow of the Agent platform meets it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from labsim.entropy import Entropy
from labsim.kube.errors import invalid
from labsim.kube.users import User
from labsim.model.kinds import SECRET
from labsim.model.objects import Object, dig

NODE_PORTS = (30000, 32767)


class ServiceNetwork:
    """Hands out cluster IPs and node ports; both are derived from the Service's name, and stay its own."""

    def __init__(self, entropy: Entropy, port_is_free: Callable[[int], bool]) -> None:
        self._entropy = entropy
        self._port_is_free = port_is_free
        self._ports: dict[int, str] = {}

    def complete(self, service: Object) -> None:
        """Default a Service and give it what it has not got yet."""
        metadata, spec = service["metadata"], service.setdefault("spec", {})
        owner = f"{metadata.get('namespace', '')}/{metadata['name']}"
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        spec.setdefault("internalTrafficPolicy", "Cluster")
        if "clusterIP" not in spec and spec["type"] != "ExternalName":
            number = self._entropy.integer(f"cluster-ip/{owner}", 300, 65000)
            spec["clusterIP"] = f"172.30.{number // 256}.{number % 254 + 1}"
            spec["clusterIPs"] = [spec["clusterIP"]]
        service.setdefault("status", {"loadBalancer": {}})
        for index, port in enumerate(spec.get("ports") or ()):
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
            if spec["type"] in ("NodePort", "LoadBalancer") and not port.get("nodePort"):
                port["nodePort"] = self._free_port(f"{owner}/{index}")
            if port.get("nodePort"):
                self._ports[port["nodePort"]] = owner

    def forget(self, service: Object) -> None:
        for port in dig(service, "spec", "ports", default=()):
            self._ports.pop(port.get("nodePort", 0), None)

    def _free_port(self, purpose: str) -> int:
        attempt = 0
        while True:
            port = self._entropy.integer(f"node-port/{purpose}/{attempt}", *NODE_PORTS)
            if port not in self._ports and self._port_is_free(port):
                return port
            attempt += 1


def complete_secret(secret: Object) -> None:
    """Default the type, move stringData into data, and check that data is base64."""
    secret.setdefault("type", "Opaque")
    for key, value in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()
    for key, value in (secret.get("data") or {}).items():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            name = secret["metadata"].get("name", "")
            cause = {"reason": "FieldValueInvalid", "field": f"data[{key}]", "message": f"Invalid value: {error}"}
            raise invalid(SECRET, name, [cause]) from error


def complete_namespace(namespace: Object) -> None:
    metadata = namespace["metadata"]
    metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]
    namespace.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    namespace["status"] = {"phase": "Active"}


def complete_signing_request(request: Object, user: User) -> None:
    """Who asks is what authentication found, whatever the body says."""
    spec = request.setdefault("spec", {})
    spec["username"] = user.name
    spec["groups"] = list(user.groups)
    if user.uid:
        spec["uid"] = user.uid
    request["status"] = {}


def complete_crd(crd: Object, now: str) -> None:
    """Names, conversion and the conditions that say that it is served."""
    spec = crd["spec"]
    names = spec["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})

    def condition(kind: str, reason: str, message: str) -> Object:
        return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}

    crd["status"] = {
        "acceptedNames": dict(names),
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": [entry["name"] for entry in spec["versions"] if entry.get("storage")],
    }
