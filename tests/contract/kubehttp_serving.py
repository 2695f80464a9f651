"""The API servers that the contract tests run against: the embedded hub on a loopback port, and a real kube-apiserver.

The embedded one runs on one thread, as a world's does. The real one gets our definitions and the rights of the reader.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from real_api_server import RealApiServer, real_api_server

from labsim.edge_time import real_s
from labsim.entropy import Entropy
from labsim.hub.embedded.edge import HttpsEdge
from labsim.hub.embedded.identity import HubAuthority, new_token
from labsim.hub.embedded.kubeconfig import write_kubeconfig
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.hub.plain.definitions import install
from labsim.kube.authentication import authenticator
from labsim.kube.crds import hub_crds, plain_hub_crds
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import ADMIN, READER
from labsim.model.kinds import CLUSTER_ROLE_BINDING


class RealClock:
    def now(self) -> float:
        return real_s()


class Hub:
    """The server, how to reach it, and a way to call it on its own thread."""

    def __init__(self, folder: Path) -> None:
        self.server = ApiServer(name="hub", clock=RealClock(), entropy=Entropy("contract"), crds=hub_crds())
        self.tokens = {new_token(): ADMIN, new_token(): READER}
        self.admin_token, self.reader_token = self.tokens
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        authority = HubAuthority()
        http = KubeHttp(self.server, authenticate=authenticator(self.tokens))
        self.edge = HttpsEdge(submit=self.submit)
        self.port = self.edge.listen("127.0.0.1", 0, http.handle, tls=authority.serving(["localhost", "127.0.0.1"]))
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = folder / "kubeconfig"
        self.reader_kubeconfig = folder / "reader-kubeconfig"
        write_kubeconfig(self.kubeconfig, self.url, ca_pem=authority.ca_pem, token=self.admin_token)
        write_kubeconfig(
            self.reader_kubeconfig, self.url, ca_pem=authority.ca_pem, token=self.reader_token, user="reader"
        )

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def call(self, call: Callable[[], Any]) -> Any:
        return self.submit(call).result(10)

    def close(self) -> None:
        self.edge.close()
        self._calls.put(None)
        self._thread.join(10)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)


SERVERS = ("embedded", "kube-apiserver")


class Served(Protocol):
    """How to reach an API server under test."""

    @property
    def url(self) -> str: ...
    @property
    def kubeconfig(self) -> Path: ...
    @property
    def reader_kubeconfig(self) -> Path: ...


@contextlib.contextmanager
def serving(folder: Path, server: str = "embedded") -> Iterator[Served]:
    """One of SERVERS; a real one is skipped, with the reason, where its binaries are not given."""
    if server == "kube-apiserver":
        with real_api_server(folder) as real:
            _prepare(real)
            yield real
        return
    hub = Hub(folder)
    try:
        yield hub
    finally:
        hub.close()


def _prepare(real: RealApiServer) -> None:
    """Our definitions, and the reader's rights, as the embedded hub has them from the start."""
    connection = ClusterConnection(ClusterAccess(kubeconfig=real.kubeconfig))
    try:
        install(connection, plain_hub_crds(), "contract")
        binding = {
            "metadata": {"name": "reader"},
            "roleRef": {
                "apiGroup": CLUSTER_ROLE_BINDING.group,
                "kind": "ClusterRole",
                "name": "system:aggregate-to-view",
            },
            "subjects": [{"kind": "User", "name": "reader", "apiGroup": CLUSTER_ROLE_BINDING.group}],
        }
        connection.call("POST", CLUSTER_ROLE_BINDING.path(), body=binding)
    finally:
        connection.close()


WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.contract.test"},
    "spec": {
        "group": "contract.test",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "shortNames": ["wd"]},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "description": "A widget.",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "description": "What is wanted.",
                                "properties": {
                                    "size": {"type": "integer", "minimum": 0},
                                    "color": {"type": "string", "default": "red"},
                                    "replicas": {"type": "integer"},
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "replicas": {"type": "integer"},
                                    "conditions": {
                                        "type": "array",
                                        "items": {
                                            "type": "object",
                                            "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
                                        },
                                    },
                                },
                            },
                        },
                    }
                },
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
            }
        ],
    },
}
