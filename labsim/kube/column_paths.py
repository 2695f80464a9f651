r"""The JSONPath subset of printer columns: names, quoted and escaped names, indexes, `[*]` and `[?(@.a=="b")]`.

.status.conditions[?(@.type=="Ready")].status      .metadata.labels.agent\.io/role      .spec.list[0]
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

Step = Callable[[Any], Iterator[Any]]
Reader = Callable[[Any], list[Any]]

_NAME = re.compile(r"(?:\\.|[^.\[\\])+")
_FILTER = re.compile(r"""^\?\(\s*@\.([^=!\s]+)\s*(==|!=)\s*(?:"([^"]*)"|'([^']*)'|([^)\s]+))\s*\)$""")


class BadPath(ValueError):
    """A path outside the subset."""


@functools.lru_cache(maxsize=2048)
def compile_path(path: str) -> Reader:
    """A function that lists the values at `path` of an object; raises BadPath."""
    steps = list(_steps(path.strip().removeprefix("{").removesuffix("}")))

    def read(obj: Any) -> list[Any]:
        values = [obj]
        for step in steps:
            values = [found for value in values for found in step(value)]
        return values

    return read


def first_at(obj: Any, path: str) -> Any:
    """The first value at a path, None where there is none."""
    values = compile_path(path)(obj)
    return values[0] if values else None


def _steps(path: str) -> Iterator[Step]:
    position = 1 if path.startswith("$") else 0
    while position < len(path):
        if path[position] == ".":
            position += 1
            if position < len(path) and path[position] == "[":
                continue
            if position == len(path):
                return
        elif path[position] == "[":
            end = _closing(path, position)
            yield _bracket(path[position + 1 : end].strip())
            position = end + 1
            continue
        match = _NAME.match(path, position)
        if match is None:
            raise BadPath(path)
        yield _key(re.sub(r"\\(.)", r"\1", match.group(0)))
        position = match.end()


def _closing(path: str, start: int) -> int:
    quote = ""
    for index in range(start + 1, len(path)):
        letter = path[index]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "]":
            return index
    raise BadPath(path)


def _bracket(inside: str) -> Step:
    if inside == "*":
        return _every
    if re.fullmatch(r"-?\d+", inside):
        return _index(int(inside))
    if len(inside) >= 2 and inside[0] == inside[-1] and inside[0] in "\"'":
        return _key(inside[1:-1])
    match = _FILTER.match(inside)
    if match is None:
        raise BadPath(inside)
    wanted = next(group for group in match.groups()[2:] if group is not None)
    return _where(compile_path("." + match.group(1)), wanted, equal=match.group(2) == "==")


def _key(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(at: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= at < len(value):
            yield value[at]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _where(read: Reader, wanted: str, *, equal: bool) -> Step:
    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            found = read(item)
            if bool(found) and (_text(found[0]) == wanted) == equal:
                yield item

    return step


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
