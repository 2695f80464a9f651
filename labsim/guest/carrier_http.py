"""HTTP for a guest on real sockets: the standard library's client, with connections kept between polls.

A TLS handshake costs a machine under software emulation a good part of a second, so a connection that is still open is
used again; one that the server may be about to close is not.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import select
import socket
import ssl
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator

from labsim.guest.effects import ConnectionFailed, Http, HttpAnswer, NextPart

IDLE_LIMIT_S = 4.0  # real seconds; common servers close an idle connection after 5
IDLE_CONNECTIONS_PER_SERVER = 4
BODY_LIMIT_BYTES = 512 << 20
PART_BYTES = 1 << 20

_Key = tuple[str, str, int, str, bool, str, str]


class HttpClient:
    """Sends requests from any number of threads. `close` drops the connections that are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[_Key, list[tuple[float, http.client.HTTPConnection]]] = {}

    def send(self, request: Http, timeout_s: float) -> HttpAnswer:
        """One exchange within `timeout_s` real seconds per read. Raises ConnectionFailed."""
        try:
            key, path = _address(request)
            connection = self._take(key) or _connect(key)
        except (ValueError, OSError) as error:
            raise ConnectionFailed(f"{request.method} {request.url}: {error}") from error
        try:
            return self._exchange(request, key, path, connection, timeout_s)
        except socket.gaierror as error:
            connection.close()
            trouble = f"dial tcp: lookup {connection.host}: no such host"
            raise ConnectionFailed(f"{request.method} {request.url}: {trouble}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise ConnectionFailed(f"{request.method} {request.url}: {error or type(error).__name__}") from error

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for _, connection in connections:
                connection.close()

    def _exchange(
        self, request: Http, key: _Key, path: str, connection: http.client.HTTPConnection, timeout_s: float
    ) -> HttpAnswer:
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        connection.request(request.method, path, request.body or None, dict(request.headers))
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        if request.follow and answer.status < 300:
            return HttpAnswer(answer.status, headers, b"", (connection, answer))
        body = answer.read(BODY_LIMIT_BYTES)
        if answer.will_close:
            connection.close()
        else:
            self._keep(key, connection)
        return HttpAnswer(answer.status, headers, body)

    def _take(self, key: _Key) -> http.client.HTTPConnection | None:
        with self._lock:
            connections = self._idle.get(key) or []
            while connections:
                since_s, connection = connections.pop()
                if _monotonic_s() - since_s < IDLE_LIMIT_S and _quiet(connection):
                    return connection
                connection.close()
        return None

    def _keep(self, key: _Key, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            connections = self._idle.setdefault(key, [])
            if len(connections) < IDLE_CONNECTIONS_PER_SERVER:
                connections.append((_monotonic_s(), connection))
                return
        connection.close()


def next_part(effect: NextPart) -> bytes:
    """What has come of a followed body, which is waited for. Raises ConnectionFailed."""
    connection, answer = effect.rest
    try:
        part: bytes = answer.read1(PART_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        raise ConnectionFailed(f"reading the answer: {error or type(error).__name__}") from error
    if not part:
        connection.close()
    return part


def _monotonic_s() -> float:
    return time.monotonic()  # noqa: TID251  (a carrier on real sockets is an edge)


def _quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether nothing has come in since the last answer; what does come in then is the server's goodbye."""
    if connection.sock is None:
        return False
    readable, _, _ = select.select([connection.sock], [], [], 0)
    return not readable


def _address(request: Http) -> tuple[_Key, str]:
    parts = urllib.parse.urlsplit(request.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https URL")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    trust = (request.ca_pem, request.insecure, request.client_cert_pem, request.client_key_pem)
    return (parts.scheme, parts.hostname, port, *trust), path


def _connect(key: _Key) -> http.client.HTTPConnection:
    scheme, host, port, ca_pem, insecure, cert_pem, key_pem = key
    if scheme == "http":
        return http.client.HTTPConnection(host, port)
    context = _tls_context(ca_pem, insecure, cert_pem, key_pem)
    return http.client.HTTPSConnection(host, port, context=context)


@functools.lru_cache(maxsize=16)
def _tls_context(ca_pem: str, insecure: bool, cert_pem: str, key_pem: str) -> ssl.SSLContext:
    """A context that trusts the given bundle alone, or the system's where none is given."""
    context = ssl.create_default_context(cadata=ca_pem) if ca_pem else ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_pem:
        with _private_file(f"{cert_pem.strip()}\n{key_pem.strip()}\n") as path:
            context.load_cert_chain(path)
    return context


@contextlib.contextmanager
def _private_file(text: str) -> Iterator[str]:
    """A file that nobody else can read, gone afterwards: the ssl module takes keys from files only."""
    fileno, path = tempfile.mkstemp(prefix="labsim-key-")
    try:
        with os.fdopen(fileno, "w") as file:
            file.write(text)
        yield path
    finally:
        os.unlink(path)
