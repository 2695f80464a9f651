"""The ignition server: payloads by token, and the HTTP service that hands them to nodes (fact sheet, section 4.3)."""

from __future__ import annotations

import base64
import binascii
import gzip
import re

import orjson

from labsim.controllers.hypershift.kubeconfigs import encoded, secret_text
from labsim.controllers.hypershift.names import (
    IGNITION_CONFIG,
    IGNITION_REACHED,
    TOKEN_EXPIRES,
    TOKEN_GENERATED,
)
from labsim.controllers.hypershift.observed import Observed, TokenEntry
from labsim.controllers.hypershift.settings import HyperShiftSettings, kubernetes_version
from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, get, list_all, now, patch
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.http import Request, Response
from labsim.model.kinds import HOSTED_CONTROL_PLANE, SECRET
from labsim.model.objects import Object, annotations_of, dig, name_of, namespace_of, parse_timestamp

_PATH = re.compile(r"^/ignition[^/ ]*$")
_RETRY_S = 5.0


def payload(hcp: Object, bootstrap: str, ssh_key: str, ca_pem: str, kubelet_version: str) -> bytes:
    """What a node gets: Ignition 3.2.0 with the bootstrap kubeconfig, the kubelet and the API server's proxy.

    Our nodes have no operating system of a release: a file tells them which kubelet they would have.

    CIM reads the server of /etc/kubernetes/kubeconfig: an IP literal needs no DNS records.
    """
    users: list[Object] = [{"name": "core"}]
    if ssh_key:
        users[0]["sshAuthorizedKeys"] = [ssh_key.strip()]
    document = {
        "ignition": {"version": "3.2.0"},
        "passwd": {"users": users},
        "storage": {
            "files": [
                _file("/etc/kubernetes/kubeconfig", bootstrap, 0o600),
                _file("/etc/kubernetes/ca.crt", ca_pem, 0o644),
                _file("/etc/kubernetes/manifests/kube-apiserver-proxy.yaml", _proxy(hcp), 0o644),
                _file("/etc/labsim/kubelet-version", f"{kubelet_version}\n", 0o644),
            ]
        },
        "systemd": {"units": [{"name": "kubelet.service", "enabled": True, "contents": _KUBELET}]},
    }
    return orjson.dumps(document)


_KUBELET = """[Unit]
Description=Kubernetes Kubelet
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet --config=/etc/kubernetes/kubelet.conf --bootstrap-kubeconfig=/etc/kubernetes/kubeconfig \\
  --kubeconfig=/var/lib/kubelet/kubeconfig --node-labels=node-role.kubernetes.io/worker,node.openshift.io/os_id=rhcos
Restart=always

[Install]
WantedBy=multi-user.target
"""


def _file(path: str, text: str, mode: int) -> Object:
    return {"path": path, "overwrite": True, "mode": mode, "contents": {"source": f"data:;base64,{encoded(text)}"}}


def _proxy(hcp: Object) -> str:
    """The static pod that leads 172.20.0.1:6443 on the node to the control plane (JSON is YAML too)."""
    advertised = dig(hcp, "spec", "networking", "apiServer", "advertiseAddress", default="172.20.0.1")
    port = dig(hcp, "spec", "networking", "apiServer", "port", default=6443)
    endpoint: Object = dig(hcp, "status", "controlPlaneEndpoint", default={})
    target = f"{endpoint.get('host', '')}:{endpoint.get('port', '')}"
    container = {
        "name": "haproxy",
        "command": ["haproxy", "-f", "/usr/local/etc/haproxy"],
        "ports": [{"containerPort": port, "hostPort": port, "protocol": "TCP"}],
        "env": [{"name": "ADVERTISE_ADDRESS", "value": advertised}, {"name": "BACKEND", "value": target}],
    }
    pod = new_static_pod("kube-apiserver-proxy", container)
    return orjson.dumps(pod, option=orjson.OPT_INDENT_2).decode()


def new_static_pod(name: str, container: Object) -> Object:
    metadata = {"name": name, "namespace": "kube-system", "labels": {"k8s-app": name}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"hostNetwork": True, "priorityClassName": "system-node-critical", "containers": [container]},
    }


class IgnitionServer:
    """Keeps payloads by token, as upstream's cache does, and answers nodes from it."""

    def __init__(self, settings: HyperShiftSettings, entropy: Entropy, observed: Observed) -> None:
        self._settings = settings
        self._entropy = entropy
        self._observed = observed

    def controller(self) -> Controller:
        return Controller(
            name="token-secrets",
            reconcile=self.reconcile,
            watches=(Watch(SECRET, _token_keys),),
        )

    def reconcile(self, key: Key) -> Program[Result]:
        """Keep the cache of one token Secret up to date."""
        secret = yield from get(SECRET, key.namespace, key.name)
        mark = str(key)
        known = self._observed.tokens_of.get(mark, set())
        if secret is None:
            self._drop(mark)
            return DONE
        moment_s = yield from now()
        lifetimes = self._lifetimes(secret)
        live = {token: until_s for token, until_s in lifetimes.items() if until_s > moment_s}
        for token in known - set(live):
            self._observed.tokens.pop(token, None)
        self._observed.tokens_of[mark] = set(live)
        missing = [token for token in live if token not in self._observed.tokens]
        if missing:
            body = yield from self._payload(key.namespace, secret_text(secret, "release"))
            if body is None:
                self._observed.tokens_of[mark] = set(live) - set(missing)
                return Result(_RETRY_S)
            reached = annotations_of(secret).get(IGNITION_REACHED) == "True"
            for token in missing:
                self._observed.tokens[token] = TokenEntry(key.namespace, key.name, body, live[token], reached)
            yield from self._report(secret, body)
        ends_s = min(live.values(), default=None)
        return Result(None if ends_s is None else max(0.001, ends_s - moment_s))

    def handle(self, request: Request) -> Program[Response]:
        """GET /ignition with a bearer token: 404, 401, 511 or the payload."""
        if not _PATH.match(request.path):
            return _text(404, "404 page not found\n")
        token = _bearer(request.headers.get("authorization", ""))
        if not token:
            return _text(401, "")
        entry = self._observed.tokens.get(token)
        moment_s = yield from now()
        if entry is None or entry.expires_s <= moment_s or not self._serves(request.host, entry.namespace):
            return _text(511, "Token not found")
        if not entry.reached:
            yield from self._mark_reached(token, entry)
        return Response(status=200, headers={"content-type": "application/json"}, body=entry.payload)

    def _serves(self, host: str, namespace: str) -> bool:
        """Whether an address belongs to the control plane in a namespace; an unknown one decides nothing."""
        owners = [
            owner
            for owner, service, name, port in self._observed.published
            if service == "ignition-server" and host in (f"{name}:{port}", f"[{name}]:{port}")
        ]
        return not owners or any(owner.partition("/")[0] == namespace for owner in owners)

    def _mark_reached(self, token: str, entry: TokenEntry) -> Program[None]:
        body = {"metadata": {"annotations": {IGNITION_REACHED: "True"}}}
        try:
            yield from patch(SECRET, entry.namespace, entry.secret, body)
        except ApiError as error:
            if error.code != 404:
                raise
            return
        self._observed.tokens[token] = TokenEntry(
            entry.namespace, entry.secret, entry.payload, entry.expires_s, reached=True
        )

    def _lifetimes(self, secret: Object) -> dict[str, float]:
        """The tokens of a Secret and when each ends."""
        marks = annotations_of(secret)
        made_s = parse_timestamp(marks[TOKEN_GENERATED])
        ends_s = {secret_text(secret, "token"): made_s + self._settings.token_ttl_s}
        old = secret_text(secret, "old_token")
        if old:
            ends_s[old] = made_s - self._settings.token_rotation_s + self._settings.token_ttl_s
        if TOKEN_EXPIRES in marks:
            limit_s = parse_timestamp(marks[TOKEN_EXPIRES])
            ends_s = {token: min(until_s, limit_s) for token, until_s in ends_s.items()}
        return ends_s

    def _payload(self, namespace: str, release: str) -> Program[bytes | None]:
        bootstrap = yield from get(SECRET, namespace, "bootstrap-kubeconfig", live=True)
        planes = yield from list_all(HOSTED_CONTROL_PLANE, namespace, live=True)
        if bootstrap is None or not planes:
            return None
        ssh = yield from get(SECRET, namespace, "ssh-key", live=True)
        root = yield from get(SECRET, namespace, "root-ca", live=True)
        return payload(
            planes[0],
            secret_text(bootstrap, "kubeconfig"),
            secret_text(ssh, "id_rsa.pub"),
            secret_text(root, "tls.crt"),
            kubernetes_version(self._settings.version_of(release) or self._settings.default_version),
        )

    def _report(self, secret: Object, body: bytes) -> Program[None]:
        """Say in the Secret that the payload exists; InPlace pools also keep it there."""
        data = {"reason": encoded("AsExpected"), "message": encoded("Payload generated successfully")}
        if annotations_of(secret).get("hypershift.openshift.io/node-pool-upgrade-type") == "InPlace":
            data["payload"] = encoded(base64.b64encode(gzip.compress(body, mtime=0)))
        if all(dig(secret, "data", key) == value for key, value in data.items()):
            return
        yield from patch(SECRET, namespace_of(secret), name_of(secret), {"data": data})

    def _drop(self, mark: str) -> None:
        for token in self._observed.tokens_of.pop(mark, set()):
            self._observed.tokens.pop(token, None)


def _token_keys(secret: Object) -> tuple[Key, ...]:
    if IGNITION_CONFIG in annotations_of(secret):
        return (Key(namespace_of(secret), name_of(secret)),)
    return ()


def _bearer(header: str) -> str:
    """The token of an Authorization header, which carries it in base64; "" where it is missing or no base64."""
    kind, _, value = header.partition(" ")
    if kind != "Bearer" or not value:
        return ""
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _text(status: int, body: str) -> Response:
    return Response(status=status, headers={"content-type": "text/plain; charset=utf-8"}, body=body.encode())
