"""An HTTP exchange as data, shared by every API that labsim serves, in process or on a socket."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl

import orjson

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


class BodyStream(Protocol):
    """A body that is made while it is sent: a watch, or a large file. The edge pulls, the world pushes.

    `read` returns what there is now without waiting (b"" for nothing yet, None for the end); `on_ready` names a
    callback that is called, on the world's thread, when more may be had; `close` is called when the client has gone.
    """

    def read(self) -> bytes | None: ...
    def on_ready(self, callback: Any) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class TimedStream(Protocol):
    """A stream that whoever sends it ends after `timeout_s` seconds, and that shows now and then that it lives.

    Both calls are made on the world's thread.
    """

    timeout_s: float | None

    def expire(self) -> None: ...
    def keep_alive(self) -> None: ...


@dataclasses.dataclass(slots=True, kw_only=True)
class Request:
    """One request. `headers` has lower-case names; `path` is percent-decoded by the reader, not here.

    Nobody changes a request or a response: they are not frozen because they are made by the hundred thousand.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    scheme: str = "https"
    host: str = ""  # host[:port] that the client asked for
    client: str = ""  # who asks: a machine's name, a controller's, or a peer address

    def param(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)

    def json(self) -> Any:
        """The body as JSON; raises orjson.JSONDecodeError (a ValueError) on rubbish."""
        return orjson.loads(self.body)


@dataclasses.dataclass(slots=True, kw_only=True)
class Response:
    """One answer. Exactly one of `body` and `stream` carries content; `file` names a file to send from disk."""

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    stream: BodyStream | None = None
    file: str | None = None

    def json(self) -> Any:
        return orjson.loads(self.body)


def json_response(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """An `application/json` answer of one document."""
    return Response(
        status=status, headers={"content-type": "application/json", **(headers or {})}, body=orjson.dumps(document)
    )


def request_for_url(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", client: str = ""
) -> Request:
    """A request as a client would send it to `url`."""
    scheme, host, path, query = _parts(url)
    return Request(
        method=method,
        path=path,
        query=query,
        headers={key.lower(): value for key, value in headers.items()} if headers else {},
        body=body,
        scheme=scheme,
        host=host,
        client=client,
    )


def _parts(url: str) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    """Scheme, host, path and decoded query of a URL."""
    scheme, _, rest = url.partition("#")[0].partition("://")
    location, _, query = rest.partition("?")
    host, slash, path = location.partition("/")
    return scheme, host, slash + path or "/", _pairs(query) if query else ()


@functools.lru_cache(maxsize=4096)
def _pairs(query: str) -> tuple[tuple[str, str], ...]:
    """A query, decoded. Machines ask the same few again and again."""
    return tuple(parse_qsl(query, keep_blank_values=True))


def query_pairs(query: str) -> Iterator[tuple[str, str]]:
    """The (name, value) pairs of a raw query string, decoded as Go does it: what cannot be read is left out."""
    if ";" in query or "%" in query:
        query = "&".join(part for part in query.split("&") if ";" not in part and not _BAD_ESCAPE.search(part))
    yield from parse_qsl(query, keep_blank_values=True)
