"""CEL validation rules (x-kubernetes-validations), evaluated by the `cel` library (common-expression-language).

The library is loaded when the first rule is evaluated, and programs are compiled once. A rule that names `oldSelf` is a
transition rule: it counts only where there was a value before. A rule that fails to evaluate counts as broken.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_OLD_SELF = re.compile(r"\boldSelf\b")


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its expression, what to say when it is broken, and where."""

    expression: str
    message: str
    message_expression: str
    reason: str
    field_path: str
    is_transition: bool

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Rule:
        expression = str(entry["rule"])
        return cls(
            expression=expression,
            message=str(entry.get("message", "")),
            message_expression=str(entry.get("messageExpression", "")),
            reason=str(entry.get("reason", "FieldValueInvalid")),
            field_path=str(entry.get("fieldPath", "")),
            is_transition=bool(_OLD_SELF.search(expression)) and not entry.get("optionalOldSelf"),
        )


def broken_rules(rules: Iterable[Rule], value: Any, old: Any, path: str) -> Iterator[dict[str, str]]:
    """A cause for each rule that does not hold."""
    activation: dict[str, Any] | None = None
    for rule in rules:
        if rule.is_transition and old is None:
            continue
        if activation is None:
            activation = {"self": value} if old is None else {"self": value, "oldSelf": old}
        if not _holds(rule.expression, activation):
            text = rule.message or f"failed rule: {rule.expression}"
            yield {
                "reason": rule.reason,
                "message": f"Invalid value: {text}",
                "field": f"{path}{rule.field_path}" or "<nil>",
            }


def _holds(expression: str, activation: dict[str, Any]) -> bool:
    try:
        return bool(_program(expression).execute(activation))
    except (RuntimeError, TypeError, ValueError):
        return False


@functools.lru_cache(maxsize=1024)
def _program(expression: str) -> Any:
    import cel

    return cel.compile(expression)
