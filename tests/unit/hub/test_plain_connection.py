"""One authenticated way to a cluster: what it sends, what it waits for, and what its failures say."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labsim.controllers.runtime.effects import Unreachable
from labsim.errors import LabError
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.kube.errors import ApiError


class Answers(http.server.BaseHTTPRequestHandler):
    """Says what the test wrote down, and writes down what it was asked."""

    protocol_version = "HTTP/1.1"
    script: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, str, dict[str, str], bytes]]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.asked.append((self.command, self.path, headers, body))
        status, extra, data = self.script.pop(0)
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815  (names that http.server looks for)

    def log_message(self, format: str, *args: Any) -> None: ...


class Cluster:
    def __init__(self, folder: Path, *script: tuple[int, dict[str, str], bytes]) -> None:
        class Handler(Answers):
            asked: list[tuple[str, str, dict[str, str], bytes]] = []  # noqa: RUF012

        Handler.script = list(script)
        self.asked = Handler.asked
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        self.kubeconfig = kubeconfig(folder, f"http://127.0.0.1:{self.server.server_port}")
        self.connection = ClusterConnection(ClusterAccess(kubeconfig=self.kubeconfig))

    def close(self) -> None:
        self.connection.close()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


def kubeconfig(folder: Path, url: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": "ca.crt"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("one", "two")],
        "users": [{"name": "u", "user": {"token": "the-token"}}],
    }
    (folder / "ca.crt").write_text("")
    (folder / "kubeconfig").write_text(yaml.safe_dump(document))
    return folder / "kubeconfig"


@contextlib.contextmanager
def serving(folder: Path, *script: tuple[int, dict[str, str], bytes]) -> Iterator[Cluster]:
    cluster = Cluster(folder, *script)
    try:
        yield cluster
    finally:
        cluster.close()


def status(code: int, reason: str, message: str) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "reason": reason, "message": message}).encode()


def test_a_request_carries_the_token_of_the_kubeconfig(tmp_path: Path) -> None:
    with serving(tmp_path, (200, {}, b'{"kind": "X"}')) as cluster:
        answer = cluster.connection.call("POST", "/api/v1/x", query={"fieldManager": "a b"}, body={"a": 1})
        assert answer == {"kind": "X"}
        method, path, headers, body = cluster.asked[0]
        assert (method, path, body) == ("POST", "/api/v1/x?fieldManager=a+b", b'{"a":1}')
        assert headers["authorization"] == "Bearer the-token"
        assert headers["user-agent"] == "labsim"


def test_a_refusal_is_the_status_that_was_sent(tmp_path: Path) -> None:
    with serving(tmp_path, (409, {}, status(409, "Conflict", "not so")), (502, {}, b"bad gateway")) as cluster:
        with pytest.raises(ApiError) as refused:
            cluster.connection.call("GET", "/x")
        assert (refused.value.code, refused.value.reason, refused.value.message) == (409, "Conflict", "not so")
        with pytest.raises(ApiError, match="bad gateway") as odd:
            cluster.connection.call("GET", "/x")
        assert odd.value.code == 502


def test_an_answer_that_says_when_to_come_again_is_asked_again(tmp_path: Path) -> None:
    busy = (429, {"retry-after": "0"}, status(429, "TooManyRequests", "storage is (re)initializing"))
    with serving(tmp_path, busy, busy, (200, {}, b"{}"), busy) as cluster:
        assert cluster.connection.call("GET", "/x") == {}
        with pytest.raises(ApiError):
            cluster.connection.call("GET", "/x", is_patient=False)
        assert len(cluster.asked) == 4


def test_a_watch_tells_events(tmp_path: Path) -> None:
    line = b'{"type": "ADDED", "object": {}}\n'
    with serving(tmp_path, (200, {}, line * 2)) as cluster:
        assert [event["type"] for event in cluster.connection.watch("/x", {}, 5)] == ["ADDED", "ADDED"]
        assert cluster.asked[0][1] == "/x?watch=true"


def test_nobody_at_the_address_is_said_without_python(tmp_path: Path) -> None:
    connection = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:9")))
    with pytest.raises(Unreachable) as away:
        connection.call("GET", "/x", query={"a": "b"})
    assert str(away.value) == "GET http://127.0.0.1:9/x: [Errno 111] Connection refused"
    connection.close()


def test_a_kubeconfig_is_written_so_that_it_leads_there_from_anywhere(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:9")
    copy = yaml.safe_load(ClusterAccess(kubeconfig=path, context="two").text())
    assert copy["current-context"] == "two"
    assert copy["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca.crt")
    assert copy["users"][0]["user"] == {"token": "the-token"}


def test_a_context_that_is_not_there_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(LabError, match="cannot be used") as refused:
        ClusterConnection(ClusterAccess(kubeconfig=path, context="three"))
    assert "--context" in refused.value.hint
