"""An API server with its HTTP surface on a standing clock, for the tests of this folder."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import orjson

from labsim.entropy import Entropy
from labsim.kube.authentication import authenticator
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import ADMIN, User
from labsim.kube.watch import WatchStream
from labsim.model.http import Request, Response

NOW_S = 1_767_225_600.0
ADMIN_TOKEN, ALICE_TOKEN = "admin-token", "alice-token"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
WIDGET_GROUP = "conf.test"


class StandingClock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def now(self) -> float:
        return self.now_s


def widget_definition(**version: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{WIDGET_GROUP}"},
        "spec": {
            "group": WIDGET_GROUP,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {"size": {"type": "integer"}, "color": {"type": "string"}},
                                },
                                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            },
                        }
                    },
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                    },
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                    **version,
                }
            ],
        },
    }


class Api:
    """Asks a KubeHttp as a client would, and reads its answers."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.server = ApiServer(name="test", clock=self.clock, entropy=Entropy(1), crds=[widget_definition()])
        self.client_ca = ""
        tokens = {ADMIN_TOKEN: ADMIN, ALICE_TOKEN: User("alice", "alice-uid", ("developers",))}
        self.http = KubeHttp(self.server, authenticate=authenticator(tokens, lambda: self.client_ca))

    def ask(self, method: str, url: str, body: Any = None, *, token: str = ADMIN_TOKEN, **headers: str) -> Response:
        path, _, query = url.partition("?")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["authorization"] = f"Bearer {token}"
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        pairs = tuple(parse_qsl(query, keep_blank_values=True))
        return self.http.handle(Request(method=method, path=path, query=pairs, headers=sent, body=raw))

    def document(self, method: str, url: str, body: Any = None, *, code: int = 200, **more: Any) -> Any:
        response = self.ask(method, url, body, **more)
        assert response.status == code, (response.status, response.body)
        return response.json()

    def config_map(self, name: str, **labels: str) -> Any:
        metadata = {"name": name, "labels": labels}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "1"}}
        return self.document("POST", "/api/v1/namespaces/default/configmaps", body, code=201)

    def watch(self, url: str, **headers: str) -> WatchStream:
        response = self.ask("GET", url, **headers)
        assert response.status == 200, response.body
        assert isinstance(response.stream, WatchStream)
        return response.stream


def events(stream: WatchStream) -> list[tuple[str, Any]]:
    """The events that a watch has ready now."""
    data = stream.read()
    lines = [] if data is None else [orjson.loads(line) for line in data.splitlines()]
    return [(line["type"], line["object"]) for line in lines]


def names(stream: WatchStream) -> list[tuple[str, str]]:
    return [(event, obj["metadata"]["name"]) for event, obj in events(stream)]
