"""Whether the CEL rules of a CustomResourceDefinition can stand: their parts, the fields they name, and their cost.

There is no type checker here. What is found is certain: a field that is not declared, a result that is no truth value,
loops in loops over lists without a limit, which no budget allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from labsim.kube.cel import syntax_problem
from labsim.kube.errors import cause

Cause = dict[str, str]
Schema = Mapping[str, Any]

_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_LITERAL = re.compile(r"r?\"(?:[^\"\\]|\\.)*\"|r?'(?:[^'\\]|\\.)*'")
_SELF_FIELD = re.compile(r"(?<![\w.])self\.([A-Za-z_]\w*)(?!\w)\s*(\()?")
_BINDS_SELF = re.compile(r"\.(?:all|exists|exists_one|filter|map)\(\s*self\s*,")
_LOOP = re.compile(r"[\w\])]\.(?:all|exists|exists_one|filter|map)\($")
_KEYWORDS = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return"),
    )
)
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_LIMITS = ("maxItems", "maxProperties")
_SIMPLER = (
    "exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and "
    "maxLength where arrays, maps, and strings are declared)"
)


def rule_problems(schema: Schema, path: str, *, at_root: bool) -> Iterator[Cause]:
    """What is wrong with the rules of one node."""
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        yield from _one_rule(schema, rule, f"{path}.x-kubernetes-validations[{index}]", at_root)


def _one_rule(schema: Schema, rule: Schema, here: str, at_root: bool) -> Iterator[Cause]:
    expression, message = str(rule.get("rule", "")), str(rule.get("message", ""))
    if not expression.strip():
        yield cause("FieldValueRequired", "Required value: rule is not specified", f"{here}.rule")
        return
    if "\n" in expression.strip() and not message:
        text = "Required value: message must be specified if rule contains line breaks"
        yield cause("FieldValueRequired", text, f"{here}.message")
    if "\n" in message:
        text = f"Invalid value: {_json(message)}: must not contain line breaks"
        yield cause("FieldValueInvalid", text, f"{here}.message")
    reason = rule.get("reason")
    if reason is not None and reason not in _REASONS:
        known = ", ".join(_json(name) for name in _REASONS)
        text = f"Unsupported value: {_json(reason)}: supported values: {known}"
        yield cause("FieldValueNotSupported", text, f"{here}.reason")
    if rule.get("fieldPath") and not _leads_somewhere(schema, str(rule["fieldPath"])):
        text = f"Invalid value: {_json(rule['fieldPath'])}: must be a valid path"
        yield cause("FieldValueInvalid", text, f"{here}.fieldPath")
    if rule.get("optionalOldSelf") is not None and "oldSelf" not in expression:
        text = "Invalid value: true: may not be set if oldSelf is not used in rule"
        yield cause("FieldValueInvalid", text, f"{here}.optionalOldSelf")
    problem = _expression_problem(schema, expression, at_root)
    if problem:
        yield cause("FieldValueInvalid", f"Invalid value: {_shown(rule)}: {problem}", f"{here}.rule")
    said = str(rule.get("messageExpression", "")).strip()
    if said and re.fullmatch(r"-?\d+(\.\d+)?u?|true|false|null", said):
        text = f"Invalid value: {_shown(rule)}: messageExpression must evaluate to a string"
        yield cause("FieldValueInvalid", text, f"{here}.messageExpression")
    if problem == "" and _is_endless(schema, expression):
        yield cause("FieldValueForbidden", f"Forbidden: estimated rule cost {_SIMPLER}", f"{here}.rule")
        text = "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        yield cause("FieldValueForbidden", text, f"{here}.rule")


def total_cost_problem(causes: list[Cause], path: str) -> Iterator[Cause]:
    """What is said of a whole schema whose rules cost too much."""
    if any("contributed to estimated rule cost" in found["message"] for found in causes):
        text = f"Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema {_SIMPLER}"
        yield cause("FieldValueForbidden", text, path)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _shown(rule: Schema) -> str:
    """A rule as Go prints the internal type."""
    return _json(
        {
            "Rule": rule.get("rule", ""),
            "Message": rule.get("message", ""),
            "MessageExpression": rule.get("messageExpression", ""),
            "Reason": rule.get("reason"),
            "FieldPath": rule.get("fieldPath", ""),
            "OptionalOldSelf": rule.get("optionalOldSelf"),
        }
    )


def _expression_problem(schema: Schema, expression: str, at_root: bool) -> str:
    problem = syntax_problem(expression)
    if problem:
        return f"compilation failed: {problem}"
    bare = _LITERAL.sub(lambda match: " " * len(match[0]), expression)
    if _BINDS_SELF.search(bare):
        return ""
    kind = schema.get("type")
    if kind in ("integer", "string", "boolean", "number"):
        for match in _SELF_FIELD.finditer(bare):
            if not match[2]:
                return f"compilation failed: type '{kind}' does not support field selection"
    properties = schema.get("properties")
    if kind != "object" or not properties:
        return ""
    known = {_escaped(name) for name in properties} | ({"apiVersion", "kind", "metadata"} if at_root else set())
    if schema.get("x-kubernetes-embedded-resource"):
        known |= {"apiVersion", "kind", "metadata"}
    for match in _SELF_FIELD.finditer(bare):
        if not match[2] and match[1] not in known:
            column = match.start() + len("self")
            text = f"undefined field '{match[1]}'\n | {expression}\n | {'.' * column}^"
            return f"compilation failed: ERROR: <input>:1:{column + 1}: {text}"
    whole = re.fullmatch(r"self\.([A-Za-z_]\w*)", expression.strip())
    if whole is not None and (properties.get(whole[1]) or {}).get("type") not in (None, "boolean"):
        return "cel expression must evaluate to a bool"
    return ""


def _escaped(name: str) -> str:
    """A property's name as rules spell it."""
    if name in _KEYWORDS:
        return f"__{name}__"
    for letter, text in _ESCAPES:
        name = name.replace(letter, text)
    return name


def _leads_somewhere(schema: Schema, path: str) -> bool:
    node: Any = schema
    for match in re.finditer(r"\.([^.\[]+)|\['([^']+)'\]", path):
        name = match[1] or match[2]
        properties = node.get("properties") or {}
        additional = node.get("additionalProperties")
        node = properties.get(name, additional if isinstance(additional, Mapping) else None)
        if not isinstance(node, Mapping):
            return False
    return True


def _is_endless(schema: Schema, expression: str) -> bool:
    """Whether a rule runs loops in loops over what has no limit."""
    bare = _LITERAL.sub('""', expression)
    open_loops: list[bool] = []
    deepest = 0
    for at, letter in enumerate(bare):
        if letter == "(":
            open_loops.append(_LOOP.search(bare[: at + 1]) is not None)
            deepest = max(deepest, sum(open_loops))
        elif letter == ")" and open_loops:
            open_loops.pop()
    return deepest >= 2 and "[" not in bare and not _has_limit(schema)


def _has_limit(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return any(name in schema for name in _LIMITS) or any(_has_limit(item) for item in schema.values())
    return isinstance(schema, list) and any(_has_limit(item) for item in schema)
