"""A kind in two versions over HTTP, where one of them cannot show every object."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from kubehttp_api import ADMIN_TOKEN, events

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.kube.authentication import authenticator
from labsim.kube.conversion import DefinitionOf
from labsim.kube.crds.builder import crd, integer, obj, string, version
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import ADMIN
from labsim.kube.watch import WatchStream
from labsim.model.http import Request, Response
from labsim.model.kinds import Kind
from labsim.model.objects import Object, new

THING = Kind("lab.test", "v1", "Thing", "things", False)
THINGS = "/apis/lab.test/{}/things"


def converted(thing: Object, api_version: str, _definition_of: DefinitionOf) -> Object:
    """v1 has a text where v2 has a number."""
    spec: Object = {}
    if "size" in thing["spec"]:
        size = thing["spec"]["size"]
        spec["size"] = int(size) if api_version.endswith("v2") else str(size)
    return {**thing, "apiVersion": api_version, "spec": spec}


class Api:
    def __init__(self) -> None:
        versions = [
            version("v1", spec=obj({"size": string()}), selectable_fields=[".spec.size"]),
            version("v2", spec=obj({"size": integer()}), selectable_fields=[".spec.size"], storage=False),
        ]
        definition = crd(THING, versions)
        webhook = {"clientConfig": {"url": "https://converts.example.com"}, "conversionReviewVersions": ["v1"]}
        definition["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
        self.server = ApiServer(
            name="test",
            clock=EventQueue(),
            entropy=Entropy(1),
            crds=[definition],
            conversions={THING.qualified: converted},
        )
        self._http = KubeHttp(self.server, authenticate=authenticator({ADMIN_TOKEN: ADMIN}))

    def ask(self, method: str, path: str, *query: tuple[str, str]) -> Response:
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        return self._http.handle(Request(method=method, path=path, query=query, headers=headers))

    def watch(self, path: str, *query: tuple[str, str]) -> WatchStream:
        response = self.ask("GET", path, ("watch", "true"), *query)
        assert isinstance(response.stream, WatchStream)
        return response.stream

    def make(self, name: str, size: str) -> Any:
        return self.server.create(new(THING, None, name, spec={"size": size}), THING)


@pytest.fixture
def api() -> Api:
    return Api()


def sizes(stream: WatchStream) -> list[tuple[str, Any]]:
    return [(event, shown["spec"]["size"]) for event, shown in events(stream)]


def test_watches_of_both_versions_hear_of_each_change_in_their_own(api: Api) -> None:
    older, newer = api.watch(THINGS.format("v1")), api.watch(THINGS.format("v2"))
    api.make("a", "7")
    assert sizes(older) == [("ADDED", "7")]
    assert sizes(newer) == [("ADDED", 7)]


def test_a_field_is_selected_as_the_version_of_the_request_has_it(api: Api) -> None:
    api.make("a", "7")
    listed = orjson.loads(api.ask("GET", THINGS.format("v2"), ("fieldSelector", "spec.size=7")).body)
    assert [item["spec"] for item in listed["items"]] == [{"size": 7}]
    stream = api.watch(THINGS.format("v2"), ("fieldSelector", "spec.size=8"))
    api.make("b", "08")
    assert sizes(stream) == [("ADDED", 8)]


def test_a_page_of_the_past_is_in_the_version_of_the_request(api: Api) -> None:
    api.make("a", "1")
    api.make("b", "2")
    first = orjson.loads(api.ask("GET", THINGS.format("v2"), ("limit", "1")).body)
    api.server.patch(THING, "", "b", {"spec": {"size": "3"}}, patch_type="application/merge-patch+json")
    token = first["metadata"]["continue"]
    second = orjson.loads(api.ask("GET", THINGS.format("v2"), ("limit", "1"), ("continue", token)).body)
    assert [item["spec"]["size"] for item in (*first["items"], *second["items"])] == [1, 2]
    assert {item["apiVersion"] for item in second["items"]} == {"lab.test/v2"}


def test_an_object_that_a_version_cannot_show_ends_its_watches_and_nobody_elses(api: Api) -> None:
    older, newer = api.watch(THINGS.format("v1")), api.watch(THINGS.format("v2"))
    api.make("a", "1")
    api.make("b", "many")
    api.make("c", "3")
    assert sizes(newer) == [("ADDED", 1)]
    assert newer.read() is None
    assert newer.how_ended == "an object cannot be shown in its version"
    assert sizes(older) == [("ADDED", "1"), ("ADDED", "many"), ("ADDED", "3")]
    assert older.read() == b""
    refused = api.ask("GET", THINGS.format("v2"))
    assert refused.status == 500
    problem = "invalid literal for int() with base 10: 'many'"
    assert orjson.loads(refused.body)["message"] == (
        f"conversion webhook for lab.test/v1, Kind=Thing failed: {problem}"
    )
