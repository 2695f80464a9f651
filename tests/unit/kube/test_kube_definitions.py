"""CustomResourceDefinitions at run time: served, changed, refused, and gone with their objects."""

from __future__ import annotations

from typing import Any

import pytest
from kube_lab import MERGE, OLD_WIDGET, WIDGET, server, widget

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.kube.crds.builder import crd, integer, obj, string, version
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.kube.store import Store
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from labsim.model.objects import condition_status, new, thaw

FOO = Kind("foo.test", "v1", "Foo", "foos")


def _foo(**spec: Any) -> Any:
    return crd(FOO, [version("v1", spec=obj({"a": integer(), **spec}))])


def _object(**spec: Any) -> Any:
    return new(FOO, "n", "x", spec=spec)


def test_a_definition_is_accepted_and_its_kind_served() -> None:
    hub = server()
    assert hub.kind_for("foo.test", "v1", "foos") is None
    heard = []
    hub.subscribe(lambda revision: heard.append(revision.type), CUSTOM_RESOURCE_DEFINITION)
    answer = hub.create(_foo(), CUSTOM_RESOURCE_DEFINITION)
    assert answer["status"] == {
        "conditions": None,
        "acceptedNames": {"kind": "", "plural": ""},
        "storedVersions": ["v1"],
    }
    stored = hub.get(CUSTOM_RESOURCE_DEFINITION, "", "foos.foo.test")
    assert [entry["type"] for entry in stored["status"]["conditions"]] == ["NamesAccepted", "Established"]
    assert condition_status(stored, "Established") == "True"
    assert heard == ["ADDED", "MODIFIED"]
    assert hub.create(_object(a=1, b=2), FOO)["spec"] == {"a": 1}


def test_a_new_schema_holds_from_the_next_request_on_and_defaults_what_is_stored() -> None:
    hub = server()
    hub.create(_foo(), CUSTOM_RESOURCE_DEFINITION)
    hub.create(_object(a=1), FOO)
    changed = thaw(hub.get(CUSTOM_RESOURCE_DEFINITION, "", "foos.foo.test"))
    changed["spec"]["versions"] = _foo(b=string(default="new"))["spec"]["versions"]
    hub.update(changed, CUSTOM_RESOURCE_DEFINITION)
    assert hub.get(FOO, "n", "x")["spec"] == {"a": 1, "b": "new"}
    assert hub.list(FOO)[0][0]["spec"]["b"] == "new"
    assert hub.patch(FOO, "n", "x", {"spec": {"a": 2}}, patch_type=MERGE)["spec"] == {"a": 2, "b": "new"}


def test_names_that_are_taken_are_not_served() -> None:
    hub = server()
    hub.create(_foo(), CUSTOM_RESOURCE_DEFINITION)
    rival = crd(Kind("foo.test", "v1", "Foo", "foxes"), [version("v1", spec=obj({}))])
    hub.create(rival, CUSTOM_RESOURCE_DEFINITION)
    refused = hub.get(CUSTOM_RESOURCE_DEFINITION, "", "foxes.foo.test")
    assert condition_status(refused, "NamesAccepted") == "False"
    assert hub.kind_for("foo.test", "v1", "foxes") is None


def test_a_definition_takes_its_objects_along() -> None:
    hub = server()
    hub.create(widget(), WIDGET)
    answer = hub.delete(CUSTOM_RESOURCE_DEFINITION, "", "widgets.lab.test")
    assert answer is not None
    assert answer["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert condition_status(answer, "Terminating") == "True"
    with pytest.raises(ApiError) as refused:
        hub.get(WIDGET, "n", "w")
    assert refused.value.message == "the server could not find the requested resource"
    with pytest.raises(ApiError):
        hub.get(CUSTOM_RESOURCE_DEFINITION, "", "widgets.lab.test")


def test_a_definition_waits_for_objects_with_finalizers() -> None:
    hub = server()
    hub.create(widget(metadata={"finalizers": ["a.test/x"]}), WIDGET)
    hub.delete(CUSTOM_RESOURCE_DEFINITION, "", "widgets.lab.test")
    assert hub.get(WIDGET, "n", "w")["metadata"]["deletionTimestamp"]
    with pytest.raises(ApiError) as refused:
        hub.create(widget("other"), WIDGET)
    assert refused.value.code == 405
    hub.patch(WIDGET, "n", "w", {"metadata": {"finalizers": None}}, patch_type=MERGE)
    assert hub.kind_for("lab.test", "v1", "widgets") is None
    assert [crd_["metadata"]["name"] for crd_ in hub.list(CUSTOM_RESOURCE_DEFINITION)[0]] == ["plains.lab.test"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": "Sideways"}, "spec.scope"),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields"),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion.webhookClientConfig"),
        ({"versions": [{"name": "v1", "served": True, "storage": True}]}, "spec.versions[0].schema.openAPIV3Schema"),
        ({"group": "other.test"}, "metadata.name"),
        ({"names": {"kind": "foo bar", "plural": "foos"}}, "spec.names.kind"),
    ],
)
def test_definitions_that_are_wrong(change: Any, field: Any) -> None:
    definition = _foo()
    definition["spec"].update(change)
    with pytest.raises(ApiError) as refused:
        server().create(definition, CUSTOM_RESOURCE_DEFINITION)
    assert field in {cause["field"] for cause in refused.value.details["causes"]}


class Kept:
    """What a server of an earlier process has left."""

    life = "2"

    def __init__(self, left: Store) -> None:
        self._left = left

    def restore(self, store: Store) -> None:
        for kind in self._left.kinds():
            for entry in self._left.list(kind):
                store.restore(kind, thaw(entry.object))
        store.begin_at(self._left.revision)


def test_objects_stay_when_another_version_is_stored_from_now_on() -> None:
    api = server()
    heard: list[str] = []
    api.create(widget("before", size=1), WIDGET)
    api.subscribe(lambda revision: heard.append(revision.name), WIDGET)
    definition = thaw(api.get(CUSTOM_RESOURCE_DEFINITION, "", WIDGET.qualified))
    for entry in definition["spec"]["versions"]:
        entry["storage"] = entry["name"] == OLD_WIDGET.version
    changed = api.update(definition, CUSTOM_RESOURCE_DEFINITION)
    assert changed["status"]["storedVersions"] == ["v1", "v1alpha1"]
    api.create(widget("after", size=2), WIDGET)
    for kind in (WIDGET, OLD_WIDGET):
        found = [(obj["apiVersion"], obj["metadata"]["name"], obj["spec"]["size"]) for obj in api.list(kind)[0]]
        assert found == [(kind.api_version, "after", 2), (kind.api_version, "before", 1)]
    assert "color" in api.get(WIDGET, "n", "before")["spec"]
    made = api.create({**widget("old", size=3, old="x"), "apiVersion": OLD_WIDGET.api_version}, OLD_WIDGET)
    assert made["spec"] == {"size": 3, "old": "x"}  # a field that the version stored before does not know
    assert heard == ["after", "old"]
    again = ApiServer(name="test", clock=EventQueue(), entropy=Entropy(1), kept=Kept(api.store))
    assert [obj["metadata"]["name"] for obj in again.list(WIDGET)[0]] == ["after", "before", "old"]


def test_a_stored_version_must_stay() -> None:
    hub = server()
    two = crd(FOO, [version("v1", spec=obj({}), storage=True), version("v2", spec=obj({}), storage=False)])
    hub.create(two, CUSTOM_RESOURCE_DEFINITION)
    only = crd(FOO, [version("v2", spec=obj({}))])["spec"]["versions"]
    with pytest.raises(ApiError) as refused:
        hub.patch(CUSTOM_RESOURCE_DEFINITION, "", "foos.foo.test", {"spec": {"versions": only}}, patch_type=MERGE)
    assert refused.value.details["causes"][0]["field"] == "status.storedVersions[0]"
