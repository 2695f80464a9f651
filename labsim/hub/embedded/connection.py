"""One HTTP/1.1 connection: requests are parsed, handed over, and answered in the order they came.

Runs on the edge's asyncio thread and knows no store. What it is given to answer with (a body, a file, a stream that
is made while it is sent) goes out in pieces that the peer is ready to take.
"""

from __future__ import annotations

import asyncio
import collections
import http
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, cast
from urllib.parse import quote

import orjson

from labsim.hub.embedded.ceilings import too_many
from labsim.hub.embedded.files import FileBody, file_answer
from labsim.hub.embedded.request_reader import Read, RequestReader
from labsim.model.http import BodyStream, Request, Response, TimedStream

log = logging.getLogger(__name__)

MAX_WAITING_REQUESTS = 16  # pipelined on one connection before reading pauses
BOOKMARK_INTERVAL_S = 60.0  # kube-apiserver sends bookmarks about once a minute
HEAD_WITHIN_S, IDLE_S, BODY_WITHIN_S = 32.0, 90.0, 60.0
TIMED_OUT = "Timeout: request did not complete within the allotted timeout"
LINGER_S = 1.0  # a peer that is still sending is let see the answer before the reset


class Service(Protocol):
    """What a connection needs of its listener."""

    scheme: str
    max_body_bytes: int
    loop: asyncio.AbstractEventLoop
    connections: set[Connection]

    def is_full(self) -> bool: ...
    def may_stream(self) -> bool: ...
    def count_stream(self, more: int) -> None: ...
    def answer(self, request: Request) -> Future[Response]: ...
    def soon(self, call: Callable[[], None]) -> None: ...
    def on_world(self, call: Callable[[], Any]) -> None: ...


def status_answer(status: int, reason: str, message: str) -> Response:
    """An error that the edge itself gives, in the form of a Kubernetes Status."""
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
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reader: RequestReader = cast(RequestReader, None)
        self._waiting: collections.deque[Read] = collections.deque()
        self._busy = False
        self._refused: Response | None = None
        self._writable = True
        self._stream: BodyStream | None = None
        self._file: FileBody | None = None
        self._chunked = False
        self._keep_alive = True
        self._is_surplus = False
        self._is_cut = False
        self._owes_continue = False
        self._served = 0
        self._since_s = service.loop.time()  # when what is waited for now began to be waited for
        self._pump_due = False
        self._timers: list[asyncio.TimerHandle] = []

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._is_surplus = self._service.is_full()
        self._service.connections.add(self)
        peer = transport.get_extra_info("peername")
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self._reader = RequestReader(
            scheme=self._service.scheme,
            client=f"{peer[0]}:{peer[1]}" if peer else "",
            certificate=quote(ssl.DER_cert_to_PEM_cert(certificate)) if certificate else "",
            max_body_bytes=self._service.max_body_bytes,
            taken=self._taken,
            refused=self._refuse,
            proceed=self._proceed,
        )

    def data_received(self, data: bytes) -> None:
        was_between = self._reader.is_between
        self._reader.feed(data)
        if was_between and not self._reader.is_between:
            self._since_s = self._service.loop.time()

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

    def close_if_overdue(self, now_s: float) -> None:
        """Leave a peer that keeps us waiting for a request longer than kube-apiserver waits (measured)."""
        if self._busy or self._waiting:
            return
        waited_s = now_s - self._since_s
        if self._reader.is_between and self._served:
            if waited_s > IDLE_S:
                self._transport.close()
        elif self._reader.is_reading_head:
            if waited_s > HEAD_WITHIN_S:
                self._transport.close()
        elif waited_s > BODY_WITHIN_S:
            self._refuse(status_answer(504, "Timeout", TIMED_OUT))

    # -- one exchange after the other -------------------------------------------------------------------------------

    def _taken(self, read: Read) -> None:
        if self._is_surplus:
            self._refuse(too_many())
            return
        self._waiting.append(read)
        if len(self._waiting) >= MAX_WAITING_REQUESTS:
            self._transport.pause_reading()
        self._next()

    def _proceed(self) -> None:
        if self._busy or self._waiting:
            self._owes_continue = True  # once the answers before it are out
        else:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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
        self._linger()

    def _linger(self) -> None:
        self._timers.append(self._service.loop.call_later(LINGER_S, self._transport.close))
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _next(self) -> None:
        if self._busy or self._transport.is_closing():
            return
        if not self._waiting:
            if self._refused is not None:
                self._finish_refused()
            elif self._owes_continue:
                self._owes_continue = False
                self._proceed()
            return
        read = self._waiting.popleft()
        if len(self._waiting) == MAX_WAITING_REQUESTS - 1:
            self._transport.resume_reading()
        self._busy = True
        self._keep_alive, self._is_cut = read.keeps_alive, read.is_cut
        self._chunked = not read.is_old
        request = read.request
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
            response = status_answer(500, "InternalError", f"Internal error occurred: {type(problem).__name__}")
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
        if self._is_cut:
            self._linger()
            return
        self._busy = False
        self._served += 1
        self._since_s = self._service.loop.time()
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
        if not self._service.may_stream():
            self._on_world(stream.close)
            self._send_whole(too_many(), head=head)
            self._exchange_done()
            return
        if not self._chunked:
            self._keep_alive = False
        self._transport.write(self._head(response, None))
        self._stream = stream
        self._service.count_stream(1)
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
            self._service.count_stream(-1)
            self._service.on_world(stream.close)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
