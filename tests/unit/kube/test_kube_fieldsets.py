"""Field sets: their algebra, and what an object's fields are."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kube_lab import definitions

from labsim.kube.fieldsets import compare, difference, fields_of_value, intersection, is_member, paths, union
from labsim.kube.shapes import builtin_shape, schema_shape
from labsim.model.kinds import POD

ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
SETS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(ELEMENTS, inner, max_size=3).flatmap(
        lambda tree: st.sampled_from([tree, {".": {}, **tree} if tree else tree])
    ),
    max_leaves=8,
).filter(bool)
SHAPE = schema_shape(definitions()[0]["spec"]["versions"][1]["schema"]["openAPIV3Schema"])


def _members(tree: Any, path: Any = ()) -> Any:
    found = set()
    for element, inner in tree.items():
        if element != ".":
            if is_member(inner):
                found.add((*path, element))
            found |= _members(inner, (*path, element))
    return found


@settings(max_examples=300, deadline=None)
@given(SETS, SETS)
def test_the_algebra_is_that_of_sets_of_paths(one: Any, other: Any) -> None:
    assert _members(union(one, other)) == _members(one) | _members(other)
    assert _members(difference(one, other)) == _members(one) - _members(other)
    assert _members(intersection(one, other)) == _members(one) & _members(other)


@settings(max_examples=100, deadline=None)
@given(SETS)
def test_a_set_and_itself(one: Any) -> None:
    assert _members(union(one, one)) == _members(one)
    assert difference(one, one) == {}


def test_the_fields_of_an_applied_configuration() -> None:
    config = {
        "spec": {
            "size": 1,
            "labels": {"a": "b"},
            "args": ["x"],
            "tags": ["t"],
            "ports": [{"name": "http", "port": 80}],
            "free": {"deep": {"er": 1}},
        }
    }
    assert fields_of_value(config, SHAPE)["f:spec"] == {
        "f:size": {},
        "f:labels": {"f:a": {}},
        "f:args": {},
        "f:tags": {'v:"t"': {}},
        "f:ports": {'k:{"name":"http"}': {".": {}, "f:name": {}, "f:port": {}}},
        "f:free": {"f:deep": {".": {}, "f:er": {}}},
    }


def test_items_of_built_in_lists_are_known_by_their_keys() -> None:
    pod = {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}
    containers = fields_of_value(pod, builtin_shape(POD))["f:spec"]["f:containers"]
    assert list(containers['k:{"name":"c"}']["f:ports"]) == ['k:{"containerPort":80,"protocol":"TCP"}']


def test_a_comparison_names_what_was_added_changed_and_removed() -> None:
    old = {"spec": {"size": 1, "note": "a", "tags": ["x", "y"]}}
    new = {"spec": {"size": 2, "nested": {"level": 1}, "tags": ["y", "z"]}}
    seen = compare(old, new, SHAPE)
    assert seen.changed == {"f:spec": {"f:size": {}, "f:nested": {".": {}, "f:level": {}}, "f:tags": {'v:"z"': {}}}}
    assert seen.removed == {"f:spec": {"f:note": {}, "f:tags": {'v:"x"': {}}}}
    same = compare(new, new, SHAPE)
    assert same.changed == {}
    assert same.removed == {}


def test_paths_are_written_as_conflicts_name_them() -> None:
    tree = {"f:spec": {"f:ports": {'k:{"name":"a","port":1}': {".": {}, "f:port": {}}}, "f:tags": {'v:"t"': {}}}}
    assert list(paths(tree)) == [
        '.spec.ports[name="a",port=1]',
        '.spec.ports[name="a",port=1].port',
        '.spec.tags[="t"]',
    ]
