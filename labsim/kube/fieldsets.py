"""Sets of fields, in the form in which managedFields keeps them (fieldsV1), and what is done with them.

A set is a tree of path elements: `f:name` (a field or map key), `k:{...}` (an item of a map list), `v:...` (a member of
a set). An element with an empty tree, or with the mark ".", is a member itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from labsim.kube.shapes import ANY, ANYTHING, LIST, SCALAR, STRUCT, Shape, deduced

FieldSet = dict[str, Any]  # element -> FieldSet

SELF = "."


def is_member(tree: FieldSet) -> bool:
    return not tree or SELF in tree


def item_element(shape: Shape, item: Any) -> str:
    """The path element of an item of a list whose items are told apart by value or by keys."""
    if shape.list_type == "set":
        return "v:" + _json(item)
    keys = {}
    for key in sorted(shape.keys):
        if isinstance(item, dict) and key in item:
            keys[key] = item[key]
        elif key in shape.key_defaults:
            keys[key] = shape.key_defaults[key]
    return "k:" + _json(keys)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def fields_of_value(value: Any, shape: Shape) -> FieldSet:
    """The fields that an applied configuration names."""
    shape = deduced(shape, value)
    made: FieldSet = {}
    if shape.atomic or value is None:
        return made
    if isinstance(value, dict) and shape.form not in (LIST, SCALAR):
        for key, child in value.items():
            inner = shape.of(key) or ANYTHING
            tree = fields_of_value(child, inner)
            if tree and key not in shape.fields:
                tree[SELF] = {}
            if not tree and _is_granular(child, inner) and child:
                continue  # a list or map without anything to own in it
            if not tree and isinstance(child, list) and not child and _is_granular(child, inner):
                continue
            if not tree and isinstance(child, dict) and child and not deduced(inner, child).atomic:
                continue  # nothing below it is owned, and so it is not
            made["f:" + key] = tree
    elif isinstance(value, list) and shape.form == LIST:
        for item in value:
            tree = fields_of_value(item, shape.item or ANYTHING) if shape.list_type == "map" else {}
            made[item_element(shape, item)] = {SELF: {}, **tree} if tree else {}
    return made


def _is_granular(value: Any, shape: Shape) -> bool:
    shape = deduced(shape, value)
    return not shape.atomic and shape.form in (LIST,) and isinstance(value, list)


class Comparison:
    """How one value became another: the fields that were added or modified, and those that were removed."""

    __slots__ = ("changed", "removed")

    def __init__(self) -> None:
        self.changed: FieldSet = {}
        self.removed: FieldSet = {}


def compare(old: Any, new: Any, shape: Shape) -> Comparison:
    """The difference of two objects (None stands for an object that is not there)."""
    result = Comparison()
    _compare(old, new, shape, result.changed, result.removed)
    return result


_ABSENT = object()


def _compare(old: Any, new: Any, shape: Shape, changed: FieldSet, removed: FieldSet) -> bool:
    """Fill the trees below one path; False where the path is a leaf (the caller then marks it)."""
    shape = deduced(shape, new if new not in (_ABSENT, None) else old)
    if shape.atomic or shape.form == SCALAR:
        return False
    if shape.form == LIST:
        before, after = _items(old, shape), _items(new, shape)
        inner = shape.item or ANYTHING
        if shape.list_type == "set":
            inner = _LEAF
        known: Shape | None = inner
    else:
        before = {"f:" + key: child for key, child in old.items()} if isinstance(old, dict) else {}
        after = {"f:" + key: child for key, child in new.items()} if isinstance(new, dict) else {}
        known = None
    if not before and not after:
        return False
    for element, value in after.items():
        earlier = before.get(element, _ABSENT)
        if earlier is not _ABSENT and earlier == value:
            continue
        child_shape = known or shape.of(element[2:]) or ANYTHING
        _compare_child(element, earlier, value, child_shape, changed, removed)
    for element, value in before.items():
        if element not in after:
            child_shape = known or shape.of(element[2:]) or ANYTHING
            _compare_child(element, value, _ABSENT, child_shape, changed, removed)
    return True


def _compare_child(element: str, old: Any, new: Any, shape: Shape, changed: FieldSet, removed: FieldSet) -> None:
    inner_changed: FieldSet = {}
    inner_removed: FieldSet = {}
    branched = _compare(old, new, shape, inner_changed, inner_removed)
    if old is _ABSENT:
        changed[element] = {SELF: {}, **inner_changed} if inner_changed else {}
    elif new is _ABSENT:
        removed[element] = {SELF: {}, **inner_removed} if inner_removed else {}
    elif not branched:
        changed[element] = {}
    else:
        if inner_changed:
            changed[element] = inner_changed
        if inner_removed:
            removed[element] = inner_removed


_LEAF = Shape(SCALAR)


def _items(value: Any, shape: Shape) -> dict[str, Any]:
    if not isinstance(value, list):
        return {}
    return {item_element(shape, item): item for item in value}


# -- algebra ---------------------------------------------------------------------------------------------------------


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    if not one:
        return other
    if not other:
        return one
    made = dict(one)
    for element, tree in other.items():
        if element not in made:
            made[element] = tree
            continue
        here = made[element]
        if here == tree:
            continue
        joined = union(here, tree)
        if (not here or not tree) and joined:
            joined = {SELF: {}, **joined}
        made[element] = joined
    return made


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """The members of `one` that are not members of `other`."""
    if not other:
        return one
    made: FieldSet = {}
    for element, tree in one.items():
        if element == SELF:
            continue
        against = other.get(element)
        if against is None:
            made[element] = tree
            continue
        rest = difference({key: tree[key] for key in tree if key != SELF}, against)
        stays = is_member(tree) and not is_member(against)
        if rest:
            made[element] = {SELF: {}, **rest} if stays else rest
        elif stays:
            made[element] = {}
    return made


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    made: FieldSet = {}
    for element, tree in one.items():
        if element == SELF or element not in other:
            continue
        against = other[element]
        both = is_member(tree) and is_member(against)
        inner = intersection(tree, against)
        if inner:
            made[element] = {SELF: {}, **inner} if both else inner
        elif both:
            made[element] = {}
    return made


def paths(tree: FieldSet, prefix: str = "") -> Iterator[str]:
    """The members, as conflicts name them: `.spec.ports[name="http"].port`."""
    for element, inner in tree.items():
        if element == SELF:
            continue
        path = prefix + _element_text(element)
        if is_member(inner):
            yield path
        yield from paths(inner, path)


def _element_text(element: str) -> str:
    kind, text = element[0], element[2:]
    if kind == "f":
        return f".{text}"
    if kind == "v":
        return f"[={text}]"
    keys = orjson.loads(text)
    return "[" + ",".join(f"{key}={_json(value)}" for key, value in keys.items()) + "]"


def remove_unowned(value: Any, shape: Shape, last: FieldSet, owned: FieldSet) -> None:
    """Remove from `value`, in place, what was applied last time and is owned by nobody now."""
    shape = deduced(shape, value)
    if isinstance(value, list):
        doomed = _doomed_items(value, shape, last, owned)
        if doomed:
            value[:] = [item for index, item in enumerate(value) if index not in doomed]
    elif isinstance(value, dict):
        for element, tree in last.items():
            if element == SELF or element[2:] not in value:
                continue
            key = element[2:]
            if _remove_below(value[key], shape.of(key) or ANYTHING, tree, owned.get(element)):
                del value[key]


def _doomed_items(value: list[Any], shape: Shape, last: FieldSet, owned: FieldSet) -> set[int]:
    doomed = set()
    for index, item in enumerate(value):
        element = item_element(shape, item)
        if element not in last:
            continue
        kept = owned.get(element)
        if kept is None:
            doomed.add(index)
        else:
            remove_unowned(item, shape.item or ANYTHING, last[element], kept)
    return doomed


def _remove_below(value: Any, shape: Shape, last: FieldSet, owned: FieldSet | None) -> bool:
    """Whether the element itself is to go."""
    inner = {key: last[key] for key in last if key != SELF}
    shape = deduced(shape, value)
    if inner and isinstance(value, dict | list) and not shape.atomic:
        remove_unowned(value, shape, inner, owned or {})
        if owned is not None:
            return False
        return not value or (is_member(last) and shape.form != STRUCT)
    return owned is None and (is_member(last) or shape.form == ANY)
