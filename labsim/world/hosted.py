"""The API server of a hosted cluster, as its clients reach it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import yaml

from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import User
from labsim.model.http import Request, Response

Authenticate = Callable[[Request], User | None]


class HostedApi:
    """A hosted cluster's API server and its HTTP surface."""

    def __init__(self, owner: str, server: ApiServer, authenticate: Authenticate) -> None:
        self.owner = owner
        self.server = server
        self._http = KubeHttp(server, authenticate=authenticate)

    def handle(self, request: Request) -> Response:
        return self._http.handle(request)


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
