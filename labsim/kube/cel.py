"""CEL validation rules (x-kubernetes-validations), evaluated by the `cel` library (common-expression-language).

The library is loaded when the first rule is evaluated, and programs are compiled once. A rule that names `oldSelf` is a
transition rule: it counts only where there was a value before. A rule that fails to evaluate counts as broken, one that
the library cannot read (a function or syntax that it does not know) is let pass.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labsim.kube.cel_library import cel_library

_OLD_SELF = re.compile(r"\boldSelf\b")
_CALLED = re.compile(r"([A-Za-z]\w*)\s*\(")
_REASON_TITLES = {
    "FieldValueInvalid": "Invalid value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its expression, what to say when it is broken, and where."""

    expression: str
    message: str
    message_expression: str
    reason: str
    field_path: str
    is_transition: bool
    optional_old: bool

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Rule:
        expression = str(entry["rule"]).strip()
        names_old = bool(_OLD_SELF.search(expression))
        return cls(
            expression=expression,
            message=str(entry.get("message", "")),
            message_expression=str(entry.get("messageExpression", "")),
            reason=str(entry.get("reason") or "FieldValueInvalid"),
            field_path=str(entry.get("fieldPath", "")),
            is_transition=names_old and not entry.get("optionalOldSelf"),
            optional_old=names_old and bool(entry.get("optionalOldSelf")),
        )


def broken_rules(rules: Iterable[Rule], value: Any, old: Any, path: str) -> Iterator[dict[str, str]]:
    """A cause for each rule that does not hold. `old` of None: there was no value before."""
    for rule in rules:
        if rule.is_transition and old is None:
            continue
        activation: dict[str, Any] = {"self": value}
        if rule.optional_old:
            activation["oldSelf"] = _optional(old)
        elif rule.is_transition:
            activation["oldSelf"] = old
        if not _holds(rule.expression, activation):
            yield _cause(rule, activation, value, path)


def syntax_problem(expression: str) -> str:
    """What is wrong with an expression's text; "" for one that can be read, or that this library is too old for."""
    try:
        _program(expression)
    except ValueError as problem:
        text = str(problem)
        return "" if "unsupported syntax" in text else text.partition("\n")[0]
    return ""


def _cause(rule: Rule, activation: dict[str, Any], value: Any, path: str) -> dict[str, str]:
    message = ""
    if rule.message_expression:
        said = _evaluated(rule.message_expression, activation)
        message = said.strip() if isinstance(said, str) and "\n" not in said else ""
    message = message or rule.message or f"failed rule: {rule.expression}"
    title = _REASON_TITLES.get(rule.reason, "Invalid value")
    shown = ""
    if rule.reason in ("FieldValueInvalid", "FieldValueDuplicate") and not rule.field_path:
        shown = _shown(value)
    return {
        "reason": rule.reason,
        "message": f"{title}: {shown}{message}",
        "field": f"{path}{rule.field_path}".lstrip(".") or "<nil>",
    }


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}": '
    if isinstance(value, bool):
        return f"{str(value).lower()}: "
    return f"{value}: " if isinstance(value, int | float) else ""


def _holds(expression: str, activation: dict[str, Any]) -> bool:
    return _evaluated(expression, activation, unknown=True) is True


def _evaluated(expression: str, activation: dict[str, Any], *, unknown: Any = None) -> Any:
    """The value of an expression; `unknown` where the library cannot read it, None where it fails."""
    try:
        program, functions = _program(expression)
    except ValueError:
        return unknown
    try:
        if functions:
            return program.execute(_context(functions, activation))
        return program.execute(activation)
    except RuntimeError as problem:
        return unknown if "Undefined variable or function" in str(problem) else None
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return None


@functools.lru_cache(maxsize=2048)
def _program(expression: str) -> tuple[Any, frozenset[str]]:
    """The compiled expression, and the names of Kubernetes' own functions that it calls."""
    from labsim.kube.cel_functions import FUNCTIONS

    called = frozenset(_CALLED.findall(expression)) & FUNCTIONS.keys()
    return cel_library().compile(expression), frozenset(called)


def _context(names: frozenset[str], activation: dict[str, Any]) -> Any:
    from labsim.kube.cel_functions import FUNCTIONS

    context = cel_library().Context(functions={name: FUNCTIONS[name] for name in names})
    context.update(activation)
    return context


def _optional(value: Any) -> Any:
    cel = cel_library()
    return cel.OptionalValue.none() if value is None else cel.OptionalValue.of(value)
