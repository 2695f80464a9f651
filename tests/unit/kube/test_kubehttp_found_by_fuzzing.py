"""Requests that were a fault of ours once, or spoiled what is stored: each is the client's mistake, and told so."""

from __future__ import annotations

from typing import Any

import pytest
from kubehttp_api import WIDGET_GROUP, Api, widget_definition

from labsim.kube.merging import strategically_merged
from labsim.kube.shapes import builtin_shape
from labsim.model.kinds import CONFIG_MAP

MAPS = "/api/v1/namespaces/default/configmaps"
WIDGETS = f"/apis/{WIDGET_GROUP}/v1/namespaces/default/widgets"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


@pytest.fixture
def api() -> Api:
    made = Api()
    made.config_map("c")
    return made


def widget(**parts: Any) -> dict[str, Any]:
    return {"apiVersion": f"{WIDGET_GROUP}/v1", "kind": "Widget", "metadata": {"name": "w"}, **parts}


def other_definition(schema: Any, **version: Any) -> dict[str, Any]:
    made = widget_definition(schema={"openAPIV3Schema": schema}, subresources={}, selectableFields=None, **version)
    made["metadata"]["name"] = "things.fuzz.test"
    made["spec"]["group"] = "fuzz.test"
    made["spec"]["names"] = {"kind": "Thing", "plural": "things"}
    return made


def test_an_apply_whose_metadata_is_a_text(api: Api) -> None:
    body = widget(metadata="a")
    assert api.ask("PATCH", f"{WIDGETS}/w?fieldManager=m", body, content_type=APPLY).status == 400


def test_a_format_of_texts_on_another_type(api: Api) -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "object", "format": "date-time", "x-kubernetes-preserve-unknown-fields": True},
            "b": {"type": "boolean", "format": "byte", "default": True},
        },
    }
    api.document("POST", DEFINITIONS, other_definition(schema), code=201)
    thing = {"apiVersion": "fuzz.test/v1", "kind": "Thing", "metadata": {"name": "t"}, "a": {"x": 1}}
    assert api.document("POST", "/apis/fuzz.test/v1/namespaces/default/things", thing, code=201)["b"] is True


def test_a_whole_number_beyond_64_bits_does_not_spoil_its_list(api: Api) -> None:
    """It was stored as an integer that no list could write."""
    claim = {"metadata": {"name": "p"}, "spec": {"activeDeadlineSeconds": 1e300, "containers": []}}
    assert api.ask("POST", "/api/v1/namespaces/default/pods", claim).status == 400
    api.ask("POST", WIDGETS, widget(spec={"size": 1e300}))
    for path in (WIDGETS, "/api/v1/namespaces/default/pods"):
        assert api.ask("GET", path).status == 200


def test_null_in_a_list_of_structs_is_an_empty_one(api: Api) -> None:
    body = widget(metadata={"name": "w", "ownerReferences": [None]})
    assert api.ask("POST", WIDGETS, body).status == 422
    binding = {"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [None]}
    assert api.ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).status == 422


@pytest.mark.parametrize("value", [1.0, True, "All", {"a": 1}])
def test_a_dry_run_of_a_deletion_that_is_no_list(api: Api, value: Any) -> None:
    for path in (f"{MAPS}/c", MAPS):
        assert api.ask("DELETE", path, {"dryRun": value}).status == 400
    assert api.ask("GET", f"{MAPS}/c").status == 200


@pytest.mark.parametrize("value", [True, "a", None, 1, []])
def test_a_patch_that_makes_no_object(api: Api, value: Any) -> None:
    replace = [{"op": "add", "path": "", "value": value}]
    assert api.ask("PATCH", f"{MAPS}/c", replace, content_type=JSON_PATCH).status == 400
    copy = [{"op": "copy", "from": "/kind", "path": ""}]
    assert api.ask("PATCH", f"{MAPS}/c", copy, content_type=JSON_PATCH).status == 400


@pytest.mark.parametrize(
    "spec",
    [
        {"versions": ["v1"]},
        {"versions": [{}]},
        {"versions": {"name": "v1"}},
        {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"a": "x"}}}}]},
        {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"required": "a"}}}]},
        {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"x-kubernetes-validations": [1]}}}]},
        {"versions": [{"name": "v1", "additionalPrinterColumns": ["a"]}]},
        {"names": "things"},
        {"names": {"kind": 1}},
        {"conversion": "None"},
    ],
)
def test_a_definition_with_values_of_other_types(api: Api, spec: Any) -> None:
    made = other_definition({"type": "object"})
    made["spec"] |= spec
    assert api.ask("POST", DEFINITIONS, made).status in (400, 422)
    path = f"{DEFINITIONS}/widgets.{WIDGET_GROUP}"
    assert api.ask("PATCH", path, {"spec": spec}, content_type=MERGE).status in (400, 422)
    assert api.ask("GET", WIDGETS).status == 200


def test_a_schema_whose_items_are_a_list(api: Api) -> None:
    made = other_definition({"type": "object", "properties": {"a": {"type": "array", "items": [{"type": "string"}]}}})
    refused = api.document("POST", DEFINITIONS, made, code=422)
    assert "items must be a schema object and not an array" in refused["message"]


@pytest.mark.parametrize(
    ("review", "body"),
    [
        ("authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"nonResourceAttributes": [], "user": "a"}}),
        ("authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {}, "metadata": [True]}),
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {}, "metadata": {"creationTimestamp": ".."}}),
        ("authentication.k8s.io/v1/tokenreviews", {"spec": {"token": 1}}),
    ],
)
def test_a_review_with_values_of_other_types(api: Api, review: str, body: Any) -> None:
    accept = "application/vnd.kubernetes.protobuf,application/json"
    assert api.ask("POST", f"/apis/{review}", body, accept=accept).status == 400


def test_a_primitive_list_to_delete_from_that_is_none(api: Api) -> None:
    for patch in ({"$deleteFromPrimitiveList/data": ["x"]}, {"$deleteFromPrimitiveList/x": True}):
        assert api.ask("PATCH", f"{MAPS}/c", patch, content_type=STRATEGIC).status == 400


@pytest.mark.parametrize("metadata", [[], "a", 1])
def test_a_scale_or_a_token_request_whose_metadata_is_no_object(api: Api, metadata: Any) -> None:
    api.document("POST", WIDGETS, widget(spec={"size": 1}), code=201)
    body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": {"replicas": 1}}
    assert api.ask("PUT", f"{WIDGETS}/w/scale", body).status == 400
    request = {"metadata": metadata, "spec": {"audiences": "x"}}
    assert api.ask("POST", "/api/v1/namespaces/default/serviceaccounts/a/token", request).status == 400


def test_a_merge_key_that_is_no_text(api: Api) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}
    api.document("POST", "/api/v1/namespaces/default/pods", pod, code=201)
    keys: list[Any] = [{}, [1], 1, None, True]
    for key in keys:
        for spec in (
            {"containers": [{"name": key, "image": "y"}]},
            {"containers": [{"name": "a"}], "$setElementOrder/containers": [{"name": key}]},
        ):
            answer = api.ask("PATCH", "/api/v1/namespaces/default/pods/p", {"spec": spec}, content_type=STRATEGIC)
            assert answer.status in (200, 400, 422)
    storage = "/apis/storage.k8s.io/v1/storageclasses"
    topologies = [{"matchLabelExpressions": [{"key": "a", "values": ["b"]}]}]
    made = {"metadata": {"name": "s"}, "provisioner": "p", "allowedTopologies": topologies}
    api.document("POST", storage, made, code=201)
    ordered = {"allowedTopologies": topologies, "$setElementOrder/allowedTopologies": [{"name": "a"}]}
    assert api.ask("PATCH", f"{storage}/s", ordered, content_type=STRATEGIC).status in (200, 422)
    metadata = {"finalizers": [{}, ["a"]]}
    assert api.ask("PATCH", f"{MAPS}/c", {"metadata": metadata}, content_type=STRATEGIC).status in (400, 422)


def test_long_lists_are_merged_in_one_walk() -> None:
    """Twenty thousand finalizers took eight seconds, and as long to be taken out again: each was looked for in all."""
    compared = 0

    class Text(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    count = 500
    there, wanted = ([Text(f"{name}{number}") for number in range(count)] for name in "ab")
    shape = builtin_shape(CONFIG_MAP)
    merged = strategically_merged(
        {"metadata": {"finalizers": there}},
        {"metadata": {"finalizers": wanted, "$setElementOrder/finalizers": [*wanted, *there]}},
        shape,
    )
    assert merged["metadata"]["finalizers"] == [*wanted, *there]
    taken = {"metadata": {"$deleteFromPrimitiveList/finalizers": there}}
    assert strategically_merged(merged, taken, shape)["metadata"]["finalizers"] == wanted
    assert compared < 40 * count
