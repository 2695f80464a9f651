"""The edge on a real socket: keep-alive, streams, files, limits, bad requests, several certificates."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import gc
import http.client
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from labsim.edge_time import real_s
from labsim.entropy import Entropy
from labsim.errors import LabError
from labsim.hub.embedded.edge import HttpsEdge
from labsim.hub.embedded.files import byte_range
from labsim.hub.embedded.identity import HubAuthority
from labsim.hub.embedded.request_reader import MAX_HEAD_BYTES
from labsim.kube.authentication import client_certificate_user
from labsim.kube.certificates import Identity, issue, self_signed_ca
from labsim.kube.users import User
from labsim.model.http import Request, Response

TIMEOUT_S = 10


class OneThread:
    """A world of one thread that runs what is submitted."""

    def __init__(self) -> None:
        self._calls: queue.Queue[Any] = queue.Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

    def stop(self) -> None:
        self._calls.put(None)
        self.thread.join(TIMEOUT_S)


class Lines:
    """A stream that a test feeds."""

    def __init__(self) -> None:
        self.pending: collections.deque[bytes | None] = collections.deque()
        self.wake: Callable[[], None] = lambda: None
        self.closed = threading.Event()

    def read(self) -> bytes | None:
        return self.pending.popleft() if self.pending else b""

    def on_ready(self, callback: Any) -> None:
        self.wake = callback

    def close(self) -> None:
        self.closed.set()

    def push(self, line: bytes | None) -> None:
        self.pending.append(line)
        self.wake()


@pytest.fixture
def world() -> Iterator[OneThread]:
    made = OneThread()
    yield made
    made.stop()


@pytest.fixture
def edge(world: OneThread) -> Iterator[HttpsEdge]:
    made = HttpsEdge(submit=world.submit)
    yield made
    made.close()


def echo(request: Request) -> Response:
    identity = request.headers.get("x-remote-cert-pem")
    said = f"{request.method} {request.path} {request.query} {len(request.body)} {identity}"
    return Response(headers={"content-type": "text/plain"}, body=said.encode())


def ask(connection: http.client.HTTPConnection, method: str, path: str, **more: Any) -> tuple[int, bytes]:
    connection.request(method, path, **more)
    answer = connection.getresponse()
    return answer.status, answer.read()


def plain(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)


def test_requests_share_a_connection_and_outside_identity_is_stripped(edge: HttpsEdge) -> None:
    connection = plain(edge.listen("127.0.0.1", 0, echo))
    code, body = ask(connection, "POST", "/a%2Fb?x=1&y=%20", body=b"123", headers={"X-Remote-Cert-Pem": "forged"})
    first = connection.sock
    assert (code, body) == (200, b"POST /a%2Fb (('x', '1'), ('y', ' ')) 3 None")
    assert ask(connection, "GET", "/")[0] == 200
    assert connection.sock is first
    connection.close()


def test_an_answer_may_come_later(edge: HttpsEdge) -> None:
    later: Future[Response] = Future()
    connection = plain(edge.listen("127.0.0.1", 0, lambda request: later))
    threading.Timer(0.05, lambda: later.set_result(Response(status=202, body=b"late"))).start()
    assert ask(connection, "GET", "/") == (202, b"late")
    connection.close()


def test_a_failing_handler_gives_500_without_a_traceback(edge: HttpsEdge, caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: Request) -> Response:
        raise RuntimeError("secret detail")

    connection = plain(edge.listen("127.0.0.1", 0, fail))
    code, body = ask(connection, "GET", "/")
    assert code == 500
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert "secret detail" in caplog.text
    connection.close()


def test_large_bodies_are_refused_with_413(edge: HttpsEdge) -> None:
    connection = plain(edge.listen("127.0.0.1", 0, echo, max_body_bytes=1000))
    code, body = ask(connection, "POST", "/", body=b"x" * 1001)
    assert code == 413
    assert b"limit is 1000" in body
    connection.close()
    connection = plain(edge.listen("127.0.0.1", 0, echo, max_body_bytes=1000))
    code, _ = ask(connection, "POST", "/", body=iter([b"x" * 600, b"x" * 600]), encode_chunked=True,
                  headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    assert code == 413
    connection.close()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"F(OB / HTTP/1.1\r\n\r\n",
    ],
)
def test_rubbish_gets_400(edge: HttpsEdge, rubbish: bytes) -> None:
    port = edge.listen("127.0.0.1", 0, echo)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        client.sendall(rubbish)
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_endless_headers_get_431(edge: HttpsEdge) -> None:
    port = edge.listen("127.0.0.1", 0, echo)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * MAX_HEAD_BYTES + b"\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_a_stream_is_sent_as_it_is_made_and_closed_when_the_client_goes(edge: HttpsEdge, world: OneThread) -> None:
    lines = Lines()
    connection = plain(edge.listen("127.0.0.1", 0, lambda request: Response(stream=lines)))
    connection.request("GET", "/")
    answer = connection.getresponse()  # headers are there before any event is
    world.submit(lambda: lines.push(b"one\n"))
    assert answer.read1() == b"one\n"
    world.submit(lambda: lines.push(b"two\n"))
    assert answer.read1() == b"two\n"
    assert not lines.closed.is_set()
    answer.close()
    connection.close()
    assert lines.closed.wait(TIMEOUT_S)


def test_a_stream_that_ends_leaves_the_connection_usable(edge: HttpsEdge, world: OneThread) -> None:
    lines = Lines()
    lines.pending.extend([b"a", b"b", None])
    connection = plain(edge.listen("127.0.0.1", 0, lambda request: Response(stream=lines)))
    assert ask(connection, "GET", "/") == (200, b"ab")
    assert lines.closed.wait(TIMEOUT_S)
    lines.pending.append(None)
    assert ask(connection, "GET", "/") == (200, b"")
    connection.close()


def test_files_are_sent_whole_or_in_part(edge: HttpsEdge, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "image.iso").write_bytes(content)
    connection = plain(edge.listen("127.0.0.1", 0, lambda request: Response(file=str(tmp_path / "image.iso"))))
    assert ask(connection, "GET", "/") == (200, content)
    assert ask(connection, "GET", "/", headers={"Range": "bytes=10-19"}) == (206, content[10:20])
    assert ask(connection, "GET", "/", headers={"Range": "bytes=-5"}) == (206, content[-5:])
    assert ask(connection, "GET", "/", headers={"Range": f"bytes={len(content)}-"})[0] == 416
    connection.request("HEAD", "/")
    head = connection.getresponse()
    head.read()
    assert (head.status, head.headers["content-length"]) == (200, str(len(content)))
    assert ask(connection, "GET", "/") == (200, content)
    connection.close()


@pytest.mark.parametrize(
    ("wanted", "stretch"),
    [("bytes=0-0", (0, 1)), ("bytes=5-", (5, 5)), ("bytes=5-99", (5, 5)), ("bytes=-3", (7, 3)), ("bytes=-99", (0, 10)),
     ("bytes=10-", None), ("bytes=6-5", None), ("bytes=-0", None), ("lines=1-2", (0, 10)), ("bytes=-", (0, 10))],
)  # fmt: skip
def test_ranges(wanted: str, stretch: tuple[int, int] | None) -> None:
    assert byte_range(wanted, 10) == stretch


def test_listeners_have_certificates_of_their_own(edge: HttpsEdge) -> None:
    hub, other = HubAuthority("hub"), HubAuthority("other")
    hub_port = edge.listen("127.0.0.1", 0, echo, tls=hub.serving(["localhost", "127.0.0.1"]))
    other_port = edge.listen("127.0.0.1", 0, echo, tls=other.serving(["127.0.0.1"]))
    trust = ssl.create_default_context(cadata=hub.ca_pem)
    good = http.client.HTTPSConnection("127.0.0.1", hub_port, context=trust, timeout=TIMEOUT_S)
    assert ask(good, "GET", "/")[0] == 200
    good.close()
    bad = http.client.HTTPSConnection("127.0.0.1", other_port, context=trust, timeout=TIMEOUT_S)
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(bad, "GET", "/")
    bad.close()


def client_context(ca_pem: str, identity: Identity | None, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem)
    if identity is not None:
        (folder / "client.pem").write_text(identity.key_pem + identity.cert_pem)
        context.load_cert_chain(folder / "client.pem")
    return context


def test_only_verified_client_certificates_reach_the_handler(edge: HttpsEdge, tmp_path: Path) -> None:
    hub, now_s = HubAuthority(), real_s()
    clients = self_signed_ca(Entropy(1), "clients", "clients", now_s)
    strangers = self_signed_ca(Entropy(2), "clients", "strangers", now_s)
    node = issue(clients, Entropy(1), "w0", "system:node:w0", organizations=("system:nodes",), client=True, now_s=now_s)
    other = issue(strangers, Entropy(1), "w0", "system:node:w0", client=True, now_s=now_s)
    serving = dataclasses.replace(hub.serving(["127.0.0.1"]), client_ca_pem=clients.cert_pem)
    seen: list[User | None] = []

    def handle(request: Request) -> Response:
        seen.append(client_certificate_user(request, clients.cert_pem))
        return Response()

    port = edge.listen("127.0.0.1", 0, handle, tls=serving)
    for identity in (node, None):
        context = client_context(hub.ca_pem, identity, tmp_path)
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=TIMEOUT_S)
        assert ask(connection, "GET", "/", headers={"X-Remote-Cert-Pem": "forged"})[0] == 200
        connection.close()
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, context=client_context(hub.ca_pem, other, tmp_path), timeout=TIMEOUT_S
    )
    with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
        ask(connection, "GET", "/")
    connection.close()
    assert seen[0] is not None
    assert (seen[0].name, seen[0].groups) == ("system:node:w0", ("system:nodes", "system:authenticated"))
    assert seen[1:] == [None]


def test_many_watches_hear_of_one_event(edge: HttpsEdge, world: OneThread) -> None:
    made: list[Lines] = []

    def handle(request: Request) -> Response:
        made.append(Lines())
        return Response(stream=made[-1])

    port = edge.listen("127.0.0.1", 0, handle)
    watchers = [plain(port) for _ in range(200)]
    for watcher in watchers:
        watcher.request("GET", "/")
    answers = [watcher.getresponse() for watcher in watchers]

    def push_to_all() -> None:
        for lines in made:
            lines.push(b"event\n")

    world.submit(push_to_all)
    assert all(answer.read1() == b"event\n" for answer in answers)
    for answer, watcher in zip(answers, watchers, strict=True):
        answer.close()
        watcher.close()
    assert all(lines.closed.wait(TIMEOUT_S) for lines in made)


class Timed(Lines):
    """A stream with a time of its own."""

    timeout_s = 0.05

    def expire(self) -> None:
        self.push(b"last\n")
        self.push(None)

    def keep_alive(self) -> None:
        self.push(b"bookmark\n")


def test_a_timed_stream_is_ended_when_its_time_is_over(edge: HttpsEdge) -> None:
    stream = Timed()
    connection = plain(edge.listen("127.0.0.1", 0, lambda request: Response(stream=stream)))
    assert ask(connection, "GET", "/") == (200, b"last\n")
    connection.close()


def test_a_port_in_use_is_one_clear_error(edge: HttpsEdge) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LabError, match="in use") as caught:
            edge.listen("127.0.0.1", taken.getsockname()[1], echo)
        assert "another port" in caught.value.hint


def test_a_closed_listener_frees_its_port(edge: HttpsEdge) -> None:
    port = edge.listen("127.0.0.1", 0, echo)
    connection = plain(port)
    assert ask(connection, "GET", "/")[0] == 200
    edge.close_listener("127.0.0.1", port)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    connection.close()
    assert edge.listen("127.0.0.1", port, echo) == port


def test_pipelined_requests_are_answered_in_order(edge: HttpsEdge) -> None:
    port = edge.listen("127.0.0.1", 0, echo)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        client.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(40)))
        received = b""
        while received.count(b"HTTP/1.1 200") < 40 or not received.endswith(b"None"):
            received += client.recv(65536)
    order = [int(part.split()[1][1:]) for part in received.split(b"GET ")[1:] for part in [b"GET " + part]]
    assert order == list(range(40))


def test_an_edge_that_closes_in_a_handshake_says_nothing(world: OneThread, caplog: pytest.LogCaptureFixture) -> None:
    """Found at the end of a run with virtual machines: one of them was just connecting."""
    edge = HttpsEdge(submit=world.submit)
    port = edge.listen("127.0.0.1", 0, echo, tls=HubAuthority().serving(["127.0.0.1"]))
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as half_open:
        half_open.sendall(b"\x16\x03\x01")  # the first bytes of a handshake, and no more
        deadline_s = real_s() + TIMEOUT_S
        while not any("_accept_connection2" in repr(task) for task in asyncio.all_tasks(edge.loop)):
            assert real_s() < deadline_s
        edge.close()
    gc.collect()  # a task that is destroyed while it is pending tells the loop
    assert caplog.text == ""
