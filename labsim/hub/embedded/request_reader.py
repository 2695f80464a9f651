"""Reads the requests of one connection, and says what is no request, with the status codes and words of Go's server.

Bytes in, `Request`s out; it knows no socket and no clock. What it refuses ends the connection. Where it is stricter
than Go (a length given twice, a length beside chunks, folded header lines), requests could be smuggled past a proxy.
docs/reference/limits.md has what was measured.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from http import HTTPStatus

import httptools

from labsim.model.http import Request, Response, query_pairs

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = (1 << 20) + 4096  # kube-apiserver's megabyte, and what Go's reader allows beyond it
# Only the transport may set this header: the client certificate that the TLS layer has verified, URL-encoded PEM.
CLIENT_CERTIFICATE_HEADER = "x-remote-cert-pem"
_LINE_BYTES = 4  # colon, space and line end of a header
_METHOD = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}) ")
_OTHER_VERSION = re.compile(rb"^[^\r\n]* HTTP/[02-9]\.[0-9]\r?$", re.MULTILINE)
_HOST = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OF_SEVERAL_VALUES = ("impersonate-group", "impersonate-extra-")  # of any other header the first counts


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """A request, and how its connection goes on. `is_cut`: the rest of its body is not read."""

    request: Request
    keeps_alive: bool
    is_old: bool  # HTTP/1.0
    is_cut: bool = False


def refusal(status: int, text: str = "") -> Response:
    """What Go's server answers before a handler hears of a request: text, and the connection ends."""
    body = f"{status} {HTTPStatus(status).phrase}" + (f": {text}" if text else "")
    return Response(status=status, headers={"content-type": "text/plain; charset=utf-8"}, body=body.encode())


class RequestReader:
    """The parser of one connection."""

    def __init__(
        self,
        *,
        scheme: str,
        client: str,
        certificate: str,
        max_body_bytes: int,
        taken: Callable[[Read], None],
        refused: Callable[[Response], None],
        proceed: Callable[[], None],
    ) -> None:
        """`taken` and `refused` hear of what was read, in order; `proceed` asks the peer for the body that it holds
        back. certificate: the peer's, verified, URL-encoded PEM, or ""."""
        self._scheme = scheme
        self._client = client
        self._certificate = certificate
        self._max_body_bytes = max_body_bytes
        self._taken = taken
        self._refused = refused
        self._proceed = proceed
        self._parser = httptools.HttpRequestParser(self)
        self._requests = 0
        self._method = ""  # of the request that is being read, where the parser does not know it
        self._url = b""
        self._headers: dict[str, str] = {}
        self._hosts = 0
        self._head_bytes = 0
        self._fed_bytes = 0  # of an unfinished head, which the parser keeps to itself
        self._body: list[bytes] = []
        self._body_bytes = 0
        self.is_done = False  # nothing more is read
        self.is_reading_head = True
        self.is_between = True  # no byte of the next request is there yet

    def feed(self, data: bytes) -> None:
        """Take what has come in."""
        if self.is_done:
            return
        self.is_between = False
        read = self._requests
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.is_done = True  # nothing here speaks another protocol: what follows the request is not looked at
        except httptools.HttpParserInvalidMethodError:
            # Behind another request in the same piece there is no telling where it begins.
            self._feed_unknown_method(data if read == self._requests else b"")
        except httptools.HttpParserCallbackError:
            if not self.is_done:
                log.exception("a request could not be taken in")
                self._refuse(refusal(500))
        except httptools.HttpParserError:
            self._malformed(data)
        if self.is_reading_head and not self.is_done:
            self._fed_bytes += len(data)
            if self._fed_bytes > MAX_HEAD_BYTES:
                self._refuse(refusal(431))

    def _feed_unknown_method(self, data: bytes) -> None:
        """A method that the parser has never heard of: it reads another in its place, and the request keeps its own."""
        method = _METHOD.match(data)
        self._parser = httptools.HttpRequestParser(self)
        try:
            if method is None or self._method:
                raise httptools.HttpParserError
            self._method = method[1].decode("ascii")
            self._parser.feed_data(b"TRACE" + data[method.end(1) :])
        except httptools.HttpParserError:
            self._malformed(data)

    def _malformed(self, data: bytes) -> None:
        if self.is_reading_head and _OTHER_VERSION.search(data[:MAX_HEAD_BYTES].partition(b"\n")[0]):
            self._refuse(refusal(505, "unsupported protocol version"))
        else:
            self._refuse(refusal(400))

    def _refuse(self, response: Response) -> None:
        if not self.is_done:
            self.is_done = True
            self._refused(response)

    # -- httptools ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._hosts = 0
        self._head_bytes = self._fed_bytes = 0
        self._body = []
        self._body_bytes = 0
        self.is_reading_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self._head_bytes += len(name) + len(value) + _LINE_BYTES
        if key == "host":
            self._hosts += 1
        if key in self._headers:
            if not key.startswith(_OF_SEVERAL_VALUES):
                return
            text = f"{self._headers[key]}, {text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        self.is_reading_head = False
        problem = self._head_problem()
        if problem is not None:
            self._refuse(problem)
            raise _Stopped
        if "expect" in self._headers:
            self._proceed()

    def _head_problem(self) -> Response | None:
        """What is wrong with a request line and its headers that could be read."""
        version, headers = self._parser.get_http_version(), self._headers
        if self._head_bytes > MAX_HEAD_BYTES:
            return refusal(431)
        if version[:2] != "1.":
            return refusal(400) if version[:1] == "0" else refusal(505, "unsupported protocol version")
        if self._hosts != 1:
            if self._hosts > 1:
                return refusal(400)
            if version == "1.1":
                return refusal(400, "missing required Host header")
        elif _HOST.fullmatch(headers["host"]) is None:
            return refusal(400, "malformed Host header")
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            response = refusal(501)
            response.body = b"Unsupported transfer encoding"
            return response
        if headers.get("expect", "100-continue").lower() != "100-continue":
            return Response(status=417)
        return None

    def on_body(self, body: bytes) -> None:
        room = self._max_body_bytes + 1 - self._body_bytes
        self._body_bytes += len(body)
        self._body.append(body[:room])
        if len(body) >= room:
            self._take(is_cut=True)
            raise _Stopped

    def on_message_complete(self) -> None:
        self._take(is_cut=False)

    def _take(self, *, is_cut: bool) -> None:
        target = _target(self._url)
        if target is None:
            self._refuse(refusal(400))
            raise _Stopped
        path, query = target
        headers = self._headers
        headers.pop(CLIENT_CERTIFICATE_HEADER, None)
        if self._certificate:
            headers[CLIENT_CERTIFICATE_HEADER] = self._certificate
        request = Request(
            method=self._method or self._parser.get_method().decode("ascii"),
            path=path,
            query=tuple(query_pairs(query)) if query else (),
            headers=headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            scheme=self._scheme,
            host=headers.get("host", ""),
            client=self._client,
        )
        self._method = ""
        self._body = []
        self._requests += 1
        self.is_done = is_cut
        self.is_reading_head = self.is_between = True
        self._fed_bytes = 0
        keeps_alive = self._parser.should_keep_alive() and not is_cut and not self._parser.should_upgrade()
        self._taken(Read(request, keeps_alive, self._parser.get_http_version() != "1.1", is_cut))


class _Stopped(Exception):
    """Nothing more of what was fed is read."""


def _target(raw: bytes) -> tuple[str, str] | None:
    """The path and the query of a request's target; None where the path's escapes cannot be read."""
    target = raw.decode("latin-1")
    if not target.startswith("/") and "://" in target:  # as it is sent to a proxy
        target = target.partition("://")[2]
        target = target[target.index("/") :] if "/" in target else "/"
    path, _, query = target.partition("?")
    if "%" in path and _BAD_ESCAPE.search(path):
        return None
    return path, query
