"""Server-side apply and managedFields."""

from __future__ import annotations

from typing import Any

import pytest
from kube_lab import APPLY, MERGE, WIDGET, server, widget

from labsim.kube.errors import ApiError
from labsim.model.kinds import DEPLOYMENT, POD
from labsim.model.objects import new, thaw


def _apply(hub: Any, manager: Any, *, force: Any = False, subresource: Any = "", **spec: Any) -> Any:
    body = widget(**spec)
    return hub.patch(WIDGET, "n", "w", body, patch_type=APPLY, manager=manager, force=force, subresource=subresource)


def _owned(obj: Any) -> Any:
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["fieldsV1"]
        for entry in obj["metadata"].get("managedFields", ())
    }


def test_an_applier_owns_what_it_says_and_no_default() -> None:
    made = _apply(server(), "m1", size=1)
    assert made["spec"] == {"size": 1, "color": "red"}
    assert _owned(made) == {("m1", "Apply", ""): {"f:spec": {"f:size": {}}}}


def test_an_updater_owns_what_it_changed_defaults_too() -> None:
    hub = server()
    hub.create(widget(size=1), WIDGET, manager="creator")
    changed = hub.patch(WIDGET, "n", "w", {"spec": {"size": 2, "note": "a"}}, patch_type=MERGE, manager="m2")
    assert _owned(changed) == {
        ("creator", "Update", ""): {"f:spec": {".": {}, "f:color": {}}},
        ("m2", "Update", ""): {"f:spec": {"f:note": {}, "f:size": {}}},
    }
    status = hub.patch(
        WIDGET, "n", "w", {"status": {"phase": "x"}}, patch_type=MERGE, manager="m2", subresource="status"
    )
    assert _owned(status)["m2", "Update", "status"] == {"f:status": {".": {}, "f:phase": {}}}


def test_in_process_writes_leave_owners_alone() -> None:
    hub = server()
    hub.create(widget(size=1), WIDGET)
    assert "managedFields" not in hub.get(WIDGET, "n", "w")["metadata"]
    _apply(hub, "m1", note="a")
    changed = thaw(hub.get(WIDGET, "n", "w"))
    changed["spec"]["size"] = 5
    changed["metadata"]["managedFields"] = []
    owners = [("m1", "Apply", ""), ("before-first-apply", "Update", "")]
    assert list(_owned(hub.update(changed, WIDGET))) == owners


def test_conflicts_are_all_named_and_force_takes_the_fields() -> None:
    hub = server()
    _apply(hub, "m1", size=1, note="a")
    with pytest.raises(ApiError) as refused:
        _apply(hub, "m2", size=2, note="b")
    assert refused.value.message == 'Apply failed with 2 conflicts: conflicts with "m1":\n- .spec.note\n- .spec.size'
    assert [cause["field"] for cause in refused.value.details["causes"]] == [".spec.note", ".spec.size"]
    with pytest.raises(ApiError) as refused:
        _apply(hub, "m2", size=2)
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "m1": .spec.size'
    forced = _apply(hub, "m2", force=True, size=2)
    assert _owned(forced) == {
        ("m1", "Apply", ""): {"f:spec": {"f:note": {}}},
        ("m2", "Apply", ""): {"f:spec": {"f:size": {}}},
    }


def test_the_same_value_is_owned_by_both() -> None:
    hub = server()
    _apply(hub, "m1", size=1)
    both = _apply(hub, "m2", size=1)
    assert [entry.get("time") for entry in both["metadata"]["managedFields"]] == ["2026-01-01T00:00:00Z", None]
    left = _apply(hub, "m1")
    assert left["spec"]["size"] == 1
    gone = _apply(hub, "m2")
    assert "size" not in gone["spec"]


def test_what_is_not_applied_any_more_goes_unless_somebody_else_has_it() -> None:
    hub = server()
    _apply(hub, "m1", size=1, labels={"a": "1", "b": "2"}, ports=[{"name": "x", "port": 1}, {"name": "y"}])
    hub.patch(WIDGET, "n", "w", {"spec": {"labels": {"c": "3"}}}, patch_type=MERGE, manager="other")
    result = _apply(hub, "m1", labels={"b": "2"}, ports=[{"name": "y"}])
    assert result["spec"]["labels"] == {"b": "2", "c": "3"}
    assert [port["name"] for port in result["spec"]["ports"]] == ["y"]
    assert "size" not in result["spec"]


def test_lists_are_merged_by_key_value_or_not_at_all() -> None:
    hub = server()
    _apply(hub, "m1", ports=[{"name": "a", "port": 1}], tags=["x"], args=["1"])
    result = _apply(hub, "m2", ports=[{"name": "b"}, {"name": "a", "protocol": "TCP"}], tags=["y"])
    assert [port["name"] for port in result["spec"]["ports"]] == ["b", "a"]
    assert result["spec"]["ports"][1]["port"] == 1
    assert sorted(result["spec"]["tags"]) == ["x", "y"]
    with pytest.raises(ApiError) as refused:
        _apply(hub, "m2", args=["2"])
    assert refused.value.message.endswith(".spec.args")


def test_applying_the_same_again_changes_nothing() -> None:
    hub = server()
    first = _apply(hub, "m1", size=1, ports=[{"name": "a"}])
    assert _apply(hub, "m1", size=1, ports=[{"name": "a"}]) is first


def test_status_is_applied_through_its_subresource_only() -> None:
    hub = server()
    _apply(hub, "m1", size=1)
    body = {**widget(), "status": {"phase": "x"}}
    assert "status" not in hub.patch(WIDGET, "n", "w", body, patch_type=APPLY, manager="m1")
    result = hub.patch(WIDGET, "n", "w", body, patch_type=APPLY, manager="m1", subresource="status")
    assert result["status"] == {"phase": "x"}
    assert _owned(result)["m1", "Apply", "status"] == {"f:status": {"f:phase": {}}}


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"managedFields": [{"manager": "x"}]}, 400, "metadata.managedFields must be nil"),
        ({"name": "x"}, 400, "does not match the name on the URL"),
        ({"name": None}, 400, "name must be provided"),
        ({"resourceVersion": "1"}, 409, "the object has been modified"),
    ],
)
def test_configurations_that_do_not_fit(change: Any, code: Any, text: Any) -> None:
    hub = server()
    _apply(hub, "m1", size=1)
    body = widget(size=1)
    body["metadata"].update(change)
    with pytest.raises(ApiError) as refused:
        hub.patch(WIDGET, "n", "w", body, patch_type=APPLY, manager="m1")
    assert refused.value.code == code
    assert text in refused.value.message


def test_undeclared_fields_cannot_be_applied() -> None:
    with pytest.raises(ApiError) as refused:
        _apply(server(), "m1", zz=1)
    assert refused.value.message.endswith(".spec.zz: field not declared in schema")


def test_owners_can_be_emptied() -> None:
    hub = server()
    _apply(hub, "m1", size=1)
    patch: dict[str, Any] = {"metadata": {"managedFields": [{}]}}
    assert "managedFields" not in hub.patch(WIDGET, "n", "w", patch, patch_type=MERGE, manager="x")["metadata"]


def test_many_updaters_share_an_entry() -> None:
    hub = server()
    hub.create(widget(), WIDGET, manager="creator")
    for number in range(14):
        body = {"metadata": {"annotations": {f"a{number}": "x"}}}
        result = hub.patch(WIDGET, "n", "w", body, patch_type=MERGE, manager=f"m{number}")
    managers = [entry["manager"] for entry in result["metadata"]["managedFields"]]
    assert len(managers) == 10
    assert "ancient-changes" in managers


def test_creators_of_built_in_kinds_do_not_own_what_admission_adds() -> None:
    hub = server()
    containers = [{"name": "c", "image": "i:1"}]
    pod = hub.create(new(POD, "n", "p", spec={"containers": containers}), POD, manager="c1")
    fields = _owned(pod)["c1", "Update", ""]["f:spec"]
    assert "f:containers" in fields
    assert "f:restartPolicy" in fields
    assert not {"f:tolerations", "f:priority", "."} & set(fields)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}
    deployment = new(DEPLOYMENT, "n", "d", spec={"selector": {"matchLabels": {"a": "b"}}, "template": template})
    made = hub.patch(DEPLOYMENT, "n", "d", deployment, patch_type=APPLY, manager="m1")
    assert _owned(made)["m1", "Apply", ""]["f:spec"]["f:selector"] == {}
