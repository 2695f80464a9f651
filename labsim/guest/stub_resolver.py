"""What a machine's resolver does with a name server that listens at a port of its own, as systemd-resolved does.

/etc/resolv.conf knows no ports, and a user mode network has no other way to the lab's name server: so a stub answers at
127.0.0.53, asks the servers of /etc/systemd/resolved.conf.d first, and those of DHCP where these refuse or are silent.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

RESOLVED_PATH = "/etc/systemd/resolved.conf.d/60-labsim.conf"
STUB = ("127.0.0.53", 53)
FROM_DHCP = "/etc/resolv.conf.new"  # written by the udhcpc script (labsim.discovery.init_script)
TIMEOUT_S = 3.0
DATAGRAM_BYTES = 4096
_REFUSED, _SERVER_FAILURE = 5, 2

Server = tuple[str, int]


def configured_servers(text: str) -> tuple[Server, ...]:
    """The servers of the `DNS=` lines of a resolved.conf: `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`."""
    lines = (line.strip() for line in text.splitlines())
    words = [word for line in lines if line.startswith("DNS=") for word in line.removeprefix("DNS=").split()]
    return tuple(_server(word.partition("#")[0]) for word in words)


def dhcp_servers(text: str) -> tuple[Server, ...]:
    """The `nameserver` lines of a resolv.conf."""
    lines = (line.split() for line in text.splitlines())
    return tuple((words[1], 53) for words in lines if len(words) == 2 and words[0] == "nameserver")


def _server(word: str) -> Server:
    if word.startswith("["):
        address, _, port = word[1:].partition("]")
        return address, int(port[1:] or 53)
    address, colon, port = word.rpartition(":")
    return (address, int(port)) if colon and ":" not in address else (word, 53)


class StubResolver:
    """Hands each question (UDP) to the servers in turn until one answers it. `servers` is asked at each question."""

    def __init__(self, servers: Callable[[], Sequence[Server]], listen: Server = STUB) -> None:
        self._servers = servers
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(listen)
        self.address: Server = self._socket.getsockname()

    def start(self) -> None:
        threading.Thread(target=self._run, name="stub resolver", daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                question, client = self._socket.recvfrom(DATAGRAM_BYTES)
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(question, client), daemon=True).start()

    def _answer(self, question: bytes, client: Server) -> None:
        last = b""
        for server in self._servers():
            try:
                last = _exchange(question, server)
            except OSError:
                continue
            if last[3] & 0x0F not in (_REFUSED, _SERVER_FAILURE):
                break
        if last:
            with contextlib.suppress(OSError):
                self._socket.sendto(last, client)


def _exchange(question: bytes, server: Server) -> bytes:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(TIMEOUT_S)
        asking.connect(server)
        asking.send(question)
        while True:
            answer = asking.recv(DATAGRAM_BYTES)
            if len(answer) >= 4 and answer[:2] == question[:2]:  # its own number, not that of a late answer
                return answer


def start_stub_resolver(print_line: Callable[[str], None]) -> None:
    """Let this machine ask the servers of its configuration, if it has one. Before DHCP writes /etc/resolv.conf."""
    try:
        configured = configured_servers(Path(RESOLVED_PATH).read_text())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        print_line(f"init: {RESOLVED_PATH}: {error}")
        return

    def servers() -> Sequence[Server]:
        try:
            return (*configured, *dhcp_servers(Path(FROM_DHCP).read_text()))
        except OSError:
            return configured

    Path("/etc/nsswitch.conf").write_text("hosts: files dns\n")
    Path("/etc/resolv.conf").write_text(f"nameserver {STUB[0]}\n")
    StubResolver(servers).start()
