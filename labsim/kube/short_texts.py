"""Caches of what short texts mean: what clients send may be a megabyte long, and is not kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

SHORT = 2048  # characters; more than any text that is asked for again and again

F = TypeVar("F", bound=Callable[..., Any])


def cached_if_short(maxsize: int) -> Callable[[F], F]:
    """A functools.lru_cache for calls whose first argument is a short text."""

    def decorate(function: F) -> F:
        cached = functools.lru_cache(maxsize)(function)
        if function.__code__.co_argcount == 1 and not function.__code__.co_kwonlyargcount:  # most, and the quick way

            @functools.wraps(function)
            def call_with_one(text: str) -> Any:
                return cached(text) if len(text) <= SHORT else function(text)

            return cast(F, call_with_one)

        @functools.wraps(function)
        def call(text: str, *others: Any, **named: Any) -> Any:
            return (cached if len(text) <= SHORT else function)(text, *others, **named)

        return cast(F, call)

    return decorate
