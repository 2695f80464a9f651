"""One HTTP/1.1 connection: requests are parsed, handed over, and answered in the order they came.

Runs on the edge's asyncio thread and knows no store. What it is given to answer with (a body, a file, a stream that
is made while it is sent) goes out in pieces that the peer is ready to take.
"""

from __future__ import annotations

import asyncio
import collections
import http
import logging
import re
import socket
import ssl
import struct
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import quote

import httptools
import orjson

from labsim.hub.embedded.files import FileBody, file_answer
from labsim.model.http import BodyStream, Request, Response, query_pairs

log = logging.getLogger(__name__)
_METHOD = re.compile(rb"([A-Za-z][A-Za-z-]{0,31}) ")

MAX_HEADER_BYTES = 64 * 1024
MAX_WAITING_REQUESTS = 16  # pipelined on one connection before reading pauses
BOOKMARK_INTERVAL_S = 60.0  # kube-apiserver sends bookmarks about once a minute
# Only the transport may set this header: the client certificate that the TLS layer has verified, URL-encoded PEM.
CLIENT_CERTIFICATE_HEADER = "x-remote-cert-pem"


@runtime_checkable
class TimedStream(Protocol):
    """A stream that ends after `timeout_s` real seconds and shows now and then that it lives.

    Both calls are made on the world's thread.
    """

    timeout_s: float | None

    def expire(self) -> None: ...
    def keep_alive(self) -> None: ...


class Service(Protocol):
    """What a connection needs of its listener."""

    scheme: str
    max_body_bytes: int
    loop: asyncio.AbstractEventLoop
    connections: set[Connection]

    def answer(self, request: Request) -> Future[Response]: ...
    def soon(self, call: Callable[[], None]) -> None: ...
    def on_world(self, call: Callable[[], Any]) -> None: ...


def refusal(status: int, reason: str, message: str) -> Response:
    """An error that the transport itself gives, in the form of a Kubernetes Status."""
    document = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status,
    }
    return Response(status=status, headers={"content-type": "application/json"}, body=orjson.dumps(document))


class Connection(asyncio.Protocol):
    """The protocol object of one accepted socket."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._peer = ""
        self._certificate = ""
        self._requests_read = 0
        self._method = ""  # of the request that is being read, where the parser does not know it
        self._url = b""
        self._headers: dict[str, str] = {}
        self._reading_head = False
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._waiting: collections.deque[tuple[Request, bool, bool]] = collections.deque()
        self._busy = False
        self._refused: Response | None = None
        self._writable = True
        self._stream: BodyStream | None = None
        self._file: FileBody | None = None
        self._chunked = False
        self._keep_alive = True
        self._pump_due = False
        self._timers: list[asyncio.TimerHandle] = []

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._service.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if peer else ""
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if certificate:
            self._certificate = quote(ssl.DER_cert_to_PEM_cert(certificate))

    def data_received(self, data: bytes) -> None:
        if self._refused is not None:
            return
        read = self._requests_read
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep_alive = False
        except httptools.HttpParserInvalidMethodError:
            # Behind another request in the same piece there is no telling where it begins.
            self._feed_unknown_method(data if read == self._requests_read else b"")
        except httptools.HttpParserError:
            self._refuse(refusal(400, "BadRequest", "the request is not well-formed HTTP/1.1"))
        if self._reading_head:  # the parser keeps an unfinished header to itself, so what it was fed is counted here
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADER_BYTES:
                self._refuse(refusal(431, "RequestHeaderFieldsTooLarge", "the request's headers are too large"))

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
            self._refuse(refusal(400, "BadRequest", "the request is not well-formed HTTP/1.1"))

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._service.connections.discard(self)
        self._waiting.clear()
        self._end_body()

    def abort(self) -> None:
        """Close without waiting for what is still to be sent."""
        self._transport.abort()

    def _reset(self) -> None:
        """Let the peer meet a reset, as where a network has dropped the connection."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # -- httptools ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._reading_head = True
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in self._headers:
            text = f"{self._headers[key]}, {text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        self._reading_head = False
        length = self._headers.get("content-length", "")
        if length.isdigit() and int(length) > self._service.max_body_bytes:
            self._refuse_body()
        elif self._headers.get("expect", "").lower() == "100-continue" and self._refused is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._service.max_body_bytes:
            self._refuse_body()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._refused is not None:
            return
        try:
            url = httptools.parse_url(self._url)
            path = (url.path or b"/").decode("ascii")
            query = tuple(query_pairs((url.query or b"").decode("ascii")))
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError, ValueError):
            self._refuse(refusal(400, "BadRequest", "the request target is not a valid URL"))
            return
        self._headers.pop(CLIENT_CERTIFICATE_HEADER, None)
        if self._certificate:
            self._headers[CLIENT_CERTIFICATE_HEADER] = self._certificate
        request = Request(
            method=self._method or self._parser.get_method().decode("ascii"),
            path=path,
            query=query,
            headers=self._headers,
            body=b"".join(self._body),
            scheme=self._service.scheme,
            host=self._headers.get("host", ""),
            client=self._peer,
        )
        self._method = ""
        self._requests_read += 1
        old = self._parser.get_http_version() != "1.1"
        self._waiting.append((request, self._parser.should_keep_alive(), old))
        if len(self._waiting) >= MAX_WAITING_REQUESTS:
            self._transport.pause_reading()
        self._next()

    # -- one exchange after the other -------------------------------------------------------------------------------

    def _refuse_body(self) -> None:
        limit = self._service.max_body_bytes
        message = f"Request entity too large: limit is {limit}"
        self._refuse(refusal(413, "RequestEntityTooLarge", message))

    def _refuse(self, response: Response) -> None:
        """Answer what cannot be served, after what came before it, and close."""
        if self._refused is not None:
            return
        self._refused = response
        if not self._busy:
            self._finish_refused()

    def _finish_refused(self) -> None:
        assert self._refused is not None
        self._busy = True
        self._keep_alive = False
        self._send_whole(self._refused, head=False)
        # The peer may still be sending: reading on for a moment lets it see the answer before the reset.
        self._timers.append(self._service.loop.call_later(1.0, self._transport.close))
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _next(self) -> None:
        if self._busy or self._transport.is_closing():
            return
        if not self._waiting:
            if self._refused is not None:
                self._finish_refused()
            return
        request, keep_alive, old = self._waiting.popleft()
        if len(self._waiting) == MAX_WAITING_REQUESTS - 1:
            self._transport.resume_reading()
        self._busy = True
        self._keep_alive = keep_alive
        self._chunked = not old
        future = self._service.answer(request)
        if future.done():  # answered on this thread
            self._answered(future, request)
        else:
            future.add_done_callback(lambda done: self._from_world(lambda: self._answered(done, request)))

    def _from_world(self, call: Callable[[], None]) -> None:
        try:
            self._service.soon(call)
        except RuntimeError:
            log.debug("an answer came after the edge was closed")

    def _answered(self, done: Future[Response], request: Request) -> None:
        try:
            response = done.result()
        except ConnectionResetError:  # what answers it wants the client to get nothing
            self._reset()
            return
        except BaseException as problem:
            log.error("%s %s failed", request.method, request.path, exc_info=problem)
            response = refusal(500, "InternalError", f"Internal error occurred: {type(problem).__name__}")
        if self._transport.is_closing():
            if response.stream is not None:
                self._service.on_world(response.stream.close)
            return
        head = request.method == "HEAD"
        if response.file is not None:
            response, body = file_answer(response, request)
            self._send_file(response, None if head else body)
        elif response.stream is not None:
            self._send_stream(response, response.stream, head=head)
        else:
            self._send_whole(response, head=head)
            self._exchange_done()

    def _exchange_done(self) -> None:
        self._end_body()
        self._busy = False
        if not self._keep_alive:
            self._transport.close()
            return
        self._next()

    # -- sending ------------------------------------------------------------------------------------------------------

    def _head(self, response: Response, length: int | None) -> bytes:
        lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
        for name, value in response.headers.items():
            # One line each for values that a client reads one by one; set-cookie is not used here, Warning is.
            lines += [f"{name}: {part}" for part in value.split("\n")]
        if length is not None:
            if response.status >= 200 and response.status not in (204, 304):
                lines.append(f"content-length: {length}")
        elif self._chunked:
            lines.append("transfer-encoding: chunked")
        if not self._keep_alive:
            lines.append("connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _send_whole(self, response: Response, *, head: bool) -> None:
        start = self._head(response, len(response.body))
        self._transport.write(start if head else start + response.body)

    def _send_file(self, response: Response, body: FileBody | None) -> None:
        self._transport.write(self._head(response, body.remaining if body else len(response.body)))
        if body is None:
            self._transport.write(response.body)
            self._exchange_done()
            return
        self._file = body
        self._pump()

    def _send_stream(self, response: Response, stream: BodyStream, *, head: bool) -> None:
        if not self._chunked:
            self._keep_alive = False
        self._transport.write(self._head(response, None))
        self._stream = stream
        if head:
            self._exchange_done()
            return
        if isinstance(stream, TimedStream):
            if stream.timeout_s is not None:
                self._timers.append(self._service.loop.call_later(stream.timeout_s, self._on_world, stream.expire))
            self._timers.append(self._service.loop.call_later(BOOKMARK_INTERVAL_S, self._tick, stream))
        stream.on_ready(self._stream_ready)
        self._pump()

    def _tick(self, stream: TimedStream) -> None:
        self._on_world(stream.keep_alive)
        self._timers.append(self._service.loop.call_later(BOOKMARK_INTERVAL_S, self._tick, stream))

    def _on_world(self, call: Callable[[], None]) -> None:
        self._service.on_world(call)

    def _stream_ready(self) -> None:
        """Called on the world's thread: one wake-up for however many events come before it runs."""
        if not self._pump_due:
            self._pump_due = True
            self._from_world(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._file is not None:
            self._pump_file(self._file)
        elif self._stream is not None:
            self._pump_stream(self._stream)

    def _pump_file(self, body: FileBody) -> None:
        while self._writable and not self._transport.is_closing():
            data = body.read()
            if not data:
                # A file that has become shorter cannot be told in any other way than by ending the connection.
                if body.remaining:
                    self._transport.abort()
                self._exchange_done()
                return
            self._transport.write(data)

    def _pump_stream(self, stream: BodyStream) -> None:
        while self._writable and not self._transport.is_closing():
            try:
                data = stream.read()
            except ConnectionResetError:
                self._reset()
                return
            if data is None:
                if self._chunked:
                    self._transport.write(b"0\r\n\r\n")
                self._exchange_done()
                return
            if not data:
                return
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _end_body(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._service.on_world(stream.close)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
