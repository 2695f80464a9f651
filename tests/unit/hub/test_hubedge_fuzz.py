"""Bytes that are nearly HTTP, on the TLS socket: answered or refused, never a fault of ours; nothing is left behind.

`LABSIM_FUZZ_S=600` goes on with other examples for that many seconds.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from labsim.edge_time import monotonic_s, wait_s
from labsim.hub.embedded.bare import BareHub
from labsim.kube.crds import hub_crds
from labsim.kube.users import User

ANSWERED_WITHIN_S = 10.0
QUIET_S = 0.02  # an unfinished request is waited on for no longer: TLS cannot close one side only
LONG_S = float(os.environ.get("LABSIM_FUZZ_S", "0"))
FUZZ = settings(
    max_examples=1000 if LONG_S else 80,
    deadline=None,
    derandomize=not LONG_S,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TOKEN = b"Authorization: Bearer token\r\n"
MAPS = b"/api/v1/namespaces/default/configmaps"
WATCH = b"GET " + MAPS + b"?watch=true HTTP/1.1\r\nHost: x\r\n" + TOKEN + b"\r\n"


@pytest.fixture(scope="module")
def hub() -> Iterator[BareHub]:
    made = BareHub({"token": User("admin", "admin", ("system:masters",))}, crds=hub_crds())
    try:
        exchange(made, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        yield made
    finally:
        made.close()


CONTEXT = ssl._create_unverified_context()


def exchange(hub: BareHub, sent: bytes, *, waits_s: float = ANSWERED_WITHIN_S) -> bytes:
    """What comes back: the first of it within `waits_s`, more of it as long as it keeps coming."""
    plain = socket.create_connection(("127.0.0.1", hub.port), timeout=ANSWERED_WITHIN_S)
    received = b""
    with CONTEXT.wrap_socket(plain) as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(sent)
            connection.settimeout(waits_s)
            with contextlib.suppress(TimeoutError):
                while data := connection.recv(65536):
                    received += data
                    connection.settimeout(QUIET_S)
    return received


def check(hub: BareHub, sent: bytes, caplog: pytest.LogCaptureFixture, *, waits_s: float) -> bytes:
    """Send it, and see that the answers are not ours to be ashamed of."""
    caplog.clear()
    received = exchange(hub, sent, waits_s=waits_s)
    for start in received.split(b"HTTP/1.1 ")[1:]:
        assert start[:1] in b"12345", start[:80]
        assert not (start.startswith(b"500") and b"InternalError" in start), start[:2000]
    assert b"Traceback" not in received
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text
    return received


def for_a_while(test: Callable[[], None]) -> None:
    until_s = monotonic_s() + LONG_S / 2
    while True:
        test()
        if monotonic_s() >= until_s:
            return


PIECES = st.one_of(
    st.sampled_from(
        [
            *(b"\r\n", b"\r\n\r\n", b" ", b"\x00", b"\xff", b":", b"HTTP/1.1", b"HTTP/2.0", b"GET"),
            *(b"PRI * ", b"OPTIONS *"),
            *(b"GET /api HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"POST " + MAPS + b" HTTP/1.1\r\n"),
            b"FROB / HTTP/1.1\r\n",
            *(b"Host: x\r\n", TOKEN, b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Accept: */*\r\n"),
            *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: \xb2\r\n"),
            b"Content-Length: 9999999\r\n",
            *(b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"zz\r\n"),
            *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Range: bytes=0-1\r\n", WATCH),
            *(b"Content-Type: application/json\r\n", b'{"metadata":{"name":"one"}}', b"{}", b"[" * 5000),
        ]
    ),
    st.binary(max_size=40),
)  # fmt: skip


def test_bytes_that_are_nearly_http_are_refused(hub: BareHub, caplog: pytest.LogCaptureFixture) -> None:
    @FUZZ
    @given(pieces=st.lists(PIECES, max_size=14))
    @example(
        pieces=[b"GET /api HTTP/1.1\r\nHost: x\r\n", b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\nrest\r\n\r\n"]
    )
    @example(pieces=[b"GET /api HTTP/1.1\r\nHost: x\r\n", b"A: " + b"a" * 70_000])
    @example(pieces=[b"GET /api HTTP/1.1\r\n" * 3, b"\r\n\r\n" * 3])
    @example(pieces=[b"FROB /api HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n" * 3])
    @example(pieces=[WATCH, WATCH, b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n"])
    def send(pieces: list[bytes]) -> None:
        check(hub, b"".join(pieces), caplog, waits_s=QUIET_S)

    for_a_while(send)


NAMES = [
    *("api", "apis", "v1", "namespaces", "default", "configmaps", "secrets", "one", "status", "scale", "finalize"),
    *("agent-install.openshift.io", "v1beta1", "agents", "openapi", "v2", "v3", "apiextensions.k8s.io", "watch"),
    *("customresourcedefinitions", "version", "healthz", "readyz", "..", ".", "", "%00", "%2F", "%zz", "%ff%fe", "é"),
]
PATHS = st.lists(st.one_of(st.sampled_from(NAMES), st.text("a/%.;=+-_*~#?\\", max_size=4)), max_size=8).map(
    lambda names: "/" + "/".join(names)
)
QUERIES = st.text("abé0=,!()&%+.-;\x7f?", max_size=20).map(lambda text: text and "?" + text)
HEADERS = st.lists(
    st.sampled_from(
        [
            *("Impersonate-User: \xe9", "Impersonate-Group: a", "Impersonate-Extra-%zz: a"),
            "Accept-Encoding: gzip;q=x",
            *("Content-Encoding: gzip", "Range: bytes=9-1", "Accept: ;q=b", "Accept: application/yaml"),
            "If-None-Match: *",
            *("Accept: application/json;as=Table;v=v1;g=meta.k8s.io", "Content-Type: ;;=", "Content-Type: a/b; c=\xff"),
            *("X-Remote-Cert-Pem: x", "Authorization: Basic YTpi", "User-Agent: curl/8"),
            *("Audit-ID: \xff", "Cookie: a=b"),
        ]
    ),
    max_size=3,
)  # fmt: skip
METHODS = ["GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FROB"]


def test_any_request_gets_an_answer(hub: BareHub, caplog: pytest.LogCaptureFixture) -> None:
    @FUZZ
    @given(method=st.sampled_from(METHODS), path=PATHS, query=QUERIES, headers=HEADERS, body=st.binary(max_size=30))
    def send(method: str, path: str, query: str, headers: list[str], body: bytes) -> None:
        lines = [f"{method} {path}{query} HTTP/1.1", "Host: x", "Authorization: Bearer token", *headers]
        lines += [f"Content-Length: {len(body)}", "Connection: close"]
        sent = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
        received = check(hub, sent, caplog, waits_s=ANSWERED_WITHIN_S)
        assert received.startswith(b"HTTP/1.1 "), "no answer"

    for_a_while(send)


class Held:
    """What a hub holds on to: threads, files, connections, streams, listeners of the store, objects."""

    def __init__(self, hub: BareHub) -> None:
        gc.collect()
        store = hub.server.store
        self.threads = threading.active_count()
        self.files = len(os.listdir("/proc/self/fd"))
        self.connections = hub._edge.open_connections()
        self.streams = hub._edge.streams
        self.listeners = len(store._everybody) + sum(map(len, store._by_kind.values()))
        self.objects = sum(store.count(kind) for kind in store.kinds())


def test_nothing_is_left_behind(hub: BareHub) -> None:
    """Clients that break off at any point: in the handshake, in a head, a body, a watch, between requests."""
    before = vars(Held(hub))
    ends = [WATCH[:cut] for cut in (0, 5, 30, len(WATCH) - 2, len(WATCH))]
    body = b'{"metadata":{"name":"left"}}'
    write = b" HTTP/1.1\r\nHost: x\r\n" + TOKEN + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    ends += [b"POST " + MAPS + write % (len(body) + more, body) for more in (0, 5)]
    ends += [b"DELETE " + MAPS + b"/left" + write % (0, b""), b"GET /api/v1 HTTP/1.1\r\nHost: x\r\n\r\n" * 3]
    for _ in range(6):
        for sent in ends:
            plain = socket.create_connection(("127.0.0.1", hub.port), timeout=ANSWERED_WITHIN_S)
            with CONTEXT.wrap_socket(plain) as connection:
                connection.sendall(sent)
        for unfinished in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", hub.port), timeout=ANSWERED_WITHIN_S) as plain:
                plain.sendall(unfinished)
    exchange(hub, b"DELETE " + MAPS + b"/left" + write.replace(b"Host: x", b"Host: x\r\nConnection: close") % (0, b""))
    deadline_s = monotonic_s() + ANSWERED_WITHIN_S
    while vars(Held(hub)) != before and monotonic_s() < deadline_s:
        wait_s(0.05)
    assert vars(Held(hub)) == before
    answer = exchange(hub, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
