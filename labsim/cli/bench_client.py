"""A cheap client of an API server, a process of its own, so that `labsim bench api` measures the server and not itself.

Started as `python -m labsim.cli.bench_client`: reads its work as one JSON line, connects, prints `ready`, waits for a
line, does the work and prints what it did as JSON. Knows only the standard library, and HTTP only as far as it must.
"""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import ssl
import sys
from typing import Any

from labsim.edge_time import monotonic_s

TIMEOUT_S = 20.0
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
_REVISION = re.compile(rb'"resourceVersion": ?"(\d+)"')
EVENT = b'{"type":"MODIFIED"'
END = b"\r\n0\r\n\r\n"


class BenchConnection:
    """One kept-alive HTTPS connection to a server on this machine, which is trusted as it was started for this."""

    def __init__(self, port: int, token: str) -> None:
        context = ssl._create_unverified_context()  # noqa: S323  (a server of this run)
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain)
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n".encode()

    def send(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> None:
        about = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (kind.encode(), len(body)) if body else b""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n".encode() + self._head + about + b"\r\n" + body)

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        """The status and the body as it is on the wire (a chunked one with its chunk sizes)."""
        self.send(method, path, body, kind)
        head, data = self.read_head()
        length = _LENGTH.search(head)
        status = int(head[9:12])
        if length is not None:
            pieces, missing = [data], int(length[1]) - len(data)
            while missing > 0:
                pieces.append(self._more())
                missing -= len(pieces[-1])
            return status, b"".join(pieces)
        while not data.endswith(END):
            data += self._more()
        return status, data

    def read_head(self) -> tuple[bytes, bytes]:
        """The head of an answer, and what has come of its body."""
        data = self._more()
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, rest = data.partition(b"\r\n\r\n")
        return head + b"\r\n", rest

    def _more(self) -> bytes:
        data = self.socket.recv(262144)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def bench_object(name: str, count: int, revision: bytes = b"", *, disks_per_letter: int = 1) -> bytes:
    """A custom resource of 1.3 KB; with 80 disks per letter it has the 21 KB of an Agent with its inventory."""
    metadata = {"name": name, "labels": {"infraenvs.agent-install.openshift.io": "lab"}}
    if revision:
        metadata["resourceVersion"] = revision.decode()
    conditions = [
        {"type": kind, "status": "True", "reason": "AsExpected", "message": f"The {kind} check of the host has passed"}
        for kind in ("SpecSynced", "Connected", "RequirementsMet", "Validated", "Installed", "Bound", "Cleanup")
    ]
    disks = [
        {"name": f"sd{letter}", "path": f"/dev/sd{letter}", "sizeBytes": 128 << 30}
        for letter in disks_per_letter * "abcd"
    ]
    spec = {"count": count, "hostname": name, "approved": True, "conditions": conditions, "disks": disks}
    document = {"apiVersion": "bench.labsim.dev/v1", "kind": "Bench", "metadata": metadata, "spec": spec}
    return json.dumps(document).encode()


class Load:
    """The same operation again and again, until `count` are done or `for_s` seconds have gone."""

    def __init__(self, work: dict[str, Any]) -> None:
        self._connection = BenchConnection(work["port"], work["token"])
        self._path: str = work["path"]
        self._name: str = work["name"]
        self._what: str = work["what"]
        self._count: int = work["count"]
        self._for_s: float = work["for_s"]
        self._disks: int = work.get("disks", 1)
        self._revision = b""
        if self._what in ("update", "patch", "get"):
            path = f"{self._path}/{self._name}"
            status, answer = self._connection.ask("GET", path)
            if status == 404:
                status, answer = self._connection.ask("POST", self._path, bench_object(self._name, 0))
            self._note(status, answer)

    def run(self) -> dict[str, Any]:
        started_s = monotonic_s()
        until_s = started_s + self._for_s
        done = 0
        while done < self._count and (done == 0 or monotonic_s() < until_s):
            self._one(done)
            done += 1
        return {"done": done, "took_s": monotonic_s() - started_s}

    def _one(self, number: int) -> None:
        path = f"{self._path}/{self._name}"
        if self._what == "create":
            name = f"{self._name}-{number}"
            self._note(
                *self._connection.ask("POST", self._path, bench_object(name, number, disks_per_letter=self._disks))
            )
        elif self._what == "update":
            self._note(*self._connection.ask("PUT", path, bench_object(self._name, number + 1, self._revision)))
        elif self._what == "patch":
            change = b'{"spec":{"count":%d}}' % (number + 1000)
            self._note(*self._connection.ask("PATCH", path, change, "application/merge-patch+json"))
        elif self._what == "get":
            self._note(*self._connection.ask("GET", path))
        else:
            self._note(*self._connection.ask("GET", f"{self._path}?limit=100"))

    def _note(self, status: int, answer: bytes) -> None:
        if status >= 300:
            raise RuntimeError(f"{self._what}: {status} {answer[:300].decode(errors='replace')}")
        revision = _REVISION.search(answer)
        self._revision = revision[1] if revision else b""


class Watchers:
    """Several watches of one collection in one process, which end when each has seen `count` changes."""

    def __init__(self, work: dict[str, Any]) -> None:
        self._count: int = work["count"]
        self._path: str = work["path"]
        self._selector = selectors.DefaultSelector()
        self._connections = [BenchConnection(work["port"], work["token"]) for _ in range(work["watchers"])]
        for connection in self._connections:
            _, listed = connection.ask("GET", f"{self._path}?limit=1")
            revisions = _REVISION.findall(listed)
            newest = max(map(int, revisions))
            connection.send("GET", f"{self._path}?watch=1&resourceVersion={newest}&timeoutSeconds=60")
            head, _ = connection.read_head()
            if int(head[9:12]) != 200:
                raise RuntimeError(f"watch: {head.decode(errors='replace')}")
            connection.socket.setblocking(False)
            self._selector.register(connection.socket, selectors.EVENT_READ, [0, b""])

    def run(self) -> dict[str, Any]:
        started_s = monotonic_s()
        waiting = len(self._connections)
        while waiting:
            ready = self._selector.select(TIMEOUT_S)
            if not ready:
                raise RuntimeError("watch: events are missing")
            for key, _ in ready:
                assert isinstance(key.fileobj, ssl.SSLSocket)
                self._read(key.fileobj, key.data)
                if key.data[0] >= self._count:
                    self._selector.unregister(key.fileobj)
                    waiting -= 1
        return {"done": self._count * len(self._connections), "took_s": monotonic_s() - started_s}

    def _read(self, from_socket: ssl.SSLSocket, state: list[Any]) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := from_socket.recv(65536):
                data = state[1] + data
                state[0] += data.count(EVENT)
                state[1] = data[-(len(EVENT) - 1) :]
            raise ConnectionError("the server ended a watch")


def main() -> None:
    work = json.loads(sys.stdin.readline())
    doing = Watchers(work) if work["what"] == "watch" else Load(work)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(doing.run()) + "\n")


if __name__ == "__main__":
    main()
