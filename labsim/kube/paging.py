"""Lists in pages: every page is of the revision that the first one showed, read back from the log."""

from __future__ import annotations

import base64
import dataclasses
import re

import orjson

from labsim.kube.errors import ApiError, bad_request, expired
from labsim.kube.go_json import kind_of, syntax_problem
from labsim.kube.past import objects_at, place_of
from labsim.kube.refusals import too_large
from labsim.kube.server import ApiServer
from labsim.kube.watch import Matches
from labsim.model.kinds import Kind
from labsim.model.objects import Object

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9_-]")
_VERSION = "meta.k8s.io/v1"
_LATEST = -1  # in a token: go on with what is there now
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: its objects, the list's revision, how to go on ("" at the end), and how many are left."""

    objects: list[Object]
    revision: int
    proceed: str = ""
    remaining: int | None = None

    def metadata(self) -> Object:
        made: Object = {"resourceVersion": str(self.revision)}
        if self.proceed:
            made["continue"] = self.proceed
            if self.remaining is not None:
                made["remainingItemCount"] = self.remaining
        return made


def first_page(objects: list[Object], revision: int, limit: int, *, counted: bool) -> Page:
    """The first `limit` objects (all of them for 0). `counted` says whether the rest may be counted."""
    if limit <= 0 or len(objects) <= limit:
        return Page(objects, revision)
    shown = objects[:limit]
    return Page(shown, revision, _token(revision, shown[-1]), len(objects) - limit if counted else None)


def next_page(
    server: ApiServer, kind: Kind, namespace: str | None, matches: Matches | None, token: str, limit: int
) -> Page:
    """The page that a token stands for. 410 where the log no longer reaches back to its revision."""
    revision, start = _read_token(token)
    if revision == _LATEST:
        revision = server.revision
    if revision > server.revision:
        raise too_large(revision, server.revision)
    past = objects_at(server, kind, namespace, revision)
    if past is None:
        raise ApiError(410, "Expired", _TOO_OLD, metadata={"continue": _encoded(_LATEST, "/".join(start))})
    left = [obj for obj in past if place_of(obj) > start and (matches is None or matches(obj))]
    return first_page(left, revision, limit, counted=matches is None)


def exact(server: ApiServer, kind: Kind, namespace: str | None, matches: Matches | None, revision: int) -> list[Object]:
    """The objects at exactly this revision; 410 where it is gone."""
    past = objects_at(server, kind, namespace, revision)
    if past is None:
        raise expired("The resourceVersion for the provided list is too old.")
    return past if matches is None else [obj for obj in past if matches(obj)]


def _token(revision: int, last: Object) -> str:
    return _encoded(revision, "/".join(place_of(last)))


def _encoded(revision: int, start: str) -> str:
    raw = orjson.dumps({"v": _VERSION, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    wrong = _NOT_BASE64.search(token)
    if wrong or len(token) % 4 == 1:
        raise _bad_token(f"illegal base64 data at input byte {wrong.start() if wrong else len(token) - 1}")
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    try:
        document = orjson.loads(raw)
    except ValueError as problem:
        raise _bad_token(syntax_problem(raw) or str(problem)) from problem
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise _bad_token(f"json: cannot unmarshal {kind_of(document)} into Go value of type storage.continueToken")
    revision, start = document.get("rv", 0), document.get("start", "")
    for field, value, wanted, go_type in (("rv", revision, int, "int64"), ("start", start, str, "string")):
        if type(value) is not wanted:
            found = f"number {orjson.dumps(value).decode()}" if isinstance(value, float) else kind_of(value)
            raise _bad_token(
                f"json: cannot unmarshal {found} into Go struct field continueToken.{field} of type {go_type}"
            )
    if document.get("v") != _VERSION:
        raise _bad_token(f"server does not recognize this encoded version {document.get('v', '')}")
    if revision == 0:
        raise _bad_token(f"incorrect encoded start resourceVersion (version {_VERSION})")
    if not start:
        raise _bad_token(f"empty start key (version {_VERSION})")
    if ".." in start.split("/") or "." in start.split("/"):
        raise _bad_token(start)
    namespace, _, name = start.rstrip("\0").rpartition("/")
    return max(revision, _LATEST), (namespace, name)


def _bad_token(problem: str) -> ApiError:
    return bad_request(f"invalid continue token: continue key is not valid: {problem}")
