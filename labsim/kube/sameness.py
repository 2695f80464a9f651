"""Whether two JSON trees are the same to the last bit: for Python True is 1 and 1 is 1.0, for JSON they are not.

Trees that share parts are told apart without looking into what they share.
"""

from __future__ import annotations

from typing import Any

import orjson

_TEXTS = {str}


def unchanged(value: Any, old: Any) -> bool:
    """Whether a value is as it was; where only the order of keys differs it may be told either way."""
    if value is old:
        return True
    if value != old:
        return False
    kind = type(value)
    if kind is str:
        return True
    if kind is dict and set(map(type, value.values())) == _TEXTS:  # nothing but a text equals a text
        return True
    return orjson.dumps(value) == orjson.dumps(old)


def same(one: Any, other: Any) -> bool:
    """Whether two trees say the same; the order of keys is free."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is dict:
        if len(one) != len(other):
            return False
        for key, value in one.items():
            if key not in other:
                return False
            against = other[key]
            if value is not against and not same(value, against):
                return False
        return True
    if kind is list:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is float:
        return repr(one) == repr(other)
    return bool(one == other)
