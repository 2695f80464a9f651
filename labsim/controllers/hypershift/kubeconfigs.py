"""Kubeconfig texts and Secrets. JSON is YAML too, and the guest reads JSON with the standard library."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping

import orjson

from labsim.kube.certificates import Identity
from labsim.model.kinds import SECRET
from labsim.model.objects import Object, dig, new


def encoded(text: str | bytes) -> str:
    """Base64, as Secret data is written."""
    raw = text.encode() if isinstance(text, str) else text
    return base64.b64encode(raw).decode()


def secret_text(secret: Object | None, key: str) -> str:
    """A value of a Secret, decoded; "" where there is none."""
    value = dig(secret, "data", key, default="")
    return _decoded(value) if value else ""


@functools.lru_cache(maxsize=256)
def _decoded(encoded_text: str) -> str:
    """The text of a Secret's value. The few that all nodes of a cluster share are read again and again."""
    return base64.b64decode(encoded_text).decode()


def secret(namespace: str, name: str, values: Mapping[str, str], *, kind: str = "Opaque", **metadata: object) -> Object:
    """A Secret with these values in plain text; `metadata` adds labels, annotations, owner references."""
    obj = new(SECRET, namespace, name, type=kind, data={key: encoded(text) for key, text in values.items()})
    obj["metadata"].update({key: value for key, value in metadata.items() if value})
    return obj


def identity_of(secret_object: Object) -> Identity:
    """The certificate and key of a TLS Secret."""
    return Identity(secret_text(secret_object, "tls.crt"), secret_text(secret_object, "tls.key"))


def url_host(host: str) -> str:
    """A host as it stands in a URL: IPv6 literals in brackets."""
    return f"[{host}]" if ":" in host else host


def endpoint_url(host: str, port: int) -> str:
    return f"https://{url_host(host)}:{port}"


def kubeconfig(server: str, ca_pem: str, *, user: str, identity: Identity | None = None, token: str = "") -> str:
    """A kubeconfig with one cluster, one user (client certificate or bearer token) and one context."""
    credentials: Object = {}
    if identity is not None:
        credentials = {
            "client-certificate-data": encoded(identity.cert_pem),
            "client-key-data": encoded(identity.key_pem),
        }
    if token:
        credentials["token"] = token
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority-data": encoded(ca_pem)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": user, "context": {"cluster": "cluster", "user": user, "namespace": "default"}}],
        "current-context": user,
        "preferences": {},
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
