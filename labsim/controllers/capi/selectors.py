"""LabelSelector objects (matchLabels and matchExpressions), as predicates and in text form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Matcher = Callable[[Mapping[str, str]], bool]


def matcher(selector: Mapping[str, Any] | None) -> Matcher:
    """Whether labels match; an absent or empty selector matches everything."""
    wanted: dict[str, str] = dict((selector or {}).get("matchLabels") or {})
    expressions = [_expression(entry) for entry in (selector or {}).get("matchExpressions") or ()]

    def matches(labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in wanted.items()) and all(
            holds(labels) for holds in expressions
        )

    return matches


def _expression(entry: Mapping[str, Any]) -> Matcher:
    key, operator, values = entry["key"], entry["operator"], frozenset(entry.get("values") or ())
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    raise ValueError(f'"{operator}" is not a valid label selector operator')


def is_empty(selector: Mapping[str, Any] | None) -> bool:
    return not (selector or {}).get("matchLabels") and not (selector or {}).get("matchExpressions")


def text_of(selector: Mapping[str, Any] | None) -> str:
    """The selector as `status.selector` shows it."""
    parts = [f"{key}={value}" for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for entry in (selector or {}).get("matchExpressions") or ():
        key, values = entry["key"], ",".join(sorted(entry.get("values") or ()))
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[entry["operator"]]
        )
    return ",".join(sorted(parts))
