"""Schemas: the quick walk of every write against the slow one that explains, and upstream's texts."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kube_lab import WIDGET_SPEC, definitions

from labsim.kube.definitions import definition_problems
from labsim.kube.schema import StructuralSchema
from labsim.kube.schema_nodes import node_of

CHECKED = {key: value for key, value in WIDGET_SPEC.items() if key != "x-kubernetes-validations"}
CHECKED["properties"] = {key: value for key, value in WIDGET_SPEC["properties"].items() if key != "fixed"}
NODE = node_of(CHECKED)

SCALARS = st.none() | st.booleans() | st.integers(-2, 120) | st.sampled_from(["", "red", "abc", "ABC", "toolongtext"])
KEYS = st.sampled_from([*CHECKED["properties"], "name", "port", "level", "unknown"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))
SPECS = st.dictionaries(KEYS, VALUES, max_size=6)


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


@settings(max_examples=300, deadline=None)
@given(SPECS)
def test_the_quick_walk_and_the_explaining_one_agree(spec: Any) -> None:
    fine = NODE.settle(spec)
    assert fine == (list(NODE.problems(spec, None, "spec")) == [])


@settings(max_examples=300, deadline=None)
@given(SPECS, SPECS)
def test_knowing_the_state_before_changes_no_result(old: Any, new: Any) -> None:
    if not NODE.settle(old):
        return
    whole, partly = _copy(new), _copy(new)
    assert NODE.settle(partly, old) == NODE.settle(whole)
    assert orjson.dumps(partly, option=orjson.OPT_SORT_KEYS) == orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)


@settings(max_examples=200, deadline=None)
@given(SPECS)
def test_a_settled_value_stays_as_it_is(spec: Any) -> None:
    NODE.settle(spec)
    again = _copy(spec)
    NODE.settle(again)
    assert again == spec


def test_true_is_not_one() -> None:
    """Python takes them for equal; a boolean that becomes a number is a change, and wrong."""
    node = node_of({"type": "object", "properties": {"paused": {"type": "boolean"}}})
    assert node.settle({"paused": True})
    assert not node.settle({"paused": 1}, {"paused": True})


def _completed(spec: Any, schema: Any = None) -> Any:
    checker = StructuralSchema({"properties": {"spec": schema or WIDGET_SPEC}})
    obj = {"metadata": {"name": "w"}, "spec": spec}
    checker.complete(obj)
    return checker, obj


def _problems(spec: Any, old: Any = None, schema: Any = None) -> Any:
    checker, obj = _completed(spec, schema)
    before = None if old is None else _completed(old, schema)[1]
    return [(found["field"], found["message"]) for found in checker.problems(obj, before)]


def test_pruning_and_defaults() -> None:
    _, obj = _completed({"nested": {"zz": 1}, "zz": 2, "free": {"zz": 3}, "maybe": None, "size": None, "color": None})
    assert obj["spec"] == {"nested": {"level": 7}, "free": {"zz": 3}, "maybe": None, "color": "red"}


def test_defaults_are_not_shared() -> None:
    node = node_of(
        {"type": "object", "properties": {"a": {"type": "array", "default": [1], "items": {"type": "integer"}}}}
    )
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    node.settle(one)
    node.settle(other)
    one["a"].append(2)
    assert other == {"a": [1]}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"size": "5"}, "spec.size", 'Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"size": -1}, "spec.size", "Invalid value: -1: spec.size in body should be greater than or equal to 0"),
        ({"size": 101}, "spec.size", "Invalid value: 101: spec.size in body should be less than or equal to 100"),
        ({"note": "A1"}, "spec.note", "Invalid value: \"A1\": spec.note in body should match '^[a-z]+$'"),
        ({"note": "a\n"}, "spec.note", "Invalid value: \"a\\n\": spec.note in body should match '^[a-z]+$'"),
        ({"note": "toolongtext"}, "spec.note", "Too long: may not be more than 8 bytes"),
        ({"color": "pink"}, "spec.color", 'Unsupported value: "pink": supported values: "red", "green", "blue"'),
        (
            {"any": True},
            "spec.any",
            'Invalid value: "boolean": spec.any in body must be of type integer,string: "boolean"',
        ),
        ({"ports": [{"port": 1}]}, "spec.ports[0].name", "Required value"),
        ({"tags": ["a", "a"]}, "spec.tags[1]", 'Duplicate value: "a"'),
        ({"ports": [{"name": "a"}, {"name": "a"}]}, "spec.ports[1]", 'Duplicate value: {"name":"a"}'),
        (
            {"args": [None]},
            "spec.args[0]",
            'Invalid value: "null": spec.args[0] in body must be of type string: "null"',
        ),
    ],
)
def test_what_is_wrong_is_said_in_upstreams_words(spec: Any, field: Any, message: Any) -> None:
    assert not node_of(WIDGET_SPEC).settle(_copy(spec))
    assert (field, message) in _problems(spec)


def test_rules_are_not_asked_where_the_object_would_mislead_them() -> None:
    found = _problems({"size": "5", "replicas": 9})
    assert any(field == "<nil>" and "some validation rules were not checked" in message for field, message in found)
    assert ("spec", "Invalid value: too many") in _problems({"size": 1, "replicas": 9, "note": "A"})


def test_transition_rules_ask_for_the_state_before() -> None:
    assert _problems({"fixed": "a"}) == []
    assert _problems({"fixed": "a"}, {"fixed": "a"}) == []
    assert _problems({"fixed": "b"}, {"fixed": "a"}) == [("spec.fixed", 'Invalid value: "b": fixed is fixed')]
    assert _problems({"fixed": "b"}, {}) == []


def test_what_was_wrong_before_and_did_not_change_is_let_pass() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x"}, "b": {"type": "string"}}}
    checker = StructuralSchema({"properties": {"spec": schema}})
    old = {"metadata": {"name": "w"}, "spec": {"a": "bad", "b": "1"}}
    assert checker.problems({**old, "spec": {"a": "bad", "b": "2"}}, old) == []
    assert len(checker.problems({**old, "spec": {"a": "worse", "b": "1"}}, old)) == 1


def test_combinations() -> None:
    part = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    either = {**part, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert _problems({"a": "1"}, schema=either) == []
    assert _problems({}, schema=either)[0][1] == (
        'Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid'
    )
    assert "Found 2 valid alternatives" in _problems({"a": "1", "b": "2"}, schema=either)[0][1]
    assert "must not validate the schema" in _problems({"a": "1"}, schema={**part, "not": {"required": ["a"]}})[0][1]
    assert "at least one schema" in _problems({}, schema={**part, "anyOf": [{"required": ["a"]}]})[0][1]


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date-time", "2026-01-02T03:04:05.123Z", "yesterday"),
        ("byte", "YQ==", "not base64!"),
        ("ipv4", "192.0.2.1", "192.0.2"),
        ("uri", "https://a.test/b", "no uri"),
        ("duration", "1h30m", "soon"),
        ("email", "a@b.test", "ab.test"),
    ],
)
def test_formats(form: Any, good: Any, bad: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": form}}}
    assert _problems({"a": good}, schema=schema) == []
    assert _problems({"a": bad}, schema=schema)[0][1].endswith(f"must be of type {form}: {orjson.dumps(bad).decode()}")


@pytest.mark.parametrize(
    ("schema", "field", "message"),
    [
        ({"type": "string"}, "type", 'Invalid value: "string": must be object at the root'),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
            "properties[a].default",
            "must be of type",
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "object", "oneOf": [{"properties": {"z": {"type": "string"}}}]}},
            },
            "properties[a].oneOf[0].properties[z].type",
            "Forbidden: must be empty to be structural",
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > ("}]}},
            },
            "properties[a].x-kubernetes-validations[0].rule",
            "compilation failed",
        ),
    ],
)
def test_schemas_that_are_not_structural(schema: Any, field: Any, message: Any) -> None:
    definition = definitions()[1]
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    definition["status"] = {"storedVersions": ["v1"]}
    (found,) = definition_problems(definition, None)
    assert found["field"] == f"spec.validation.openAPIV3Schema.{field}"
    assert message in found["message"]
