"""Where the discovery image of an InfraEnv on any hub is, and what vouches for the server that has it."""

from __future__ import annotations

import contextlib

from labsim.controllers.runtime.effects import Unreachable
from labsim.errors import NothingSelected
from labsim.hub.plain.connection import ClusterConnection
from labsim.kube.errors import ApiError
from labsim.model.kinds import CONFIG_MAP, INFRA_ENV
from labsim.model.objects import dig

# Routes of OpenShift have certificates of its ingress, whose authority is published here (and by the installer in the
# administrator's kubeconfig).
INGRESS_NAMESPACE, INGRESS_CONFIG_MAP, INGRESS_KEY = "openshift-config-managed", "default-ingress-cert", "ca-bundle.crt"


def image_url(connection: ClusterConnection, namespace: str, name: str) -> str:
    """`status.isoDownloadURL` of an InfraEnv. Raises NothingSelected where there is none; ApiError, Unreachable."""
    try:
        found = connection.call("GET", INFRA_ENV.path(namespace, name))
    except ApiError as error:
        if error.code != 404:
            raise
        raise NothingSelected(f"there is no InfraEnv {namespace}/{name}", hint="kubectl get infraenvs -A") from error
    url = str(dig(found, "status", "isoDownloadURL", default=""))
    if not url:
        told = [str(entry.get("message", "")) for entry in dig(found, "status", "conditions", default=[])]
        hint = "; ".join(text for text in told if text) or "nothing has looked at it yet: is CIM there?"
        raise NothingSelected(f"InfraEnv {namespace}/{name} has no discovery ISO", hint=hint)
    return url


def image_authorities(connection: ClusterConnection) -> str:
    """The authorities of the kubeconfig, and of the hub's ingress where it tells them (PEM)."""
    authorities = connection.ca_pem
    with contextlib.suppress(ApiError, Unreachable):
        found = connection.call("GET", CONFIG_MAP.path(INGRESS_NAMESPACE, INGRESS_CONFIG_MAP))
        authorities += "\n" + str(dig(found, "data", INGRESS_KEY, default=""))
    return authorities
