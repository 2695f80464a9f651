"""Selectors in text form."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.kube.selectors import parse_field_selector, parse_label_selector

LABELS = {"env": "prod", "tier": "web", "n": "5", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("env=prod", True),
        ("env==prod,tier=web", True),
        ("env!=prod", False),
        ("other!=x", True),
        ("env in (dev, prod)", True),
        ("env notin (dev,prod)", False),
        ("other notin (x)", True),
        ("env", True),
        ("!env", False),
        ("!other", True),
        ("n>4,n<6", True),
        ("n>5", False),
        ("env>4", False),
        ("other>4", False),
        ("empty=", True),
        ("empty in ()", True),
        ("a.test/b", False),
    ],
)
def test_label_selectors(text: Any, matches: Any) -> None:
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("env ~ x", "unable to parse requirement: found '~', expected: in, notin, =, ==, !=, gt, lt"),
        ("env=bad value!", "found 'value', expected: ',' or 'end of string'"),
        ("env in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a/b/c=x", 'Invalid value: "a/b/c": a valid label key must consist of'),
        ("n>x", "the value must be an integer"),
        ("env=-x", "a valid label must be an empty string or consist of"),
    ],
)
def test_texts_that_are_no_selector(text: Any, words: Any) -> None:
    with pytest.raises(ValueError) as refused:
        parse_label_selector(text)
    assert words in str(refused.value)


def test_field_selectors() -> None:
    assert parse_field_selector("a.b=1,c!=2,d==3") == (("a.b", True, "1"), ("c", False, "2"), ("d", True, "3"))
    with pytest.raises(ValueError):
        parse_field_selector("a.b")
