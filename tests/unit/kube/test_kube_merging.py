"""Merge patches and strategic merge patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.kube.errors import ApiError
from labsim.kube.merging import merge_adopted, merge_patched, strategically_merged
from labsim.kube.patches import JSON_PATCH, patched
from labsim.kube.shapes import builtin_shape, metadata_shape
from labsim.model.kinds import DEPLOYMENT, POD

KEYS = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["x", ""])
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
OBJECTS = st.dictionaries(KEYS, TREES, max_size=3)


def _has_null(tree: Any) -> bool:
    return isinstance(tree, dict) and any(value is None or _has_null(value) for value in tree.values())


@settings(max_examples=200, deadline=None)
@given(OBJECTS, OBJECTS)
def test_a_merge_patch_applied_twice_is_applied_once(target: Any, patch: Any) -> None:
    once = merge_patched(target, patch)
    assert merge_patched(once, patch) == once


@settings(max_examples=200, deadline=None)
@given(OBJECTS)
def test_an_empty_merge_patch_changes_nothing_and_a_tree_without_null_is_its_own_patch(target: Any) -> None:
    assert merge_patched(target, {}) == target
    if not _has_null(target):
        assert merge_patched({}, target) == target
        assert merge_patched(target, target) == target


@settings(max_examples=200, deadline=None)
@given(OBJECTS, OBJECTS)
def test_a_merge_patch_does_not_touch_its_target_and_leaves_no_null_where_it_merged(target: Any, patch: Any) -> None:
    before = repr(target)
    result = merge_patched(target, patch)
    assert repr(target) == before
    assert all(key not in result for key, value in patch.items() if value is None)


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ],
)
def test_the_examples_of_rfc_7386(target: Any, patch: Any, wanted: Any) -> None:
    assert merge_patched(target, patch) == wanted


POD_SHAPE, DEPLOYMENT_SHAPE = builtin_shape(POD), builtin_shape(DEPLOYMENT)


def _pod(*containers: Any) -> Any:
    return {"spec": {"containers": list(containers)}}


def test_containers_are_merged_by_name() -> None:
    pod = _pod({"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"})
    result = strategically_merged(pod, _pod({"name": "b", "image": "b:2"}), POD_SHAPE)
    assert result["spec"]["containers"] == [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]


def test_what_a_patch_adds_to_a_merged_list_comes_first() -> None:
    result = strategically_merged(_pod({"name": "a"}), _pod({"name": "z"}), POD_SHAPE)
    assert [entry["name"] for entry in result["spec"]["containers"]] == ["z", "a"]


def test_the_directives_delete_replace_and_order() -> None:
    pod = _pod({"name": "a"}, {"name": "b"}, {"name": "c"})
    deleted = strategically_merged(pod, _pod({"name": "b", "$patch": "delete"}), POD_SHAPE)
    assert [entry["name"] for entry in deleted["spec"]["containers"]] == ["a", "c"]
    replaced = strategically_merged(pod, _pod({"name": "x"}, {"$patch": "replace"}), POD_SHAPE)
    assert replaced["spec"]["containers"] == [{"name": "x"}]
    order = {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}}
    ordered = strategically_merged(pod, order, POD_SHAPE)
    assert [entry["name"] for entry in ordered["spec"]["containers"]] == ["c", "a", "b"]


def test_lists_without_a_merge_key_are_replaced() -> None:
    pod = {"spec": {"tolerations": [{"key": "a"}]}}
    result = strategically_merged(pod, {"spec": {"tolerations": [{"key": "b"}]}}, POD_SHAPE)
    assert result["spec"]["tolerations"] == [{"key": "b"}]


def test_finalizers_are_a_set_that_can_be_taken_from() -> None:
    metadata = {"finalizers": ["a.b/c"]}
    added = strategically_merged(metadata, {"finalizers": ["x.y/z", "a.b/c"]}, metadata_shape())
    assert sorted(added["finalizers"]) == ["a.b/c", "x.y/z"]
    taken = strategically_merged(added, {"$deleteFromPrimitiveList/finalizers": ["a.b/c"]}, metadata_shape())
    assert taken["finalizers"] == ["x.y/z"]


def test_retained_keys_drop_the_others() -> None:
    deployment = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategically_merged(deployment, patch, DEPLOYMENT_SHAPE)["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("patch", [{"data": {"$patch": "frob"}}, _pod({"image": "nameless"})])
def test_a_strategic_patch_that_makes_no_sense_is_refused(patch: Any) -> None:
    with pytest.raises(ApiError) as refused:
        strategically_merged({}, patch, POD_SHAPE)
    assert refused.value.code == 500


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([{"op": "remove", "path": "/spec/nope"}], 422),
        ([{"op": "add", "path": "/spec/no/pe", "value": 1}], 422),
        ([{"op": "frob", "path": "/spec"}], 422),
        ([{"op": "test", "path": "/spec/a", "value": 2}], 422),
        ({"op": "add"}, 400),
    ],
)
def test_json_patches_that_do_not_fit(body: Any, code: Any) -> None:
    with pytest.raises(ApiError) as refused:
        patched({"spec": {"a": 1}}, body, JSON_PATCH, is_custom=True, shape=POD_SHAPE)
    assert refused.value.code == code


def test_a_json_patch_replaces_what_is_not_there() -> None:
    body = [{"op": "replace", "path": "/spec/b", "value": 2}, {"op": "copy", "from": "/spec/b", "path": "/spec/c"}]
    assert patched({"spec": {"a": 1}}, body, JSON_PATCH, is_custom=True, shape=POD_SHAPE) == {
        "spec": {"a": 1, "b": 2, "c": 2}
    }


def containers(tree: Any) -> Iterator[Any]:
    """Every dict and list of a tree."""
    if isinstance(tree, dict | list):
        yield tree
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from containers(inner)


@settings(max_examples=300, deadline=None)
@given(OBJECTS, OBJECTS, st.data())
def test_a_merge_that_adopts_says_the_same_and_holds_nothing_of_the_patch(
    target: dict[str, Any], patch: dict[str, Any], data: st.DataObject
) -> None:
    shared = data.draw(st.sampled_from([None, *containers(target)]))  # the patch may bring back a part of the target
    if shared is not None:
        patch = {**patch, data.draw(KEYS): data.draw(st.sampled_from([shared, [shared, {"a": 1}]]))}
    before = orjson.dumps([target, patch])
    merged = merge_adopted(target, patch)
    assert orjson.dumps(merged) == orjson.dumps(merge_patched(target, patch))
    assert orjson.dumps([target, patch]) == before
    own = {id(part) for part in containers(target)}
    given_parts = {id(part) for part in containers(patch)} - own
    assert not [part for part in containers(merged) if id(part) in given_parts]


def test_of_a_list_only_what_is_new_is_copied() -> None:
    old = {"conditions": [{"type": "A"}, {"type": "B"}]}
    changed = {"type": "B", "status": "True"}
    merged = merge_adopted(old, {"conditions": [old["conditions"][0], changed]})
    assert merged["conditions"][0] is old["conditions"][0]
    assert merged["conditions"][1] == changed
    assert merged["conditions"][1] is not changed
