"""Recorded answers of a kube-apiserver, made comparable: paths into documents, and what differs from run to run."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

import orjson

Json = Any
MISSING = "<missing>"
DAY_S = 86_400

_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_STEP = re.compile(r'\["(?P<quoted>.*?)"\]|\[(?P<inside>[^\]]*)\]|#(?P<function>\w+)|(?P<key>[^.\[#]+)')
_NUMBER = re.compile(r"(?<!RFC )\b\d+\b")
_AGE = re.compile(r"\d{1,2}s")
_SET_HEADERS = frozenset(("audit-id", "etag", "x-kubernetes-pf-flowschema-uid"))
_MANAGED_ORDER = ("operation", "manager", "apiVersion", "subresource")


def substituted(value: Json, variables: dict[str, Any]) -> Json:
    """A value with its ${variables} filled in; a text that is nothing but one variable becomes its value."""
    if isinstance(value, str):
        whole = _VARIABLE.fullmatch(value)
        if whole is not None and whole[1] in variables:
            return variables[whole[1]]
        return _VARIABLE.sub(lambda match: str(variables.get(match[1], match[0])), value)
    if isinstance(value, list):
        return [substituted(item, variables) for item in value]
    if isinstance(value, dict):
        return {substituted(key, variables): substituted(item, variables) for key, item in value.items()}
    return value


# -- paths -----------------------------------------------------------------------------------------------------------


def at(document: Json, path: str) -> Json:
    """What a path leads to: `a.b`, `[0]`, `[*]`, `[key=value]`, `["any.key"]`, and a last `#len` or the like."""
    return _at(document, list(_STEP.finditer(path)))


def _at(value: Json, steps: list[re.Match[str]]) -> Json:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    inside, function = step["inside"], step["function"]
    if function is not None:
        return _measured(value, function)
    if inside is None:
        key = step["quoted"] if step["quoted"] is not None else step["key"]
        return _at(value[key], rest) if isinstance(value, dict) and key in value else MISSING
    if not isinstance(value, list):
        return MISSING
    if inside == "*":
        return [_at(item, rest) for item in value]
    if "=" in inside:
        key, _, wanted = inside.partition("=")
        found = [item for item in value if str(at(item, key)) == wanted]
        return _at(found[0], rest) if found else MISSING
    index = int(inside)
    return _at(value[index], rest) if -len(value) <= index < len(value) else MISSING


def _measured(value: Json, function: str) -> Json:
    if function == "present":
        return value is not None and value != ""
    if function == "type":
        return type(value).__name__
    if function == "len":
        return len(value) if isinstance(value, (list, dict, str)) else MISSING
    if function == "keys":
        return sorted(value) if isinstance(value, dict) else MISSING
    assert function == "sorted", function
    return sorted(value, key=_text) if isinstance(value, list) else MISSING


def _text(value: Json) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def without(document: Json, path: str) -> None:
    """Take out what a path leads to."""
    *steps, last = _STEP.finditer(path)
    holders = [document]
    for step in steps:
        if step["inside"] == "*":
            holders = [item for holder in holders if isinstance(holder, list) for item in holder]
        else:
            holders = [_at(holder, [step]) for holder in holders]
    for holder in holders:
        if isinstance(holder, dict):
            holder.pop(last["quoted"] if last["quoted"] is not None else last["key"], None)


# -- what differs from run to run --------------------------------------------------------------------------------------


class Normalizer:
    """Gives uids, resourceVersions and times of one case names by which two servers can be compared."""

    def __init__(self, run: str, namespace: str, replacements: list[list[str]], now_s: float) -> None:
        self._run = run
        self._namespace = namespace
        self._now_s = now_s
        self._replacements = [(re.compile(pattern), text) for pattern, text in replacements]
        self._uids: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def headers(self, headers: dict[str, str | list[str]]) -> dict[str, Json]:
        made: dict[str, Json] = {}
        for name, value in headers.items():
            if name in _SET_HEADERS:
                made[name] = "<set>"
            else:
                made[name] = sorted(map(self._line, value)) if isinstance(value, list) else self._line(value)
        return made

    def document(self, value: Json, *, managed: bool, bookmark: bool = False, inside: str = "") -> Json:
        """A document in its comparable form. `managed`: with managedFields."""
        if isinstance(value, list):
            return [self.document(item, managed=managed, inside=inside) for item in value]
        if isinstance(value, str):
            return self._line(value, is_message=inside in ("message", "reason"))
        if not isinstance(value, dict):
            return value
        kind = value.get("kind")
        is_list = "items" in value or (isinstance(kind, str) and (kind.endswith("List") or kind == "Table"))
        made: dict[str, Json] = {}
        for key, item in value.items():
            if key == "managedFields" and not managed:
                continue
            if key == "metadata" and isinstance(item, dict):
                made[key] = self._metadata(item, managed, is_list, bookmark)
            elif key == "resourceVersion" and isinstance(item, str) and item.isdigit():
                made[key] = self._name(self._versions, "rv", item)
            else:
                made[self._line(key)] = self.document(item, managed=managed, inside=key)
        return made

    def _metadata(self, metadata: Json, managed: bool, is_list: bool, bookmark: bool) -> Json:
        made: dict[str, Json] = {}
        for key, item in metadata.items():
            if key == "managedFields" and not managed:
                continue
            if key == "resourceVersion" and isinstance(item, str) and item:
                shown = "<rv>" if bookmark else "<listrv>" if is_list else ""
                made[key] = shown or self._name(self._versions, "rv", item)
            elif key == "continue" and item:
                made[key] = "<continue>"
            else:
                made[key] = self.document(item, managed=managed, inside=key)
                if key == "managedFields" and isinstance(item, list):  # ordered by whole seconds first: not stable
                    made[key].sort(key=lambda entry: [str(entry.get(field)) for field in _MANAGED_ORDER])
        return made

    def _name(self, known: dict[str, str], kind: str, value: str) -> str:
        return known.setdefault(value, f"<{kind}{len(known) + 1}>")

    def _line(self, text: str, *, is_message: bool = False) -> str:
        text = text.replace(self._namespace, "${ns}").replace(self._run, "${run}")
        text = _UUID.sub(lambda match: self._name(self._uids, "uid", match[0]), text)
        text = _TIME.sub(self._moment, text)
        if is_message:
            text = _NUMBER.sub(lambda match: self._versions.get(match[0], match[0]), text)
            text = re.sub(r"(too old resource version: \S+ )\(\d+\)", r"\1(<rv>)", text)
            text = re.sub(r"(, current: )\d+", r"\1<rv>", text)
        for pattern, replacement in self._replacements:
            text = pattern.sub(replacement, text)
        return text

    def _moment(self, match: re.Match[str]) -> str:
        text = re.sub(r"(\.\d{6})\d+", r"\1", match[0].replace("Z", "+00:00"))
        try:
            moment_s = datetime.datetime.fromisoformat(text).timestamp()
        except ValueError:
            return match[0]
        if abs(moment_s - self._now_s) >= 2 * DAY_S:
            return match[0]
        return "<microtime>" if match[1] else "<time>"


def stored_form(step: dict[str, Any], document: Json) -> Json:
    """What of a comparable document a step keeps and compares."""
    how = step.get("cmp", "full")
    if how == "code":
        return {}
    if how == "reason":
        return {path: at(document, path) for path in ("kind", "status", "reason", "code")}
    document = _causes_in_order(orjson.loads(orjson.dumps(document)))
    if step.get("fields"):
        return {path: at(document, _named(path)) for path in step["fields"]}
    for path in step.get("ignore", ()):
        without(document, _named(path))
    return document


def _named(path: str) -> str:
    return path.replace("${G}", "${run}.conf.test")


def _causes_in_order(document: Json) -> Json:
    """The causes of an Invalid answer come in no fixed order."""
    if isinstance(document, dict) and document.get("kind") == "Status" and document.get("reason") == "Invalid":
        causes = (document.get("details") or {}).get("causes")
        if isinstance(causes, list) and len(causes) > 1:
            causes.sort(key=_text)
            message = str(document.get("message"))
            document["message"] = re.sub(r"(is invalid: )\[.*\]$", r"\1[<causes>]", message, flags=re.DOTALL)
    return document


# -- differences -------------------------------------------------------------------------------------------------------


def differences(expected: Json, found: Json, path: str = "") -> Iterator[str]:
    """Where two documents differ, a line each."""
    if type(expected) is not type(found):
        yield f"{path or '.'}: expected {_short(expected)}, got {_short(found)}"
    elif isinstance(expected, dict):
        for key in sorted(expected.keys() | found.keys()):
            if key not in found:
                yield f"{path}.{key}: missing, expected {_short(expected[key])}"
            elif key not in expected:
                yield f"{path}.{key}: unexpected {_short(found[key])}"
            else:
                yield from differences(expected[key], found[key], f"{path}.{key}")
    elif isinstance(expected, list):
        if len(expected) != len(found):
            yield f"{path}: expected {len(expected)} items, got {len(found)}: {_short(expected)} / {_short(found)}"
            return
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif expected != found and not _are_ages(expected, found):
        yield f"{path or '.'}: expected {_short(expected)}, got {_short(found)}"


def _are_ages(one: Json, other: Json) -> bool:
    """Two ages of some seconds: how fast the machine was."""
    return isinstance(one, str) and _AGE.fullmatch(one) is not None and _AGE.fullmatch(other) is not None


def _short(value: Json) -> str:
    text = _text(value).decode()
    return text if len(text) <= 200 else text[:200] + "..."
