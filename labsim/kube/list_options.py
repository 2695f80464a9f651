"""The query parameters of lists, watches and writes, checked as kube-apiserver checks them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from labsim.kube.errors import ApiError, bad_request
from labsim.kube.go_json import go_quoted
from labsim.kube.selectors import parse_field_selector
from labsim.kube.short_texts import SHORT
from labsim.model.http import Request


@dataclasses.dataclass(frozen=True, slots=True)
class ListOptions:
    """What a list or a watch asks for. `revision` is None where no resourceVersion was given."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    proceed: str = ""
    revision: int | None = None
    match: str = ""
    watch: bool = False
    initial_events: bool | None = None
    bookmarks: bool = False
    timeout_s: float | None = None


_NOTHING = ListOptions()


def list_options(request: Request, *, watch: bool = False) -> ListOptions:
    """Read and check the parameters of a list or watch."""
    if not request.query:
        return _NOTHING if not watch else ListOptions(watch=True)
    length = sum(len(name) + len(value) for name, value in request.query)
    return (_known if length <= SHORT else _checked)(request.query, watch)


def _checked(parameters: tuple[tuple[str, str], ...], watch: bool) -> ListOptions:
    query = dict(reversed(parameters))  # of a name given twice, the first counts
    watch = watch or _truth(query.get("watch"))
    initial = query.get("sendInitialEvents")
    options = ListOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=_number(query, "limit"),
        proceed=query.get("continue", ""),
        revision=_revision(query.get("resourceVersion", ""), watch=watch),
        match=query.get("resourceVersionMatch", ""),
        watch=watch,
        initial_events=None if initial is None else _truth(initial),
        bookmarks=_truth(query.get("allowWatchBookmarks")),
        timeout_s=float(_number(query, "timeoutSeconds")) or None,
    )
    if watch and options.initial_events is None and not options.match and not options.revision:
        # A watch from the start of things is one of initial events, whether it says so or not.
        options = dataclasses.replace(options, initial_events=True, match="NotOlderThan")
    causes = _watch_problems(options) if watch else _list_problems(options)
    if causes:
        raise _invalid_list(causes)
    if query.get("timeout"):
        check_duration(query["timeout"])
    try:
        parse_field_selector(options.fields)
    except ValueError as problem:
        raise bad_request(str(problem)) from problem
    return options


_known = functools.lru_cache(maxsize=4096)(_checked)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DIGITS_MAX = 100  # beyond which a number is out of range, however many of them are zeros
_DURATION = re.compile(r"[+-]?(0|(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))*")


def check_duration(text: str) -> None:
    """Raise the 400 for a `timeout` that Go does not read as a duration."""
    if _DURATION.fullmatch(text) is None:
        wrong = "missing unit in duration" if _INTEGER.fullmatch(text) else "invalid duration"
        raise bad_request(f"invalid timeout specified in the request URL - time: {wrong} {go_quoted(text)}")


def _truth(text: str | None) -> bool:
    """A parameter that is there is true, unless it says otherwise."""
    return text is not None and text != "0" and text.lower() != "false"


def is_true(request: Request, name: str) -> bool:
    """Whether a parameter of truth is given, and not as false."""
    return _truth(next((value for key, value in request.query if key == name), None)) if request.query else False


def get_revision(request: Request) -> int | None:
    """The resourceVersion that a read of one object asks for."""
    return _revision(request.param("resourceVersion"))


def dry_run(request: Request, options_kind: str) -> bool:
    """Whether nothing is to be stored; 422 for another value than All."""
    if not request.query:
        return False
    values = [value for name, value in request.query if name == "dryRun"]
    check_dry_run(values, options_kind)
    return bool(values)


def check_dry_run(values: list[str], options_kind: str) -> None:
    if any(value != "All" for value in values):
        shown = "[" + ",".join(f'"{value}"' for value in values) + "]"
        message = f'Unsupported value: {shown}: supported values: "All"'
        raise _invalid("dryRun", message, "FieldValueNotSupported", options_kind)


def check_propagation(options: Mapping[str, Any]) -> None:
    """Raise the 422 for a propagationPolicy that is none, or that comes with orphanDependents."""
    policy = options.get("propagationPolicy")
    if policy is None:
        return
    if options.get("orphanDependents") is not None:
        message = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
        raise _invalid("propagationPolicy", message, "FieldValueInvalid", "DeleteOptions")
    if policy not in ("Foreground", "Background", "Orphan"):
        message = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
        raise _invalid("propagationPolicy", message, "FieldValueNotSupported", "DeleteOptions")


MANAGER_BYTES_MAX = 128


def field_manager(request: Request, options_kind: str = "UpdateOptions") -> str:
    """Who owns what is written: the parameter, else the user agent up to its slash; 422 for no good name."""
    said = request.param("fieldManager") if request.query else ""
    if not said:
        return request.headers.get("user-agent", "").partition("/")[0]
    if len(said.encode()) > MANAGER_BYTES_MAX:
        text = f"Too long: may not be more than {MANAGER_BYTES_MAX} bytes"
        raise _invalid("fieldManager", text, "FieldValueTooLong", options_kind)
    for at, letter in enumerate(said):
        if not letter.isprintable():
            shown = f"{go_quoted(said)}: invalid character U+{ord(letter):04X} (at position {at})"
            raise _invalid("fieldManager", f"Invalid value: {shown}", "FieldValueInvalid", options_kind)
    return said


def _list_problems(options: ListOptions) -> list[dict[str, str]]:
    """What does not go together in a list: upstream tells all of it."""
    found = []
    if options.initial_events is not None:
        found.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if options.match:
        field = "resourceVersionMatch"
        if options.revision is None:
            found.append(_forbidden(field, f"{field} is forbidden unless resourceVersion is provided"))
        if options.proceed:
            found.append(_forbidden(field, f"{field} is forbidden when continue is provided"))
        if options.match not in ("Exact", "NotOlderThan"):
            text = f'Unsupported value: "{options.match}": supported values: "Exact", "NotOlderThan", ""'
            found.append({"reason": "FieldValueNotSupported", "message": text, "field": field})
        elif options.match == "Exact" and options.revision == 0:
            found.append(_forbidden(field, f'{field} "exact" is forbidden for resourceVersion "0"'))
    return found


def _watch_problems(options: ListOptions) -> list[dict[str, str]]:
    field = "resourceVersionMatch"
    found = []
    if options.initial_events is None:
        if options.match:
            found.append(_forbidden(field, f"{field} is forbidden for watch unless sendInitialEvents is provided"))
    elif options.match != "NotOlderThan":
        found.append(_forbidden(field, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
        if options.match:
            text = f'Unsupported value: "{options.match}": supported values: "NotOlderThan"'
            found.append({"reason": "FieldValueNotSupported", "message": text, "field": field})
    elif options.proceed:
        found.append(_forbidden(field, f"{field} is forbidden when continue is provided"))
    return found


def _forbidden(field: str, text: str) -> dict[str, str]:
    return {"reason": "FieldValueForbidden", "message": f"Forbidden: {text}", "field": field}


def _invalid_list(causes: list[dict[str, str]]) -> ApiError:
    texts = [f"{cause['field']}: {cause['message']}" for cause in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = {"group": "meta.k8s.io", "kind": "ListOptions", "causes": causes}
    return ApiError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {text}', details)


def _number(query: dict[str, str], name: str) -> int:
    return max(go_int(query[name]), 0) if name in query else 0


def go_int(text: str) -> int:
    """A parameter that Go reads as an int64; 400 for any other text."""
    if _INTEGER.fullmatch(text) is None:
        raise bad_request(f"strconv.ParseInt: parsing {go_quoted(text)}: invalid syntax")
    if len(text) > _DIGITS_MAX or not -(1 << 63) <= int(text) < 1 << 63:
        raise bad_request(f"strconv.ParseInt: parsing {go_quoted(text)}: value out of range")
    return int(text)


def _revision(text: str, *, watch: bool = False) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise _bad_revision(text, "invalid syntax", watch=watch)
    if len(text) > _DIGITS_MAX or int(text) >= 1 << 64:
        raise _bad_revision(text, "value out of range", watch=watch)
    return int(text)


def _bad_revision(text: str, problem: str, *, watch: bool) -> ApiError:
    told = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": {problem}'
    # A watch fails deeper down, where nobody makes it the client's fault.
    return ApiError(500, "", told) if watch else bad_request(f"invalid resource version: {told}")


def _invalid(field: str, message: str, reason: str = "FieldValueForbidden", kind: str = "ListOptions") -> ApiError:
    causes = [{"reason": reason, "message": message, "field": field}]
    details = {"group": "meta.k8s.io", "kind": kind, "causes": causes}
    return ApiError(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {field}: {message}', details)
