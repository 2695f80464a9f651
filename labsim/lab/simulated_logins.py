"""A real SSH server for each simulated machine that somebody logs in to, on a loopback port of the lab's process.

Whoever has the lab's key gets the machine's own files, journal and a few commands. What is typed is carried out on the
world's thread; the server's threads only move bytes. A port is opened when it is asked for, and goes with the lab.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import paramiko

from labsim.entropy import Entropy
from labsim.lab.ssh_key import openssh_text, private_key
from labsim.machines.simulated.driver import SimulatedDriver
from labsim.machines.simulated.shell import USER, Answer, InMachine, SimulatedShell, authorized_keys

LOOPBACK = "127.0.0.1"
T = TypeVar("T")


class OnWorld(Protocol):
    """Carries a call out on the world's thread, and waits for it."""

    def __call__(self, call: Callable[[], T], /) -> T: ...


class SimulatedLogins:
    """The servers of one lab's machines."""

    def __init__(self, driver: SimulatedDriver, entropy: Entropy, on_world: OnWorld) -> None:
        self._driver = driver
        self._entropy = entropy
        self._on_world = on_world
        self._listeners: dict[str, socket.socket] = {}

    def address(self, machine: str) -> tuple[str, int]:
        """Where a machine's server listens, from now on."""
        self._driver.machine(machine)
        listener = self._listeners.get(machine)
        if listener is None:
            listener = socket.create_server((LOOPBACK, 0))
            self._listeners[machine] = listener
            threading.Thread(target=self._accept, args=(machine, listener), name=f"ssh {machine}", daemon=True).start()
        host, port = listener.getsockname()
        return str(host), int(port)

    def host_key(self, machine: str) -> paramiko.PKey:
        """A machine's own key, derived from the lab's seed."""
        text = openssh_text(private_key(self._entropy.child(f"ssh-host/{machine}")))
        return paramiko.Ed25519Key.from_private_key(io.StringIO(text))

    def close(self) -> None:
        """Nobody is let in any more."""
        for listener in self._listeners.values():
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._listeners.clear()

    def _accept(self, machine: str, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(machine, connection), daemon=True).start()

    def _serve(self, machine: str, connection: socket.socket) -> None:
        keys = self._keys_of(machine)
        if not keys:  # off, not up yet, or without a network: nothing answers there
            connection.close()
            return
        transport = paramiko.Transport(connection)
        transport.add_server_key(self.host_key(machine))
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            transport.start_server(server=_Session(self, machine, keys))
            transport.join()

    def _keys_of(self, machine: str) -> tuple[str, ...]:
        def look() -> tuple[str, ...]:
            if machine not in self._driver.names() or not self._driver.machine(machine).has_link:
                return ()
            return authorized_keys(InMachine(self._driver.machine(machine)))

        return self._on_world(look)

    def _shell(self, machine: str) -> SimulatedShell:
        return SimulatedShell(InMachine(self._driver.machine(machine)))

    def carry_out(self, machine: str, line: str, stdin: bytes) -> Answer:
        """A line of a shell, on the world's thread."""
        return self._on_world(lambda: self._shell(machine).run(line, stdin))

    def reads_input(self, machine: str, line: str) -> bool:
        try:
            return self._shell(machine).reads_input(line)
        except ValueError:
            return False


class _Session(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    """One connection: who may in, and what a channel asks for."""

    def __init__(self, logins: SimulatedLogins, machine: str, keys: tuple[str, ...]) -> None:
        self._logins = logins
        self._machine = machine
        self._keys = keys

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == USER and f"{key.get_name()} {key.get_base64()}" in self._keys
        return int(paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        opened = paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return int(opened)

    def check_channel_pty_request(self, channel: paramiko.Channel, *terminal: object) -> bool:
        return True

    def check_channel_window_change_request(self, channel: paramiko.Channel, *size: object) -> bool:
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._begin(self._command, channel, command.decode(errors="replace"))
        return True

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        self._begin(self._shell, channel)
        return True

    def _begin(self, work: Callable[..., int], channel: paramiko.Channel, *arguments: str) -> None:
        def run() -> None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # whoever asked has gone
                # The request is answered when the caller returns, by the thread that reads what comes; what comes after
                # that is read after it. A channel that is closed before its answer would be no answer.
                channel.get_transport().global_request("keepalive@openssh.com", wait=True)
                channel.send_exit_status(work(channel, *arguments))
                channel.close()

        threading.Thread(target=run, daemon=True).start()

    def _command(self, channel: paramiko.Channel, line: str) -> int:
        stdin = b""
        if self._logins.reads_input(self._machine, line):
            with channel.makefile("rb") as sent:
                stdin = sent.read()
        answer = self._logins.carry_out(self._machine, line, stdin)
        channel.sendall(answer.out)
        channel.sendall_stderr(answer.err)
        return answer.code

    def _shell(self, channel: paramiko.Channel) -> int:
        """Lines, with an echo, as a terminal has them."""
        prompt = f"[{USER}@{self._machine} ~]$ ".encode()
        typed, code = bytearray(), 0
        channel.sendall(prompt)
        while data := channel.recv(1):
            if data in (b"\x7f", b"\x08"):
                if typed:
                    typed.pop()
                    channel.sendall(b"\x08 \x08")
            elif data == b"\x04" and not typed:
                break
            elif data == b"\x03":
                typed.clear()
                channel.sendall(b"^C\r\n" + prompt)
            elif data in (b"\r", b"\n"):
                channel.sendall(b"\r\n")
                line = typed.decode(errors="replace").strip()
                typed.clear()
                if line in ("exit", "logout"):
                    break
                if line:
                    answer = self._logins.carry_out(self._machine, line, b"")
                    code = answer.code
                    channel.sendall((answer.out + answer.err).replace(b"\n", b"\r\n"))
                channel.sendall(prompt)
            else:
                typed += data
                channel.sendall(data)
        return code
