"""Label and field selectors in their text form."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping

_SET = re.compile(r"^([^\s!=<>(),]+)\s+(in|notin)\s+\(([^)]*)\)$")


@dataclasses.dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: str  # =, !=, in, notin, exists, !exists, >, <
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "=" | "in":
                return value in self.values
            case "!=" | "notin":
                return value not in self.values
            case "exists":
                return value is not None
            case "!exists":
                return value is None
        if value is None or not value.lstrip("-").isdigit():
            return False
        return int(value) > int(self.values[0]) if self.operator == ">" else int(value) < int(self.values[0])


@dataclasses.dataclass(frozen=True, slots=True)
class LabelSelector:
    requirements: tuple[Requirement, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


@functools.lru_cache(maxsize=1024)
def parse_label_selector(text: str) -> LabelSelector:
    """The selector that a text says; ValueError for a text that is none."""
    return LabelSelector(tuple(_requirement(part.strip()) for part in _split(text) if part.strip()))


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _requirement(part: str) -> Requirement:
    found = _SET.match(part)
    if found:
        return Requirement(found[1], found[2], tuple(value.strip() for value in found[3].split(",")))
    for operator, meaning in (("!=", "!="), ("==", "="), ("=", "="), (">", ">"), ("<", "<")):
        if operator in part:
            key, _, value = part.partition(operator)
            return Requirement(key.strip(), meaning, (value.strip(),))
    if part.startswith("!"):
        return Requirement(part[1:].strip(), "!exists")
    if re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9_./]*", part):
        return Requirement(part, "exists")
    raise ValueError(f"unable to parse requirement: {part!r}")


@functools.lru_cache(maxsize=1024)
def parse_field_selector(text: str) -> tuple[tuple[str, bool, str], ...]:
    """(path, equal or not, value) of each term."""
    terms = []
    for part in text.split(","):
        if not part:
            continue
        if "!=" in part:
            path, _, value = part.partition("!=")
            terms.append((path.strip(), False, value.strip()))
        else:
            path, _, value = part.replace("==", "=").partition("=")
            terms.append((path.strip(), True, value.strip()))
    return tuple(terms)
