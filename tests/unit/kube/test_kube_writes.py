"""Writes through the server: identity, generations, conflicts, subresources, finalizers, namespaces, determinism."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kube_lab import APPLY, JSON_PATCH, MERGE, OLD_WIDGET, PLAIN, WIDGET, server, widget

from labsim.kube.errors import ApiError
from labsim.kube.users import User
from labsim.model.kinds import CONFIG_MAP, LEASE, NAMESPACE, SECRET
from labsim.model.objects import new, thaw


def _refused(call: Any, *args: Any, **kwargs: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        call(*args, **kwargs)
    return refused.value


def test_a_new_object_is_completed_by_the_server() -> None:
    hub = server()
    made = hub.create(widget(metadata={"uid": "mine", "generation": 9}, size=1, zz=1), WIDGET)
    metadata = made["metadata"]
    assert metadata["uid"] != "mine"
    assert metadata["generation"] == 1
    assert metadata["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert metadata["resourceVersion"] == str(hub.revision)
    assert made["spec"] == {"size": 1, "color": "red"}
    assert hub.get(WIDGET, "n", "w") is made


def test_the_callers_object_is_not_touched_nor_shared() -> None:
    hub = server()
    mine = widget(labels={"a": "b"})
    before = orjson.dumps(mine)
    made = hub.create(mine, WIDGET)
    mine["spec"]["labels"]["a"] = "c"
    assert made["spec"]["labels"] == {"a": "b"}
    mine["spec"]["labels"]["a"] = "b"
    assert orjson.dumps(mine) == before


def test_generated_names_and_uids_depend_on_seed_and_coordinates_only() -> None:
    def names(extra: bool) -> Any:
        hub = server()
        if extra:
            hub.create(widget("other"), WIDGET)
        made = [
            hub.create({"metadata": {"generateName": "w-", "namespace": "n"}, "spec": {}}, WIDGET) for _ in range(3)
        ]
        return [(obj["metadata"]["name"], obj["metadata"]["uid"]) for obj in made]

    assert names(False) == names(True)
    assert len({name for name, _ in names(False)}) == 3
    assert all(len(name) == 7 for name, _ in names(False))


def test_a_name_that_is_used_again_gets_another_uid() -> None:
    hub = server()
    first = hub.create(widget(), WIDGET)["metadata"]["uid"]
    hub.delete(WIDGET, "n", "w")
    assert hub.create(widget(), WIDGET)["metadata"]["uid"] != first


def test_a_refused_create_shifts_nothing() -> None:
    plain, disturbed = server(), server()
    disturbed.create(widget("a"), WIDGET)
    assert _refused(disturbed.create, widget("a"), WIDGET).reason == "AlreadyExists"
    _refused(disturbed.create, widget("w", size=-1), WIDGET)
    disturbed.create(widget(), WIDGET, dry_run=True)
    wanted = plain.create(widget(), WIDGET)["metadata"]["uid"]
    assert disturbed.create(widget(), WIDGET)["metadata"]["uid"] == wanted


def test_generation_follows_the_spec_only() -> None:
    hub = server()
    hub.create(widget(size=1), WIDGET)

    def generation(body: Any, subresource: Any = "") -> Any:
        return hub.patch(WIDGET, "n", "w", body, patch_type=MERGE, subresource=subresource)["metadata"]["generation"]

    assert generation({"metadata": {"labels": {"a": "b"}}}) == 1
    assert generation({"status": {"phase": "x"}}) == 1
    assert generation({"status": {"phase": "x"}}, "status") == 1
    assert generation({"spec": {"size": 2}}) == 2
    assert generation({"spec": {"size": 2}}) == 2
    assert hub.get(WIDGET, "n", "w")["status"] == {"phase": "x"}


def test_without_a_status_subresource_status_is_part_of_the_object() -> None:
    hub = server()
    hub.create(new(PLAIN, None, "p", spec={"a": 1}, status={"phase": "x"}), PLAIN)
    changed = hub.patch(PLAIN, "", "p", {"status": {"phase": "y"}}, patch_type=MERGE)
    assert changed["metadata"]["generation"] == 2
    refused = _refused(hub.patch, PLAIN, "", "p", {"status": {}}, patch_type=MERGE, subresource="status")
    assert refused.code == 404


def test_a_write_that_changes_nothing_is_no_event() -> None:
    hub = server()
    made = hub.create(widget(size=1), WIDGET)
    heard: list[Any] = []
    hub.subscribe(heard.append)
    assert hub.patch(WIDGET, "n", "w", {"spec": {"size": 1}}, patch_type=MERGE) is made
    assert hub.update(thaw(made), WIDGET)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert hub.patch(WIDGET, "n", "w", {}, patch_type=MERGE, subresource="status", manager="m") is made
    assert heard == []


def test_true_for_one_is_a_change() -> None:
    hub = server()
    hub.create(widget(free={"a": 1}), WIDGET)
    assert hub.patch(WIDGET, "n", "w", {"spec": {"free": {"a": True}}}, patch_type=MERGE)["spec"]["free"]["a"] is True


def test_stale_and_foreign_objects_are_conflicts() -> None:
    hub = server()
    stale = thaw(hub.create(widget(size=1), WIDGET))
    hub.patch(WIDGET, "n", "w", {"spec": {"size": 2}}, patch_type=MERGE)
    assert "the object has been modified" in _refused(hub.update, stale, WIDGET).message
    patch = {"metadata": {"resourceVersion": stale["metadata"]["resourceVersion"]}, "spec": {"size": 3}}
    assert _refused(hub.patch, WIDGET, "n", "w", patch, patch_type=MERGE).code == 409
    foreign = thaw(hub.get(WIDGET, "n", "w"))
    foreign["metadata"]["uid"] = "other"
    assert "Precondition failed: UID in precondition: other" in _refused(hub.update, foreign, WIDGET).message
    refused = _refused(hub.patch, WIDGET, "n", "w", {"metadata": {"uid": "other"}}, patch_type=MERGE)
    assert (refused.code, len(refused.details["causes"])) == (422, 2)


def test_custom_resources_need_a_resource_version_for_an_update_and_built_in_ones_do_not() -> None:
    hub = server()
    hub.create(widget(), WIDGET)
    assert "must be specified for an update" in _refused(hub.update, widget(size=1), WIDGET).message
    hub.create(new(CONFIG_MAP, "n", "c", data={"a": "1"}), CONFIG_MAP)
    assert hub.update(new(CONFIG_MAP, "n", "c", data={"a": "2"}), CONFIG_MAP)["data"] == {"a": "2"}
    assert hub.update(new(LEASE, "n", "l", spec={}), LEASE)["metadata"]["name"] == "l"


def test_what_a_client_must_not_set_is_put_back_silently() -> None:
    hub = server()
    made = thaw(hub.create(widget(size=1), WIDGET))
    changed = thaw(made)
    changed["metadata"].update(creationTimestamp="2020-01-01T00:00:00Z", generation=77)
    changed["spec"]["size"] = 2
    result = hub.update(changed, WIDGET)["metadata"]
    assert (result["creationTimestamp"], result["generation"]) == (made["metadata"]["creationTimestamp"], 2)
    changed["metadata"].update(deletionTimestamp="2020-01-01T00:00:00Z", resourceVersion=result["resourceVersion"])
    with pytest.raises(ApiError, match="deletionTimestamp: Invalid value") as refused:
        hub.update(changed, WIDGET)
    assert refused.value.code == 422


def test_a_dry_run_stores_nothing() -> None:
    hub = server()
    before = hub.revision
    assert hub.create(widget(size=1), WIDGET, dry_run=True)["spec"]["color"] == "red"
    assert hub.revision == before
    hub.create(widget(size=1), WIDGET)
    before = hub.revision
    assert hub.patch(WIDGET, "n", "w", {"spec": {"size": 2}}, patch_type=MERGE, dry_run=True)["spec"]["size"] == 2
    hub.delete(WIDGET, "n", "w", dry_run=True)
    assert hub.revision == before
    assert hub.get(WIDGET, "n", "w")["spec"]["size"] == 1


def test_finalizers_are_waited_for() -> None:
    hub = server()
    hub.create(widget(metadata={"finalizers": ["a.test/x", "a.test/y"]}), WIDGET)
    heard = []
    hub.subscribe(lambda revision: heard.append((revision.type, revision.object["metadata"].get("finalizers"))), WIDGET)
    left = hub.delete(WIDGET, "n", "w")
    assert left is not None
    waiting = left["metadata"]
    assert (waiting["generation"], waiting["deletionGracePeriodSeconds"]) == (2, 0)
    hub.delete(WIDGET, "n", "w")
    assert _refused(hub.create, widget(), WIDGET).message.startswith("object is being deleted: ")
    added = {"metadata": {"finalizers": ["a.test/x", "a.test/z"]}}
    assert (
        'found new finalizers []string{"a.test/z"}'
        in _refused(hub.patch, WIDGET, "n", "w", added, patch_type=MERGE).message
    )
    hub.patch(WIDGET, "n", "w", {"metadata": {"finalizers": ["a.test/y"]}}, patch_type=MERGE)
    last = hub.patch(WIDGET, "n", "w", {"metadata": {"finalizers": None}}, patch_type=MERGE)
    assert "finalizers" not in last["metadata"]
    assert _refused(hub.get, WIDGET, "n", "w").code == 404
    assert heard == [
        ("MODIFIED", ["a.test/x", "a.test/y"]),
        ("MODIFIED", ["a.test/y"]),
        ("DELETED", ["a.test/y"]),
    ]


def test_the_event_of_a_deletion_has_a_revision_of_its_own() -> None:
    hub = server()
    made = hub.create(widget(), WIDGET)
    heard: list[Any] = []
    hub.subscribe(heard.append, WIDGET)
    hub.delete(WIDGET, "n", "w")
    (event,) = heard
    assert event.object["metadata"]["resourceVersion"] == str(hub.revision)
    assert event.previous_object == made


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_policies_leave_the_rest_to_the_collector(policy: Any, finalizer: Any) -> None:
    hub = server()
    hub.create(widget(), WIDGET)
    left = hub.delete(WIDGET, "n", "w", options={"propagationPolicy": policy})
    assert left is not None
    assert left["metadata"]["finalizers"] == [finalizer]


def test_preconditions_and_options_of_a_deletion() -> None:
    hub = server()
    hub.create(widget(), WIDGET)
    stale = {"preconditions": {"resourceVersion": "1"}}
    refused = _refused(hub.delete, WIDGET, "n", "w", options=stale)
    assert refused.message.startswith('Operation cannot be fulfilled on Widget.lab.test "w": the ResourceVersion')
    assert _refused(hub.delete, WIDGET, "n", "w", options={"preconditions": {"uid": "x"}}).details["kind"] == "Widget"
    both = {"propagationPolicy": "Orphan", "orphanDependents": True}
    assert _refused(hub.delete, WIDGET, "n", "w", options=both).code == 422
    assert _refused(hub.delete, WIDGET, "n", "w", options={"propagationPolicy": "Sideways"}).code == 422


def test_collections_are_deleted_by_selector() -> None:
    hub = server()
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        hub.create(widget(name, color=colour, metadata={"labels": {"c": colour}}), WIDGET)
    assert len(hub.delete_collection(WIDGET, "n", label_selector="c=red")) == 2
    assert [obj["metadata"]["name"] for obj in hub.list(WIDGET)[0]] == ["b"]


def test_namespaces_that_are_missing_or_about_to_go_take_nothing_new() -> None:
    hub = server()
    missing = widget()
    missing["metadata"]["namespace"] = "nowhere"
    assert _refused(hub.create, missing, WIDGET).message == 'namespaces "nowhere" not found'
    hub.delete(NAMESPACE, "", "n")
    assert hub.get(NAMESPACE, "", "n")["status"]["phase"] == "Terminating"
    refused = _refused(hub.create, widget(), WIDGET)
    assert refused.code == 403
    assert refused.details["causes"][0]["reason"] == "NamespaceTerminating"
    gone = thaw(hub.get(NAMESPACE, "", "n"))
    gone["spec"]["finalizers"] = []
    hub.update(gone, NAMESPACE, subresource="finalize")
    assert _refused(hub.get, NAMESPACE, "", "n").code == 404
    assert _refused(hub.delete, NAMESPACE, "", "default").code == 403


def test_versions_show_and_keep_what_they_know() -> None:
    hub = server()
    hub.create({"metadata": {"name": "w", "namespace": "n"}, "spec": {"size": 1, "old": "x"}}, OLD_WIDGET)
    stored = hub.get(WIDGET, "n", "w")
    assert (stored["apiVersion"], stored["spec"]) == ("lab.test/v1", {"size": 1, "color": "red"})
    shown = hub.get(OLD_WIDGET, "n", "w")
    assert (shown["apiVersion"], shown["spec"]) == ("lab.test/v1alpha1", {"size": 1})
    hub.patch(OLD_WIDGET, "n", "w", {"spec": {"size": 3}}, patch_type=MERGE)
    assert hub.get(WIDGET, "n", "w")["spec"] == {"size": 3, "color": "red"}
    assert hub.list(OLD_WIDGET)[0][0]["apiVersion"] == "lab.test/v1alpha1"


def test_scale() -> None:
    hub = server()
    hub.create(widget(size=9, replicas=2), WIDGET)
    assert hub.scale_of(WIDGET, "n", "w")["spec"] == {"replicas": 2}
    scaled = hub.patch(WIDGET, "n", "w", {"spec": {"replicas": 3}}, patch_type=MERGE, subresource="scale")
    assert (scaled["kind"], scaled["spec"]) == ("Scale", {"replicas": 3})
    assert hub.get(WIDGET, "n", "w")["metadata"]["generation"] == 2
    negative = {**scaled, "spec": {"replicas": -1}}
    fields = {c["field"] for c in _refused(hub.update, negative, WIDGET, subresource="scale").details["causes"]}
    assert fields == {".spec.replicas", "spec.replicas"}


def test_admission_hooks_may_refuse() -> None:
    hub = server()
    seen = []

    def hook(kind: Any, old: Any, new_state: Any, operation: Any, user: Any) -> None:
        seen.append((kind.kind, operation, old is not None, new_state is not None, user.name))
        if user.name == "eve":
            raise ApiError(403, "Forbidden", "not eve")

    hub.admission.append(hook)
    hub.create(widget(), WIDGET)
    hub.patch(WIDGET, "n", "w", {"spec": {"size": 1}}, patch_type=MERGE, user=User("bob"))
    assert _refused(hub.delete, WIDGET, "n", "w", user=User("eve")).message == "not eve"
    assert seen == [
        ("Widget", "CREATE", False, True, "system:admin"),
        ("Widget", "UPDATE", True, True, "bob"),
        ("Widget", "DELETE", True, False, "eve"),
    ]


def test_unknown_fields_by_field_validation() -> None:
    hub = server()
    warnings: list[str] = []
    hub.create(widget("a", zz=1), WIDGET, warnings=warnings)
    assert warnings == ['unknown field "spec.zz"']
    hub.create(widget("b", zz=1), WIDGET, field_validation="Ignore", warnings=warnings)
    assert len(warnings) == 1
    refused = _refused(hub.create, widget("c", zz=1), WIDGET, field_validation="Strict")
    assert refused.message.endswith('strict decoding error: unknown field "spec.zz"')
    wrong = new(CONFIG_MAP, "n", "c", data={"a": 1})
    assert (
        "json: cannot unmarshal number into Go struct field ConfigMap.data"
        in _refused(hub.create, wrong, CONFIG_MAP).message
    )


def test_selectors() -> None:
    hub = server()
    for name, colour in (("a", "red"), ("b", "blue")):
        hub.create(widget(name, color=colour, metadata={"labels": {"l": name}}), WIDGET)

    def names(**selector: Any) -> Any:
        return [obj["metadata"]["name"] for obj in hub.list(WIDGET, "n", **selector)[0]]

    assert names(label_selector="l in (a,c)") == ["a"]
    assert names(label_selector="l!=a") == ["b"]
    assert names(field_selector="spec.color=blue") == ["b"]
    assert names(field_selector="metadata.name!=b,spec.color=red") == ["a"]
    assert _refused(hub.list, WIDGET, field_selector="spec.size=1").message == "field label not supported: spec.size"
    assert "is not a known field selector" in _refused(hub.list, CONFIG_MAP, field_selector="data.x=1").message
    assert _refused(hub.list, WIDGET, label_selector="l ~ x").code == 400


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "update", "status", "merge", "json", "apply", "delete"]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 3),
        ),
        max_size=25,
    )
)
def test_whatever_is_written_the_log_tells_the_state(writes: Any) -> None:
    """Revisions grow by one, each event fits the one before, and replaying them gives what a list gives."""
    hub = server()
    state: dict[str, Any] = {}
    last = [hub.revision]

    def hear(event: Any) -> None:
        assert event.revision == last[0] + 1
        last[0] = event.revision
        key = event.name
        assert event.previous_object == state.get(key)
        if event.type == "DELETED":
            del state[key]
        else:
            state[key] = thaw(event.object)

    hub.subscribe(hear, WIDGET)
    for verb, name, size in writes:
        with contextlib.suppress(ApiError):  # many of them are refused: what is there already, or not there yet
            _write(hub, verb, name, size)
    listed, revision = hub.list(WIDGET)
    assert revision == last[0]
    assert {obj["metadata"]["name"]: obj for obj in listed} == state
    for obj in listed:
        latest = hub.store.get(WIDGET, "n", obj["metadata"]["name"])
        assert latest is not None
        assert orjson.loads(latest.data) == obj


def _write(hub: Any, verb: Any, name: Any, size: Any) -> None:
    if verb == "create":
        hub.create(widget(name, size=size), WIDGET, manager="creator")
    elif verb == "update":
        changed = thaw(hub.get(WIDGET, "n", name))
        changed["spec"] = {"size": size}
        hub.update(changed, WIDGET, manager="updater")
    elif verb == "status":
        hub.patch(WIDGET, "n", name, {"status": {"replicas": size}}, patch_type=MERGE, subresource="status")
    elif verb == "merge":
        body = {"spec": {"nested": {"level": size}}, "metadata": {"finalizers": ["a.test/f"] if size == 1 else None}}
        hub.patch(WIDGET, "n", name, body, patch_type=MERGE, manager="merger")
    elif verb == "json":
        hub.patch(WIDGET, "n", name, [{"op": "add", "path": "/spec/size", "value": size}], patch_type=JSON_PATCH)
    elif verb == "apply":
        body = {**widget(name, note="x" * (size + 1)), "apiVersion": "lab.test/v1"}
        hub.patch(WIDGET, "n", name, body, patch_type=APPLY, manager="applier", force=size > 1)
    else:
        hub.delete(WIDGET, "n", name)


def test_secrets_hide_string_data() -> None:
    hub = server()
    made = hub.create(new(SECRET, "n", "s", stringData={"a": "b"}), SECRET)
    assert (made["type"], made["data"], "stringData" in made) == ("Opaque", {"a": "Yg=="}, False)
    changed = hub.patch(SECRET, "n", "s", {"stringData": {"c": "d"}}, patch_type=MERGE)
    assert changed["data"] == {"a": "Yg==", "c": "ZA=="}
    bad = _refused(hub.patch, SECRET, "n", "s", {"data": {"a": "not base64!"}}, patch_type=MERGE)
    assert bad.message.endswith("illegal base64 data at input byte 3")
