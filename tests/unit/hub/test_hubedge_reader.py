"""What a connection's bytes are read as: requests, and refusals in Go's words. Bugs that were found have tests here."""

from __future__ import annotations

import pytest

from labsim.hub.embedded.request_reader import MAX_HEAD_BYTES, Read, RequestReader
from labsim.model.http import Response

LIMIT = 20


class Heard:
    """A reader, and what it has told."""

    def __init__(self) -> None:
        self.read: list[Read] = []
        self.refused: list[Response] = []
        self.proceeded = 0
        self.reader = RequestReader(
            scheme="https",
            client="peer",
            certificate="",
            max_body_bytes=LIMIT,
            taken=self.read.append,
            refused=self.refused.append,
            proceed=self._proceed,
        )

    def _proceed(self) -> None:
        self.proceeded += 1


def heard(*pieces: bytes) -> Heard:
    made = Heard()
    for piece in pieces:
        made.reader.feed(piece)
    return made


def refused(*pieces: bytes) -> tuple[int, bytes]:
    found = heard(*pieces)
    assert not found.read
    return found.refused[0].status, found.refused[0].body


def test_a_body_above_the_limit_is_cut_one_byte_after_it_and_nothing_more_is_read() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    found = heard(head, b"a" * 15, b"b" * 30, b"c" * 55, b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [read.request.body for read in found.read] == [b"a" * 15 + b"b" * 6]
    assert (found.read[0].is_cut, found.read[0].keeps_alive, found.reader.is_done) == (True, False, True)
    whole = heard(head.replace(b"100", b"20"), b"a" * 20)
    assert (whole.read[0].is_cut, len(whole.read[0].request.body)) == (False, LIMIT)


def test_a_head_counts_its_line_and_all_its_headers() -> None:
    line = b"GET / HTTP/1.1\r\nHost: x\r\n"
    room = MAX_HEAD_BYTES - 2 * len(line)
    assert heard(line + b"A: " + b"a" * room + b"\r\n\r\n").read
    assert refused(line + b"A: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n")[0] == 431
    assert refused(line, *[b"A: " + b"a" * 60_000 + b"\r\n"] * 20)[0] == 431


@pytest.mark.parametrize(
    ("head", "status", "body"),
    [
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, b"505 HTTP Version Not Supported: unsupported protocol version"),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505, b"505 HTTP Version Not Supported: unsupported protocol version"),
        (b"GET /readyz\r\n\r\n", 400, b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"400 Bad Request: missing required Host header"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, b"400 Bad Request: malformed Host header"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, b"400 Bad Request"),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: y\r\n\r\n", 417, b""),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            b"Unsupported transfer encoding",
        ),
        (b"\x16\x03\x01\x02", 400, b"400 Bad Request"),
    ],
)
def test_what_is_no_request_is_refused_in_the_words_of_a_go_server(head: bytes, status: int, body: bytes) -> None:
    assert refused(head) == (status, body)


def test_of_a_header_given_twice_the_first_counts() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n"
    headers = heard(head + b"Impersonate-Group: g\r\nImpersonate-Group: h\r\n\r\n").read[0].request.headers
    assert (headers["authorization"], headers["impersonate-group"]) == ("Bearer a", "g, h")


def test_a_query_is_read_as_go_reads_it() -> None:
    head = b"GET /a?limit=1;limit=2&x=%zz&y=%20+&z HTTP/1.1\r\nHost: x\r\n\r\n"
    assert heard(head).read[0].request.query == (("y", "  "), ("z", ""))


def test_a_url_may_be_longer_than_64_kib_and_a_target_may_be_no_path() -> None:
    long = b"/" + b"a" * 100_000
    assert heard(b"GET " + long + b" HTTP/1.1\r\nHost: x\r\n\r\n").read[0].request.path == long.decode()
    for target, path in ((b"http://h:1/p?q", "/p"), (b"http://h", "/"), (b"*", "*"), (b"/p#f", "/p#f")):
        method = b"OPTIONS" if target == b"*" else b"GET"
        assert heard(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n").read[0].request.path == path


def test_methods_that_nobody_knows_are_kept() -> None:
    for method in (b"FROB", b"M1", b"A" * 100):
        assert heard(method + b" / HTTP/1.1\r\nHost: x\r\n\r\n").read[0].request.method == method.decode()
    assert refused(b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 400


def test_after_a_wish_for_another_protocol_the_connection_ends() -> None:
    """Found: a client that went on with the connection was never answered again."""
    for wish in (b"CONNECT /p HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n" + _UPGRADE + b"\r\n"):
        found = heard(wish, b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [(read.keeps_alive, found.reader.is_done) for read in found.read] == [(False, True)]


_UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"


def test_whoever_waits_is_asked_for_his_body_once() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    found = heard(head)
    assert (found.proceeded, found.read) == (1, [])
    found.reader.feed(b"ok")
    assert found.read[0].request.body == b"ok"


def test_how_far_a_request_has_come_is_known() -> None:
    found = heard()
    stages = []
    for piece in (b"", b"POST / HTTP/1.1\r\n", b"Host: x\r\nContent-Length: 2\r\n\r\n", b"o", b"k"):
        if piece:
            found.reader.feed(piece)
        stages.append((found.reader.is_between, found.reader.is_reading_head))
    assert stages == [(True, True), (False, True), (False, False), (False, False), (True, True)]
