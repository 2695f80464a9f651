"""Merging trees: merge patches (RFC 7386), strategic merge patches of built-in kinds, and applied configurations."""

from __future__ import annotations

from typing import Any

import orjson

from labsim.kube.errors import ApiError, bad_request
from labsim.kube.fieldsets import item_element
from labsim.kube.go_json import go_text
from labsim.kube.shapes import ANYTHING, LIST, SCALAR, Shape, deduced

_DIRECTIVE = "$patch"
_DELETE_PRIMITIVE = "$deleteFromPrimitiveList/"
_SET_ORDER = "$setElementOrder/"
_RETAIN = "$retainKeys"


def merge_patched(target: Any, patch: Any) -> Any:
    """A tree with a merge patch applied: null removes, everything but objects replaces. `target` is not changed."""
    if not isinstance(patch, dict):
        return patch
    result = {**target} if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif type(value) is dict:
            result[key] = merge_patched(result.get(key), value)
        else:
            result[key] = value
    return result


def merge_adopted(target: Any, patch: Any) -> Any:
    """`merge_patched` for a patch that its maker goes on using: the result holds none of its containers.

    What is the very same as in `target` stays so and is not copied: a list of conditions of which one has changed.
    """
    if type(patch) is not dict:
        return _adopted(patch, target)
    result = {**target} if type(target) is dict else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif type(value) in _SCALARS:
            result[key] = value
        else:
            result[key] = merge_adopted(result.get(key), value)
    return result


_SCALARS = frozenset((str, int, bool, float))


def _adopted(value: Any, earlier: Any) -> Any:
    """A copy of a value of a patch, but for what `earlier` holds already."""
    if type(value) is not list:
        return orjson.loads(orjson.dumps(value))
    if value is earlier:
        return value
    known = set(map(id, earlier)) if type(earlier) is list else _NONE
    return [item if type(item) in _SCALARS or id(item) in known else orjson.loads(orjson.dumps(item)) for item in value]


_NONE: frozenset[int] = frozenset()


# -- applied configurations ------------------------------------------------------------------------------------------


def merged_values(live: Any, config: Any, shape: Shape) -> Any:
    """The live value with an applied one merged into it."""
    shape = deduced(shape, config)
    if shape.atomic or shape.form == SCALAR or config is None:
        return config
    if isinstance(config, dict) and isinstance(live, dict):
        result = dict(live)
        for key, value in config.items():
            inner = shape.of(key) or ANYTHING
            result[key] = merged_values(live[key], value, inner) if key in live else value
        return result
    if isinstance(config, list) and isinstance(live, list) and shape.form == LIST:
        return _merged_items(live, config, shape)
    return config


def _merged_items(live: list[Any], config: list[Any], shape: Shape) -> list[Any]:
    """The items of both: applied ones in the order of the configuration, the others where they stood."""
    inner = shape.item or ANYTHING
    before = {item_element(shape, item): item for item in live}
    after = {item_element(shape, item): item for item in config}
    here, there = list(before), list(after)
    shared = iter([element for element in there if element in before])
    awaited = next(shared, None)
    result: list[Any] = []
    left = right = 0
    while left < len(here) or right < len(there):
        if left < len(here):
            element = here[left]
            if element not in after:
                result.append(before[element])
                left += 1
                continue
            if right < len(there) and element == there[right]:
                result.append(merged_values(before[element], after[element], inner))
                left, right = left + 1, right + 1
                awaited = next(shared, None)
                continue
            if element != awaited:
                left += 1
                continue
        if right >= len(there):
            left += 1
            continue
        element = there[right]
        item = after[element]
        result.append(merged_values(before[element], item, inner) if element in before else item)
        if element == awaited:
            awaited = next(shared, None)
        right += 1
    return result


# -- strategic merge patches -----------------------------------------------------------------------------------------


def strategically_merged(target: Any, patch: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """A built-in object with a strategic merge patch applied; ApiError for a directive that does not exist."""
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise ApiError(500, "", f"unknown patch type: {directive} in map: {go_text(patch)}")
    result = dict(target) if isinstance(target, dict) else {}
    retained = patch.get(_RETAIN)
    if isinstance(retained, list):
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVE):
            field = key[len(_DELETE_PRIMITIVE) :]
            present = result.get(field)
            if not isinstance(value, list) or not isinstance(present, list | None):
                raise bad_request("invalid patch format of primitive list")
            gone = set(map(_mark, value))
            result[field] = [item for item in present or [] if _mark(item) not in gone]
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
            continue
        if isinstance(value, dict) and value.get(_DIRECTIVE) == "delete":
            result.pop(key, None)
            continue
        merged = _merged_field(result.get(key), value, shape.of(key) or ANYTHING)
        order = patch.get(_SET_ORDER + key)
        if isinstance(order, list) and isinstance(merged, list):
            merged = _in_order(merged, order, shape.of(key) or ANYTHING)
        result[key] = merged
    for key, order in patch.items():
        field = key[len(_SET_ORDER) :]
        if key.startswith(_SET_ORDER) and field not in patch and isinstance(result.get(field), list):
            result[field] = _in_order(result[field], order, shape.of(field) or ANYTHING)
    return result


def _merged_field(target: Any, value: Any, shape: Shape) -> Any:
    if isinstance(value, dict):
        return strategically_merged(target, value, deduced(shape, value))
    if isinstance(value, list):
        return _strategic_list(target if isinstance(target, list) else [], value, shape)
    return value


def _strategic_list(target: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    if not shape.merge:
        return [item for item in patch if not _is_directive(item)]
    if not shape.merge_key:
        there, said = {_mark(item): item for item in target}, {_mark(item): item for item in patch}
        woven = _woven([mark for mark in map(_mark, target) if mark not in said], list(said), list(there))
        return [said[mark] if mark in said else there[mark] for mark in woven]
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [item for item in patch if not _is_directive(item)]
    key, inner = shape.merge_key, shape.item or ANYTHING
    before: dict[Mark, Any] = {_mark(item.get(key)): item for item in target}
    named: dict[Mark, Any] = {}
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise ApiError(500, "", f"map: {go_text(item)} does not contain declared merge key: {key}")
        mark = _mark(item[key])
        if item.get(_DIRECTIVE) == "delete":
            before.pop(mark, None)
        else:
            named[mark] = strategically_merged(named.get(mark, before.get(mark, {})), item, inner)
    order = [_mark(item.get(key)) for item in target]
    woven = _woven([value for value in before if value not in named], list(named), order)
    return [named[value] if value in named else before[value] for value in woven]


def _is_directive(item: Any) -> bool:
    return isinstance(item, dict) and _DIRECTIVE in item


Mark = str | bytes


def _mark(value: Any) -> Mark:
    """What tells a value from others, and can be looked up, whatever a client has sent."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _woven(left: list[Mark], right: list[Mark], order: list[Mark]) -> list[Mark]:
    """What only the server has (left) among what the patch names (right), by the server's order where both are in it.

    Where that says nothing, what the patch names comes first.
    """
    result: list[Mark] = []
    places = {mark: place for place, mark in reversed(list(enumerate(order)))}
    i = j = 0
    while i < len(left) and j < len(right):
        own, others = places.get(left[i]), places.get(right[j])
        if own is not None and others is not None and own < others:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return [*result, *left[i:], *right[j:]]


def _in_order(items: list[Any], wanted: list[Any], shape: Shape) -> list[Any]:
    """Items in the order that the patch asks for; those it does not name stay behind their neighbours."""
    key = shape.merge_key

    def of(item: Any) -> Mark:
        return _mark(item.get(key) if key and isinstance(item, dict) else item)

    asked = dict.fromkeys(of(entry) for entry in wanted)
    found = {of(item): item for item in items}
    named = [mark for mark in asked if mark in found]
    return [found[mark] for mark in _woven([mark for mark in found if mark not in asked], named, list(found))]
