"""Label and field selectors in their text form."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from labsim.kube.label_syntax import label_key_problems, label_value_problems
from labsim.kube.short_texts import cached_if_short
from labsim.model.objects import Object, dig

_INTEGER = re.compile(r"[+-]?[0-9]+")
_TOKENS = re.compile(r"\s+|==|!=|[=!(),<>]|[^\s=!(),<>]+")
_END = ""
_NO_KEYS = (_END, ",", "(", ")", "=", "==", "!=", "<", ">")
_OPERATORS = "in, notin, =, ==, !=, gt, lt"


@dataclasses.dataclass(frozen=True, slots=True)
class Requirement:
    """One term. `operator` is one of = != in notin exists !exists > <."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value, operator = labels.get(self.key), self.operator
        if operator in ("=", "in"):
            return value in self.values
        if operator in ("!=", "notin"):
            return value not in self.values
        if operator == "exists":
            return value is not None
        if operator == "!exists":
            return value is None
        if value is None or not _INTEGER.fullmatch(value):
            return False
        return int(value) > int(self.values[0]) if operator == ">" else int(value) < int(self.values[0])


@dataclasses.dataclass(frozen=True, slots=True)
class LabelSelector:
    """Terms that must all hold; none at all matches everything."""

    requirements: tuple[Requirement, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        if len(self.requirements) == 1:
            return self.requirements[0].matches(labels)
        return all(requirement.matches(labels) for requirement in self.requirements)


@cached_if_short(1024)
def parse_label_selector(text: str) -> LabelSelector:
    """The selector that a text says; ValueError, with the API server's words, for a text that is none."""
    return LabelSelector(tuple(_Parser(text).selector()))


def _is_int64(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and len(text) < 64 and -(1 << 63) <= int(text) < 1 << 63


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = [piece for piece in _TOKENS.findall(text) if not piece.isspace()]
        self._at = 0

    def selector(self) -> list[Requirement]:
        found: list[Requirement] = []
        if self._peek() == _END:
            return found
        if self._peek() in _NO_KEYS:
            raise ValueError(f"found '{self._peek()}', expected: !, identifier, or 'end of string'")
        while True:
            found.append(self._requirement())
            piece = self._next()
            if piece == _END:
                return found
            if piece != ",":
                raise ValueError(f"found '{piece}', expected: ',' or 'end of string'")
            if self._peek() in _NO_KEYS:
                raise ValueError(f"found '{self._peek()}', expected: identifier after ','")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _next(self) -> str:
        piece = self._peek()
        self._at += 1
        return piece

    def _requirement(self) -> Requirement:
        negated = self._peek() == "!"
        if negated:
            self._next()
        key = self._next()
        if key in (*_NO_KEYS, "!"):
            raise ValueError(f"unable to parse requirement: found '{key}', expected: identifier")
        for problem in label_key_problems(key):
            raise ValueError(f'unable to parse requirement: <nil>: Invalid value: "{key}": {problem}')
        if negated:
            return Requirement(key, "!exists")
        if self._peek() in (_END, ","):
            return Requirement(key, "exists")
        return self._compared(key)

    def _compared(self, key: str) -> Requirement:
        operator = self._next()
        if operator in ("in", "notin"):
            return self._checked(Requirement(key, operator, self._values()))
        if operator in ("=", "==", "!=", ">", "<"):
            value = self._peek()
            if value in (_END, ","):
                value = ""
            else:
                self._next()
            if operator in "><" and not _is_int64(value):
                raise ValueError(
                    f'unable to parse requirement: values[0]: Invalid value: "{value}": '
                    "for 'Gt', 'Lt' operators, the value must be an integer"
                )
            return self._checked(Requirement(key, "=" if operator == "==" else operator, (value,)))
        raise ValueError(f"unable to parse requirement: found '{operator}', expected: {_OPERATORS}")

    def _values(self) -> tuple[str, ...]:
        piece = self._next()
        if piece != "(":
            raise ValueError(f"unable to parse requirement: found '{piece}' expected: '('")
        values: list[str] = []
        piece = self._next()
        while True:
            if piece == ")":
                return tuple(values) or ("",)
            if piece == ",":
                values.append("")
                piece = self._next()
                continue
            if piece == _END:
                raise ValueError("unable to parse requirement: found '', expected: ',' or ')'")
            values.append(piece)
            piece = self._next()
            if piece == ")":
                return tuple(values)
            if piece != ",":
                raise ValueError(f"unable to parse requirement: found '{piece}', expected: ',' or ')'")
            piece = self._next()
            if piece == ")":
                return (*values, "")

    @staticmethod
    def _checked(requirement: Requirement) -> Requirement:
        for index, value in enumerate(requirement.values):
            for problem in label_value_problems(value):
                raise ValueError(
                    f"unable to parse requirement: values[{index}][{requirement.key}]: "
                    f'Invalid value: "{value}": {problem}'
                )
        return requirement


@cached_if_short(1024)
def parse_field_selector(text: str) -> tuple[tuple[str, bool, str], ...]:
    """(path, equal or not, value) of each term; ValueError for a text that is no field selector."""
    terms = []
    for part in _TERMS.findall(text):
        if not part:
            continue
        match = _TERM.fullmatch(part)
        if match is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = match.groups()
        terms.append((path, operator != "!=", _unescaped(value)))
    return tuple(terms)


_TERMS = re.compile(r"(?:[^,\\]|\\.?)+", re.DOTALL)
_TERM = re.compile(r"((?:[^=!\\]|\\.|!(?!=))*?)(!=|==|=)(.*)", re.DOTALL)


def _unescaped(value: str) -> str:
    """A value without the backslashes before commas, equals signs and backslashes."""
    if "\\" not in value and "=" not in value:
        return value
    made: list[str] = []
    at = 0
    while at < len(value):
        letter = value[at]
        if letter == "\\":
            escaped = value[at + 1 : at + 2]
            if escaped not in ("\\", ",", "="):
                raise ValueError(f"invalid field selector: invalid escape sequence: \\{escaped}")
            letter, at = escaped, at + 1
        elif letter == "=":
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(letter)}")  # as Go shows it
        made.append(letter)
        at += 1
    return "".join(made)


_FALSE_WHEN_ABSENT = frozenset(("spec.unschedulable", "spec.hostNetwork"))


@functools.lru_cache(maxsize=256)
def field_reader(path: str) -> Callable[[Object], str]:
    """A field of an object as selectors compare it: always a text, "" where it is absent."""
    keys = path.split(".")

    def read(obj: Object) -> str:
        value: Any = obj
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
            if value is None:
                return "false" if path in _FALSE_WHEN_ABSENT else ""
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    if path == "source":
        return lambda obj: str(dig(obj, "source", "component", default=obj.get("reportingComponent") or ""))
    return read
