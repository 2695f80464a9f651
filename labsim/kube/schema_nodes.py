"""The nodes of a compiled schema. `settle` is the walk of every write: prune, default, and tell whether all is well.

It makes no texts and stops at nothing: only where something is wrong does `problems` walk again and say what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from labsim.kube.cel import Rule, broken_rules
from labsim.kube.sameness import unchanged
from labsim.kube.schema_values import (
    FORMATS,
    Cause,
    Schema,
    cause,
    is_constrained,
    type_fits,
    type_problem,
    value_problems,
)

_EMBEDDED_KEYS = ("apiVersion", "kind", "metadata")

_EXACT = 2.0**63  # beyond which a whole number is left as it came


class Node:
    """One node of a schema: any value that is neither object nor list."""

    __slots__ = (
        "_default",
        "_fresh",
        "check",
        "constrained",
        "has_default",
        "has_rules",
        "integral",
        "nullable",
        "rules",
        "schema",
        "types",
    )

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.types = _quick_types(schema)
        self.nullable = bool(schema.get("nullable"))
        self.integral = schema.get("type") == "integer"
        self.constrained = is_constrained(schema)
        self.rules = tuple(Rule.of(entry) for entry in schema.get("x-kubernetes-validations", ()))
        self.has_rules = bool(self.rules)
        self.check: Callable[[Any], bool] = _checker(schema) if self.constrained else _always
        self.has_default = schema.get("default") is not None
        self._default = schema.get("default")
        self._fresh: bytes | None = None

    def default(self) -> Any:
        """A default value of one's own, itself defaulted."""
        if not isinstance(self._default, dict | list):
            return self._default
        if self._fresh is None:
            value = orjson.loads(orjson.dumps(self._default))
            self.settle(value)
            self._fresh = orjson.dumps(value)
        return orjson.loads(self._fresh)

    def settle(self, value: Any, old: Any = None) -> bool:
        """Prune and default in place; False where something is wrong. What is as in `old` is not walked again."""
        if type(value) not in self.types and not type_fits(self.schema, value):
            return False
        return not self.constrained or self.check(value)

    def unknown(self, value: Any, path: str, old: Any = None) -> Iterator[str]:
        """The paths that pruning would remove; what is the very same as in `old`, which was pruned, is not walked."""
        yield from ()

    def problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        """What is wrong. What was there before and did not change is let pass (ratcheting)."""
        if value is None and self.nullable:
            return
        if old is not None and old == value:
            return
        if not type_fits(self.schema, value):
            yield type_problem(self.schema, value, path)
            return
        if self.constrained:
            yield from value_problems(self.schema, value, path)
        yield from self.inner_problems(value, old, path)

    def inner_problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        yield from ()

    def rule_problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        """The broken CEL rules of this node and those below. An unchanged part is not evaluated again."""
        if value is None or value is old or (old is not None and old == value):
            return
        if self.rules:
            yield from broken_rules(self.rules, value, old, path)
        yield from self.inner_rule_problems(value, old, path)

    def inner_rule_problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        yield from ()


class ObjectNode(Node):
    """An object with known properties, or a map."""

    __slots__ = ("additional", "defaulted", "embedded", "keeps_unknown", "properties", "required", "uncorrelated")

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        self.properties = {key: node_of(child) for key, child in (schema.get("properties") or {}).items()}
        additional = schema.get("additionalProperties")
        self.additional = node_of(additional) if isinstance(additional, Mapping) else None
        self.embedded = bool(schema.get("x-kubernetes-embedded-resource"))
        self.keeps_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or additional is True
        self.required = tuple(schema.get("required", ())) + (("apiVersion", "kind") if self.embedded else ())
        self.defaulted = [(key, child) for key, child in self.properties.items() if child.has_default]
        self.uncorrelated = schema.get("x-kubernetes-map-type") == "atomic"
        children = [*self.properties.values(), *((self.additional,) if self.additional else ())]
        self.has_rules = self.has_rules or any(child.has_rules for child in children)

    def child(self, key: str) -> Node | None:
        return self.properties.get(key, self.additional)

    def settle(self, value: Any, old: Any = None) -> bool:
        return type(value) is dict and self.settle_members(value, (), old)

    def settle_members(self, value: dict[str, Any], skipped: tuple[str, ...], old: Any = None) -> bool:
        fine = True
        properties, additional = self.properties, self.additional
        before: dict[str, Any] = old if type(old) is dict else _NOTHING
        for key in tuple(value):
            child = properties.get(key, additional)
            if child is None:
                if key not in skipped and not self.keeps_unknown and not (self.embedded and key in _EMBEDDED_KEYS):
                    del value[key]
                continue
            if key in skipped:
                continue
            item = value[key]
            if key in before:
                earlier = before[key]
                if item is earlier:
                    continue
                if unchanged(item, earlier):
                    value[key] = earlier  # one tree for both states
                    continue
            if item is None:
                if child.nullable:
                    continue
                if child.has_default:
                    value[key] = child.default()
                else:
                    del value[key]
            elif not child.settle(item, before.get(key)):
                fine = False
            elif child.integral and type(item) is float and abs(item) < _EXACT:
                value[key] = int(item)
        for key, child in self.defaulted:
            if key not in value:
                value[key] = child.default()
        for key in self.required:
            if key not in value:
                return False
        return fine and (not self.constrained or self.check(value))

    def unknown(self, value: Any, path: str, old: Any = None) -> Iterator[str]:
        if not isinstance(value, dict):
            return
        before: dict[str, Any] = old if type(old) is dict else _NOTHING
        for key, item in value.items():
            earlier = before.get(key)
            if earlier is item and item is not None:
                continue
            here = f"{path}.{key}" if path else key
            child = self.child(key)
            if child is not None:
                yield from child.unknown(item, here, earlier)
            elif not self.keeps_unknown and not (self.embedded and key in _EMBEDDED_KEYS):
                yield here

    def inner_problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if not isinstance(value, dict):
            return
        for key in self.required:
            if key not in value:
                yield cause("FieldValueRequired", "Required value", f"{path}.{key}" if path else key)
        before = old if isinstance(old, dict) else {}
        for key, item in value.items():
            child = self.child(key)
            if child is not None:
                yield from child.problems(item, before.get(key), f"{path}.{key}" if path else key)

    def inner_rule_problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if not self.has_rules or not isinstance(value, dict):
            return
        before = old if isinstance(old, dict) and not self.uncorrelated else {}
        for key, item in value.items():
            child = self.child(key)
            if child is not None and child.has_rules:
                yield from child.rule_problems(item, before.get(key), f"{path}.{key}" if path else key)


class ListNode(Node):
    """A list: atomic, a set, or a map by keys."""

    __slots__ = ("items", "keys", "list_type")

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        items = schema.get("items")
        self.items = node_of(items) if isinstance(items, Mapping) else None
        self.list_type = schema.get("x-kubernetes-list-type", "atomic")
        self.keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        self.has_rules = self.has_rules or (self.items is not None and self.items.has_rules)

    def settle(self, value: Any, old: Any = None) -> bool:
        if type(value) is not list:
            return False
        fine = True
        if self.items is not None:
            items = self.items
            before = old if type(old) is list else ()
            known = len(before)
            for index, item in enumerate(value):
                earlier = before[index] if index < known else None
                if earlier is not None and unchanged(item, earlier):
                    value[index] = earlier
                    continue
                if item is None and not items.nullable and items.has_default:
                    value[index] = items.default()
                elif item is None and items.nullable:
                    continue
                elif not items.settle(item, earlier):
                    fine = False
        if self.list_type != "atomic" and len(value) > 1 and self._has_duplicates(value):
            return False
        return fine and (not self.constrained or self.check(value))

    def unknown(self, value: Any, path: str, old: Any = None) -> Iterator[str]:
        if isinstance(value, list) and self.items is not None and value is not old:
            for index, item in enumerate(value):
                yield from self.items.unknown(item, f"{path}[{index}]")

    def identity(self, item: Any) -> bytes:
        """What tells an item of a set or map list apart."""
        if self.list_type == "map" and isinstance(item, dict):
            return orjson.dumps([item.get(key) for key in self.keys])
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)

    def _has_duplicates(self, value: list[Any]) -> bool:
        if len(self.keys) == 1 and self.list_type == "map":
            key = self.keys[0]
            named = [item.get(key) for item in value if type(item) is dict]
            if len(named) == len(value) and set(map(type, named)) == _TEXTS:
                return len(set(named)) != len(named)
        return any(True for _ in self._duplicates(value, ""))

    def _duplicates(self, value: list[Any], path: str) -> Iterator[Cause]:
        seen: set[bytes] = set()
        for index, item in enumerate(value):
            identity = self.identity(item)
            if identity in seen:
                known = item
                if self.list_type == "map" and isinstance(item, dict):
                    known = {key: item.get(key) for key in self.keys}
                text = f"Duplicate value: {orjson.dumps(known).decode()}"
                yield cause("FieldValueDuplicate", text, f"{path}[{index}]")
            seen.add(identity)

    def _before(self, old: Any) -> dict[bytes, Any]:
        if self.list_type != "map" or not isinstance(old, list):
            return {}
        return {self.identity(item): item for item in old}

    def inner_problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if not isinstance(value, list):
            return
        if self.list_type != "atomic":
            yield from self._duplicates(value, path)
        if self.items is None:
            return
        before = self._before(old)
        for index, item in enumerate(value):
            earlier = before.get(self.identity(item)) if before else None
            yield from self.items.problems(item, earlier, f"{path}[{index}]")

    def inner_rule_problems(self, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if self.items is None or not self.items.has_rules or not isinstance(value, list):
            return
        before = self._before(old)
        for index, item in enumerate(value):
            earlier = before.get(self.identity(item)) if before else None
            yield from self.items.rule_problems(item, earlier, f"{path}[{index}]")


_NOTHING: dict[str, Any] = {}
_TEXTS = {str}


def node_of(schema: Schema) -> Node:
    """The compiled form of a schema."""
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        return Node(schema)
    if kind == "object" or (kind is None and schema.get("properties")):
        return ObjectNode(schema)
    if kind == "array":
        return ListNode(schema)
    return Node(schema)


_QUICK_TYPES: dict[Any, frozenset[type]] = {
    "string": frozenset((str,)),
    "integer": frozenset((int,)),
    "number": frozenset((int, float)),
    "boolean": frozenset((bool,)),
    None: frozenset((str, int, float, bool, dict, list, type(None))),
}


def _quick_types(schema: Schema) -> frozenset[type]:
    """Types of values that fit without a closer look."""
    if schema.get("x-kubernetes-int-or-string"):
        return frozenset((int, str))
    return _QUICK_TYPES.get(schema.get("type"), frozenset())


def _always(_value: Any) -> bool:
    return True


def _checker(schema: Schema) -> Callable[[Any], bool]:
    """A quick test of a schema's limits. An enum alone, the most frequent limit, needs no walk at all."""
    others = {key: schema[key] for key in schema if key != "enum"}
    if "enum" in schema and schema.get("type") == "string" and not is_constrained(others):
        allowed = [entry for entry in schema["enum"] if isinstance(entry, str)]
        if len(allowed) == len(schema["enum"]):
            return frozenset(allowed).__contains__
    wanted = FORMATS.get(schema.get("format", ""))
    if wanted is not None and not is_constrained({k: v for k, v in schema.items() if k != "format"}):
        return lambda value: not isinstance(value, str) or wanted(value)  # a format is of texts, whatever the type
    if schema.get("format") == "int64" and not is_constrained({k: v for k, v in schema.items() if k != "format"}):
        return _fits_int64
    return lambda value: next(value_problems(schema, value, ""), None) is None


def _fits_int64(value: Any) -> bool:
    return not isinstance(value, int | float) or -(2**63) <= value < 2**63
