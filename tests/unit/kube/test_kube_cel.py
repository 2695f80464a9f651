"""CEL rules: Kubernetes' own functions, optional old values, and what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.kube.cel import Rule, broken_rules, syntax_problem


def _holds(expression: Any, value: Any, old: Any = None, **extra: Any) -> Any:
    return not list(broken_rules([Rule.of({"rule": expression, **extra})], value, old, "spec"))


@pytest.mark.parametrize(
    ("expression", "good", "bad"),
    [
        ("self.split('.').size() == 2", "a.b", "a"),
        ("self.lowerAscii() == self", "abc", "Abc"),
        ("self.find('[0-9]+') == '12'", "ab12", "ab"),
        ("isURL(self) && url(self).getHostname() == 'a.test'", "https://a.test:1/", "https://b.test"),
        ("isIP(self) && ip(self).family() == 4", "192.0.2.1", "2001:db8::1"),
        ("cidr(self).containsIP('10.0.0.1')", "10.0.0.0/8", "192.0.2.0/24"),
        ("quantity(self).isGreaterThan(quantity('1Gi'))", "2Gi", "500Mi"),
        ("self.all(x, x > 0) && self.sum() < 10", [1, 2], [0, 1]),
        ("self.isSorted()", [1, 2], [2, 1]),
        ("self.exists(key, key.startsWith('a'))", {"ab": 1}, {"b": 1}),
    ],
)
def test_functions_of_kubernetes(expression: Any, good: Any, bad: Any) -> None:
    assert _holds(expression, good)
    assert not _holds(expression, bad)


def test_an_optional_old_value() -> None:
    rule = "!oldSelf.hasValue() || self.v == oldSelf.value().v"
    assert _holds(rule, {"v": "1"}, None, optionalOldSelf=True)
    assert _holds(rule, {"v": "1"}, {"v": "1"}, optionalOldSelf=True)
    assert not _holds(rule, {"v": "2"}, {"v": "1"}, optionalOldSelf=True)


def test_a_rule_that_fails_is_broken_and_one_that_cannot_be_read_is_not() -> None:
    assert not _holds("self.a.b == 1", {"a": {}})
    assert _holds("nosuchfunction(self)", {"a": 1})


@pytest.mark.parametrize(
    ("extra", "reason", "message", "field"),
    [
        ({"message": "no"}, "FieldValueInvalid", 'Invalid value: "x": no', "spec"),
        ({}, "FieldValueInvalid", "Invalid value: \"x\": failed rule: self != 'x'", "spec"),
        ({"message": "no", "reason": "FieldValueForbidden"}, "FieldValueForbidden", "Forbidden: no", "spec"),
        (
            {"message": "no", "messageExpression": "'not ' + self"},
            "FieldValueInvalid",
            'Invalid value: "x": not x',
            "spec",
        ),
        ({"message": "no", "fieldPath": ".a"}, "FieldValueInvalid", "Invalid value: no", "spec.a"),
    ],
)
def test_what_a_broken_rule_says(extra: Any, reason: Any, message: Any, field: Any) -> None:
    (found,) = broken_rules([Rule.of({"rule": "self != 'x'", **extra})], "x", None, "spec")
    assert found == {"reason": reason, "message": message, "field": field}


def test_syntax() -> None:
    assert syntax_problem("self > (")
    assert not syntax_problem("self > 1")
    assert not syntax_problem("self.?a.orValue(1) > 1")
