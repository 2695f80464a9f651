"""The sockets of a lab: HTTP and HTTPS listeners on one asyncio thread, in front of a world on another.

The edge never touches a store: each request is handed to `submit`, which runs it on the world's thread, and the answer
comes back as a future. Certificates may differ per listener (the hub, hosted API servers, ignition servers).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from labsim.errors import LabError
from labsim.hub.embedded.ceilings import connections_max, streams_max
from labsim.hub.embedded.connection import Connection, status_answer
from labsim.hub.embedded.identity import TlsIdentity
from labsim.model.http import Request, Response

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_BODY_BYTES = 3 * 1024 * 1024  # kube-apiserver's limit for a request body
BACKLOG = 1024
LOOK_ROUND_S = 1.0  # how often peers are looked at that keep us waiting
CLOSE_TIMEOUT_S = 5.0
_IPV6_FREEBIND = 78  # linux/in6.h; the socket module does not name it

# Answers a request on the world's thread: at once, or later through a future.
Handle = Callable[[Request], "Response | Future[Response]"]


class Submit(Protocol):
    """Runs a call on the world's thread; any thread may ask."""

    def __call__(self, call: Callable[[], Any], /) -> Future[Any]: ...


class _Listener:
    """One bound socket with its certificate and its handler."""

    def __init__(self, edge: HttpsEdge, handle: Handle, scheme: str, max_body_bytes: int, *, judges_size: bool) -> None:
        self.scheme = scheme
        self.max_body_bytes = max_body_bytes
        self.loop = edge.loop
        self.connections: set[Connection] = set()
        self.server: asyncio.Server | None = None
        self._edge = edge
        self._submit = edge.submit
        self._given = handle
        self._handle = handle if judges_size else self._handle_small
        self._is_closed = False
        self._due: collections.deque[Callable[[], None]] = collections.deque()
        self._is_woken = False

    def is_full(self) -> bool:
        return self._edge.open_connections() >= self._edge.connections_max

    def may_stream(self) -> bool:
        return self._edge.streams < self._edge.streams_max

    def count_stream(self, more: int) -> None:
        self._edge.streams += more

    def _handle_small(self, request: Request) -> Response | Future[Response]:
        return self._given(request) if len(request.body) <= self.max_body_bytes else too_large(self.max_body_bytes)

    def look_round(self) -> None:
        """Leave the peers that keep us waiting too long; and again in a moment, until the listener is closed."""
        if self._is_closed:
            return
        now_s = self.loop.time()
        for connection in list(self.connections):
            connection.close_if_overdue(now_s)
        self.loop.call_later(LOOK_ROUND_S, self.look_round)

    def soon(self, call: Callable[[], None]) -> None:
        """Run a call on the edge's thread; any thread. Calls that come together cost one wake-up of it.

        Raises RuntimeError once the edge is closed.
        """
        self._due.append(call)
        if not self._is_woken:
            self._is_woken = True
            self.loop.call_soon_threadsafe(self._run_due)

    def _run_due(self) -> None:
        self._is_woken = False
        while self._due:
            call = self._due.popleft()
            try:
                call()
            except Exception as problem:
                self.loop.call_exception_handler({"message": "a call of a connection failed", "exception": problem})

    def answer(self, request: Request) -> Future[Response]:
        outcome: Future[Response] = Future()

        def settle(done: Future[Any]) -> None:
            problem = done.exception()
            if problem is not None:
                outcome.set_exception(problem)
                return
            result = done.result()
            if isinstance(result, Future):
                result.add_done_callback(settle)
            else:
                outcome.set_result(result)

        try:
            self._submit(lambda: self._handle(request)).add_done_callback(settle)
        except RuntimeError as stopped:
            outcome.set_exception(stopped)
        return outcome

    def on_world(self, call: Callable[[], Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the world has stopped: nothing is left to tell it
            self._submit(call)

    async def close(self) -> None:
        self._is_closed = True
        if self.server is not None:
            self.server.close()
        for connection in list(self.connections):
            connection.abort()


class HttpsEdge:
    """Every listener of a lab, on one thread that starts with the first of them.

    `submit` runs a call on the world's thread. All methods may be called from any thread but the edge's own.
    """

    def __init__(self, *, submit: Submit) -> None:
        self.submit = submit
        self.connections_max = connections_max()
        self.streams_max = streams_max(self.connections_max)
        self.streams = 0  # answers that go on for as long as their clients like
        self.loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._lock = threading.Lock()
        self._closed = False

    def listen(
        self,
        host: str,
        port: int,
        handle: Handle,
        *,
        tls: TlsIdentity | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        judges_size: bool = False,
        held: socket.socket | None = None,
    ) -> int:
        """Serve `handle` at an address; returns the bound port (`port` 0 takes any that is free).

        held: a socket that is bound to the address already; it is the edge's from now on.

        judges_size: `handle` refuses larger bodies itself, once it knows who asks for what: it is given one byte more
        than the limit of them.

        Raises LabError where the address cannot be had.
        """
        context = None if tls is None else server_context(tls)
        listening = _listening(held or _bind(host, port), host, port)
        bound: int = listening.getsockname()[1]
        with self._lock:
            if self._closed:
                listening.close()
                raise LabError("the edge is closed", hint="make a new lab")
            self._start()
        listener = _Listener(self, handle, "http" if tls is None else "https", max_body_bytes, judges_size=judges_size)

        async def serve() -> None:
            listener.server = await self.loop.create_server(
                lambda: Connection(listener),
                sock=listening,
                ssl=context,
                backlog=BACKLOG,
                ssl_handshake_timeout=10 if context else None,
            )
            listener.look_round()

        self._run(serve())
        self._listeners[host, bound] = listener
        return bound

    def open_connections(self) -> int:
        return sum(len(listener.connections) for listener in self._listeners.values())

    def close_listener(self, host: str, port: int) -> None:
        """Stop serving a place and drop its connections; nothing happens for one that is not served."""
        listener = self._listeners.pop((host, port), None)
        if listener is not None:
            self._run(listener.close())

    def close(self) -> None:
        """Drop every connection and end the thread. Quiet when called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._thread is None:
            self.loop.close()
            return
        for place in list(self._listeners):
            self.close_listener(*place)
        self._run(_settled())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            self.loop.close()

    def _start(self) -> None:
        if self._thread is None:
            self.loop.set_exception_handler(_loop_problem)
            self._thread = threading.Thread(target=self.loop.run_forever, name="labsim-edge", daemon=True)
            self._thread.start()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CLOSE_TIMEOUT_S)


def too_large(limit: int) -> Response:
    """The answer to a body above the limit."""
    return status_answer(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


async def _settled() -> None:
    """Let the aborted connections hear of it, and end what still waits for an answer that will not come."""
    for _ in range(3):
        await asyncio.sleep(0)
    waiting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting, timeout=CLOSE_TIMEOUT_S / 2)


def _loop_problem(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Peers that break off are everyday; anything else is a fault of ours and goes to the log."""
    del loop
    problem = context.get("exception")
    if isinstance(problem, (OSError, ssl.SSLError)):
        log.debug("connection problem: %s", problem)
        return
    log.error("edge: %s", context.get("message"), exc_info=problem)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).version == 6:
            family = socket.AF_INET6
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # The address of a bridge is tentative, and not to be bound otherwise, until a machine is on it.
            listening.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        listening.bind((host, port))
    except OSError as problem:
        listening.close()
        raise _cannot_bind(host, port, problem) from problem
    return listening


def _listening(bound: socket.socket, host: str, port: int) -> socket.socket:
    try:
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as problem:
        bound.close()
        raise _cannot_bind(host, port, problem) from problem
    return bound


def _cannot_bind(host: str, port: int, problem: OSError) -> LabError:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if problem.errno == errno.EADDRINUSE:
        return LabError(
            f"port {port} on {host} is in use by another program",
            hint=f"choose another port, or see who has it: ss -ltnp 'sport = :{port}'",
        )
    if problem.errno == errno.EACCES:
        return LabError(f"no permission to listen on {place}", hint="ports below 1024 need root; choose a higher one")
    return LabError(f"cannot listen on {place}: {problem.strerror or problem}", hint="give an address of this machine")


def server_context(identity: TlsIdentity) -> ssl.SSLContext:
    """A server-side TLS context. Client certificates are asked for, and verified, where a client CA is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The ssl module reads keys from files only; this one exists for the length of the call and is ours alone.
    handle, path = tempfile.mkstemp(prefix="labsim-key-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(identity.key_pem + identity.cert_pem)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
    if identity.client_ca_pem:
        context.load_verify_locations(cadata=identity.client_ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
