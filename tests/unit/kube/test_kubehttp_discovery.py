"""Discovery and OpenAPI: what clients find out before their first real request."""

from __future__ import annotations

import pytest
from kubehttp_api import Api, widget_definition

from labsim.kube.catalog import version_priority

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def api() -> Api:
    return Api()


def test_versions_are_ordered_as_kubernetes_orders_them() -> None:
    versions = ["foo", "v1alpha1", "v11beta2", "v2", "v10", "v1", "v1beta1"]
    assert sorted(versions, key=version_priority) == ["v10", "v2", "v1", "v11beta2", "v1beta1", "v1alpha1", "foo"]


def test_aggregated_discovery_lists_subresources_and_is_cacheable(api: Api) -> None:
    answer = api.ask("GET", "/apis", accept=AGGREGATED + ",application/json")
    assert answer.headers["content-type"] == AGGREGATED
    group = next(item for item in answer.json()["items"] if item["metadata"]["name"] == "conf.test")
    [widgets] = group["versions"][0]["resources"]
    assert [entry["subresource"] for entry in widgets["subresources"]] == ["status", "scale"]
    again = api.ask("GET", "/apis", accept=AGGREGATED, if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_a_new_kind_changes_the_etag_and_is_served_at_once(api: Api) -> None:
    before = api.ask("GET", "/apis", accept=AGGREGATED).headers["etag"]
    definition = widget_definition()
    definition["spec"]["group"] = "new.test"
    definition["metadata"]["name"] = "widgets.new.test"
    api.document("POST", DEFINITIONS, definition, code=201)
    assert api.ask("GET", "/apis", accept=AGGREGATED).headers["etag"] != before
    assert api.document("GET", "/apis/new.test/v1/widgets")["items"] == []


def test_plain_discovery(api: Api) -> None:
    assert api.document("GET", "/api")["versions"] == ["v1"]
    groups = {group["name"]: group for group in api.document("GET", "/apis")["groups"]}
    assert groups["conf.test"]["preferredVersion"]["groupVersion"] == "conf.test/v1"
    entries = {entry["name"]: entry for entry in api.document("GET", "/apis/conf.test/v1")["resources"]}
    assert set(entries) == {"widgets", "widgets/status", "widgets/scale"}
    assert entries["widgets/scale"]["group"] == "autoscaling"
    core = {entry["name"]: entry for entry in api.document("GET", "/api/v1")["resources"]}
    assert core["configmaps"]["storageVersionHash"] == "qFsyl6wFWjQ="
    assert core["pods/eviction"]["kind"] == "Eviction"


def test_every_resource_of_discovery_can_be_listed(api: Api) -> None:
    for prefix in ("/api", "/apis"):
        for group in api.document("GET", prefix, accept=AGGREGATED)["items"]:
            for version in group["versions"]:
                for resource in version["resources"]:
                    if "list" not in resource["verbs"]:
                        continue
                    name = group["metadata"].get("name", "")
                    base = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
                    assert api.document("GET", f"{base}/{resource['resource']}")["kind"].endswith("List")


def test_openapi_documents_resolve_their_references(api: Api) -> None:
    for key, entry in api.document("GET", "/openapi/v3")["paths"].items():
        document = api.document("GET", entry["serverRelativeURL"])
        schemas = document["components"]["schemas"]
        for reference in references(document):
            assert reference.removeprefix("#/components/schemas/") in schemas, (key, reference)


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for item in node for found in references(item)] if isinstance(node, list) else []


def test_openapi_of_a_custom_resource_and_of_pods(api: Api) -> None:
    document = api.document("GET", "/openapi/v3/apis/conf.test/v1")
    widget = document["components"]["schemas"]["test.conf.v1.Widget"]
    assert widget["x-kubernetes-group-version-kind"] == [{"group": "conf.test", "version": "v1", "kind": "Widget"}]
    patch = document["paths"]["/apis/conf.test/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    assert {"dryRun", "fieldValidation"} <= {parameter["name"] for parameter in patch["parameters"]}
    core = api.document("GET", "/openapi/v3/api/v1")["components"]["schemas"]
    containers = core["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert "secret" in core["io.k8s.api.core.v1.Volume"]["properties"]


def test_the_hash_of_a_document_follows_its_schema(api: Api) -> None:
    def url() -> str:
        return str(api.document("GET", "/openapi/v3")["paths"]["apis/conf.test/v1"]["serverRelativeURL"])

    before = url()
    definition = api.document("GET", DEFINITIONS + "/widgets.conf.test")
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["extra"] = {"type": "string"}
    api.document("PUT", DEFINITIONS + "/widgets.conf.test", definition)
    assert url() != before


def test_openapi_v2_has_plain_references(api: Api) -> None:
    document = api.document("GET", "/openapi/v2")
    assert "test.conf.v1.Widget" in document["definitions"]
    assert all(reference.startswith("#/definitions/") for reference in references(document["definitions"]))
    accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    assert api.ask("GET", "/openapi/v2", accept=accept).body.startswith(b"\x0a\x032.0")
