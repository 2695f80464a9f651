"""The API server of a hosted cluster, as its clients reach it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import yaml

from labsim.controllers.hypershift.observed import HostedAuthentication
from labsim.kube.authentication import client_certificate_user
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import User
from labsim.model.http import Request, Response

HostedAuthenticationOf = Callable[[str], HostedAuthentication | None]


class HostedApi:
    """A hosted cluster's API server and its HTTP surface. `authentication` tells whom it knows, at each request."""

    def __init__(
        self, owner: str, server: ApiServer, authentication: Callable[[], HostedAuthentication | None]
    ) -> None:
        self.owner = owner
        self.server = server
        self._authentication = authentication
        self._http = KubeHttp(server, authenticate=self._authenticate)

    def handle(self, request: Request) -> Response:
        return self._http.handle(request)

    def _authenticate(self, request: Request) -> User | None:
        known = self._authentication()
        if known is None:
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            bearer = known.tokens.get(token)
            return None if bearer is None else User(bearer.name, bearer.uid, bearer.groups)
        return client_certificate_user(request, known.client_ca_pem)


@functools.lru_cache(maxsize=256)
def kubeconfig_server(text: str) -> str:
    """The server URL of a kubeconfig's current context; ValueError where there is none."""
    document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    clusters = {entry["name"]: entry["cluster"] for entry in document.get("clusters", [])}
    contexts = {entry["name"]: entry["context"] for entry in document.get("contexts", [])}
    context = contexts.get(document.get("current-context", ""))
    cluster = clusters.get(context["cluster"]) if context else next(iter(clusters.values()), None)
    if not cluster or not cluster.get("server"):
        raise ValueError("the kubeconfig names no server")
    return str(cluster["server"])
