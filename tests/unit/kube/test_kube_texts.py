"""Answers made of texts that are kept say what answers made of objects say."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.kube.crds import hub_crds
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import ADMIN, User
from labsim.model.http import Request
from labsim.model.kinds import AGENT, CONFIG_MAP, Kind
from labsim.model.objects import Object


def hub() -> tuple[ApiServer, KubeHttp]:
    server = ApiServer(name="hub", clock=EventQueue(1_700_000_000.0), entropy=Entropy(1), crds=hub_crds())
    return server, KubeHttp(server, authenticate=lambda request: ADMIN)


def asked(http: KubeHttp, method: str, path: str, query: Object | None = None, body: Any = None) -> tuple[int, Object]:
    request = Request(
        method=method,
        path=path,
        query=tuple((query or {}).items()),
        headers={"content-type": "application/merge-patch+json" if method == "PATCH" else "application/json"},
        body=b"" if body is None else orjson.dumps(body),
    )
    answer = http.handle(request)
    return answer.status, orjson.loads(answer.body)


def filled(server: ApiServer) -> None:
    orders = (
        ("apiVersion", "kind", "metadata"),
        ("kind", "apiVersion", "metadata"),
        ("metadata", "kind", "apiVersion"),
    )
    for number, order in enumerate(orders):
        metadata = {"name": f"c{number}", "namespace": "default", "labels": {"odd": str(number % 2)}}
        said: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        server.create({key: said[key] for key in order}, CONFIG_MAP)
        spec = {"approved": False, "role": ""}
        server.create({"metadata": {"name": f"a{number}", "namespace": "default"}, "spec": spec}, AGENT)


@pytest.mark.parametrize(
    "query", [{}, {"labelSelector": "odd=1"}, {"fieldSelector": "metadata.name=c2"}, {"limit": "500"}], ids=str
)
def test_a_list_shows_every_object_as_it_is(query: Object) -> None:
    server, http = hub()
    filled(server)
    wanted, revision = server.list(
        CONFIG_MAP,
        "default",
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
    )
    assert wanted
    status, found = asked(http, "GET", CONFIG_MAP.path("default"), query)
    assert status == 200
    assert found == {
        "kind": "ConfigMapList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": str(revision)},
        "items": [{key: obj[key] for key in obj if key not in ("kind", "apiVersion")} for obj in wanted],
    }


def test_a_list_of_custom_resources_keeps_their_kind() -> None:
    server, http = hub()
    filled(server)
    _, found = asked(http, "GET", AGENT.path("default"))
    assert found["items"] == server.list(AGENT, "default")[0]
    assert found["metadata"] == {"continue": "", "resourceVersion": str(server.revision)}


@pytest.mark.parametrize("kind", [CONFIG_MAP, AGENT], ids=str)
def test_an_object_is_answered_as_it_is_stored(kind: Kind) -> None:
    server, http = hub()
    filled(server)
    name = "c1" if kind == CONFIG_MAP else "a1"
    path = kind.path("default", name)
    assert asked(http, "GET", path) == (200, server.get(kind, "default", name))
    status, patched = asked(http, "PATCH", path, body={"metadata": {"labels": {"x": "y"}}})
    assert (status, patched) == (200, server.get(kind, "default", name))
    assert patched["metadata"]["labels"]["x"] == "y"
    _, tried = asked(http, "PATCH", path, {"dryRun": "All"}, {"metadata": {"labels": {"x": "z"}}})
    assert tried["metadata"]["labels"]["x"] == "z"
    assert asked(http, "GET", path) == (200, patched)


def test_a_right_of_a_group_is_for_its_resources_only() -> None:
    _, http = hub()
    node = KubeHttp(http._server, authenticate=lambda request: User("system:node:n", "", ("system:nodes",)))
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    for _ in range(2):  # the second time from what is remembered
        assert asked(node, "GET", lease)[0] == 200
        assert asked(node, "GET", "/api/v1/namespaces/default/configmaps")[0] == 200
        assert asked(node, "DELETE", "/api/v1/namespaces/default/configmaps/x")[0] == 403
        assert asked(node, "GET", "/apis/apps/v1/deployments")[0] == 403
        assert asked(node, "PATCH", "/api/v1/nodes/n/status", body={})[0] == 404
        assert asked(node, "PATCH", "/api/v1/namespaces/default/pods/p", body={})[0] == 403
