"""The query parameters of lists, watches and writes, checked as kube-apiserver checks them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from labsim.kube.errors import ApiError, bad_request
from labsim.model.http import Request

_TRUE = frozenset(("true", "True", "TRUE", "1", "t", "T"))


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
    return _checked(request.query, watch)


@functools.lru_cache(maxsize=4096)
def _checked(parameters: tuple[tuple[str, str], ...], watch: bool) -> ListOptions:
    query = dict(reversed(parameters))  # of a name given twice, the first counts
    watch = watch or query.get("watch", "") in _TRUE
    initial = query.get("sendInitialEvents")
    options = ListOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=_number(query, "limit"),
        proceed=query.get("continue", ""),
        revision=_revision(query.get("resourceVersion", "")),
        match=query.get("resourceVersionMatch", ""),
        watch=watch,
        initial_events=None if initial is None else initial in _TRUE,
        bookmarks=query.get("allowWatchBookmarks", "") in _TRUE,
        timeout_s=float(_number(query, "timeoutSeconds")) or None,
    )
    problem = _watch_problem(options) if watch else _list_problem(options)
    if problem is not None:
        raise _invalid(*problem)
    return options


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


def field_manager(request: Request) -> str:
    """Who owns what is written: the parameter, else the user agent up to its slash."""
    return request.param("fieldManager") or request.headers.get("user-agent", "").partition("/")[0]


def _list_problem(options: ListOptions) -> tuple[str, str] | None:
    if options.initial_events is not None:
        return "sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"
    if options.match:
        field = "resourceVersionMatch"
        if options.revision is None:
            return field, "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        if options.proceed:
            return field, "Forbidden: resourceVersionMatch is forbidden when continue is provided"
        if options.match not in ("Exact", "NotOlderThan"):
            return field, f'Unsupported value: "{options.match}": supported values: "Exact", "NotOlderThan"'
        if options.match == "Exact" and options.revision == 0:
            return field, 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    return None


def _watch_problem(options: ListOptions) -> tuple[str, str] | None:
    if options.initial_events is None:
        if options.match:
            return (
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        return None
    if options.match != "NotOlderThan":
        return (
            "resourceVersionMatch",
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )
    return None


def _number(query: dict[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text:
        return 0
    try:
        return max(int(text), 0)
    except ValueError as problem:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from problem


def _revision(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        message = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise ApiError(500, "", message)
    return int(text)


def _invalid(field: str, message: str, reason: str = "FieldValueForbidden", kind: str = "ListOptions") -> ApiError:
    causes = [{"reason": reason, "message": message, "field": field}]
    details = {"group": "meta.k8s.io", "kind": kind, "causes": causes}
    return ApiError(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {field}: {message}', details)
