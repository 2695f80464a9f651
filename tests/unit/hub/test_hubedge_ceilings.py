"""Peers that keep us waiting, and more of them than there is room for."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from labsim.edge_time import monotonic_s, wait_s
from labsim.hub.embedded import ceilings, connection, edge
from labsim.hub.embedded.edge import HttpsEdge
from labsim.model.http import Request, Response

WITHIN_S = 10.0


def at_once(call: Any, /) -> Future[Any]:
    done: Future[Any] = Future()
    done.set_result(call())
    return done


class Endless:
    """A stream that never has anything."""

    def __init__(self) -> None:
        self.is_closed = False

    def read(self) -> bytes | None:
        return b""

    def on_ready(self, callback: Any) -> None: ...

    def close(self) -> None:
        self.is_closed = True


class Served:
    """An edge that answers a path of /stream with a stream, and any other with its body's length."""

    def __init__(self) -> None:
        self.edge = HttpsEdge(submit=at_once)
        self.streams: list[Endless] = []
        self.port = self.edge.listen("127.0.0.1", 0, self.answer)

    def answer(self, request: Request) -> Response:
        if request.path != "/stream":
            return Response(body=b"%d" % len(request.body))
        self.streams.append(Endless())
        return Response(stream=self.streams[-1])

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(edge, "LOOK_ROUND_S", 0.01)
    made = Served()
    try:
        yield made
    finally:
        made.edge.close()


def status(connection: http.client.HTTPConnection, path: str = "/") -> int:
    connection.request("GET", path)
    return connection.getresponse().status


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = monotonic_s() + WITHIN_S
    while not holds():
        assert monotonic_s() < deadline_s
        wait_s(0.01)


def sent(served: Served, data: bytes) -> bytes:
    """All that comes back for some bytes, until the other side closes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=WITHIN_S) as client:
        client.sendall(data)
        received = b""
        while piece := client.recv(65536):
            received += piece
    return received


def test_a_peer_that_does_not_finish_its_request_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_WITHIN_S", "IDLE_S", "BODY_WITHIN_S"):
        monkeypatch.setattr(connection, name, 0.05)
    assert sent(served, b"") == b""
    assert sent(served, b"GET / HTTP/1.1\r\nHost: x\r\n") == b""
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert sent(served, whole).endswith(b"\r\n\r\n0")
    assert sent(served, whole + b"GET").endswith(b"\r\n\r\n0")
    late = sent(served, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
    assert late.startswith(b"HTTP/1.1 504 ")
    assert connection.TIMED_OUT.encode() in late
    wait_until(lambda: served.edge.open_connections() == 0)


def test_who_gets_an_answer_that_goes_on_is_not_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_WITHIN_S", "IDLE_S", "BODY_WITHIN_S"):
        monkeypatch.setattr(connection, name, 0.02)
    watcher = served.open()
    assert status(watcher, "/stream") == 200
    wait_s(0.2)
    assert not served.streams[0].is_closed
    watcher.close()


def test_one_connection_too_many_is_told_so_and_there_is_room_again(served: Served) -> None:
    served.edge.connections_max = 2
    first, second, third = served.open(), served.open(), served.open()
    assert (status(first), status(second)) == (200, 200)
    third.request("GET", "/")
    answer = third.getresponse()
    assert (answer.status, answer.headers["Retry-After"], answer.read()) == (429, "1", ceilings.TOO_MANY.encode())
    first.close()
    wait_until(lambda: served.edge.open_connections() < 2)
    assert status(third) == 200
    for each in (second, third):
        each.close()


def test_one_stream_too_many_is_told_so_and_ordinary_requests_go_on(served: Served) -> None:
    served.edge.streams_max = 1
    watcher, other = served.open(), served.open()
    assert status(watcher, "/stream") == 200
    other.request("GET", "/stream")
    refused = other.getresponse()
    assert (refused.status, refused.read()) == (429, ceilings.TOO_MANY.encode())
    assert served.streams[1].is_closed
    other.request("GET", "/")
    assert other.getresponse().read() == b"0"
    watcher.close()
    wait_until(lambda: served.edge.streams == 0)
    assert status(other, "/stream") == 200
    other.close()


def test_nobody_is_asked_for_a_body_in_the_middle_of_another_answer(served: Served) -> None:
    """Found: «100 Continue» stood among the chunks of a watch on the same connection."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=0.3) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        received = b""
        with contextlib.suppress(TimeoutError):
            while piece := client.recv(65536):
                received += piece
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"100 Continue" not in received


def test_the_answer_to_a_cut_body_arrives_while_the_peer_still_sends(served: Served) -> None:
    port = served.edge.listen("127.0.0.1", 0, served.answer, max_body_bytes=10, judges_size=True)
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 500_000)
        received = b""
        while not received.endswith(b"\r\n\r\n11"):
            received += client.recv(65536)
    assert b"connection: close" in received


def test_the_process_may_open_as_many_as_its_hard_limit_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(before[1], 2000)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        assert ceilings.connections_max() == min(ceilings.CONNECTIONS_MAX, before[1] - ceilings.OTHER_FILES)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= wanted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
