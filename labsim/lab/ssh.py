"""Logs in to a lab's machines over SSH: commands, a shell, files; with the lab's key and the lab's known hosts.

A machine's host key is pinned: what the machine itself has said on its console counts (RHCOS and our own image say it
at each boot, a discovery boot with a new key each time). Where a console says nothing, the first key that was seen is
kept in the lab's `known_hosts`, under the machine's name, and another one is refused. Nobody's ~/.ssh is read or
written.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import paramiko
import tenacity

from labsim.errors import LabError, system_errors

CONNECT_TIMEOUT_S = 10.0
READY_WITHIN_S = 60.0  # a machine that has just started, under software emulation
CHUNK_BYTES = 1 << 15
_ANNOUNCED = re.compile(rb"SSH host key: (SHA256:[A-Za-z0-9+/]{43})=* \((\w+)\)")


class LoginFailed(LabError):
    """A machine could not be logged in to."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How to log in to a machine. name: in known_hosts. announced: the fingerprints that its console has told."""

    name: str
    host: str
    port: int
    user: str
    key_file: Path
    known_hosts: Path
    announced: tuple[str, ...] = ()

    def as_document(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        return {**fields, "key_file": str(self.key_file), "known_hosts": str(self.known_hosts)}

    @classmethod
    def of_document(cls, fields: dict[str, Any]) -> Login:
        paths = {name: Path(fields[name]) for name in ("key_file", "known_hosts")}
        return cls(**{**fields, **paths, "announced": tuple(fields["announced"])})


def announced_keys(console: bytes) -> tuple[str, ...]:
    """The fingerprints that a console has told last, one for each type of key."""
    told = {kind: fingerprint.decode() for fingerprint, kind in _ANNOUNCED.findall(console)}
    return tuple(told.values())


def fingerprint(key: paramiko.PKey) -> str:
    digest = hashlib.sha256(key.asbytes()).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@contextlib.contextmanager
def logged_in(login: Login, *, ready_within_s: float = READY_WITHIN_S) -> Iterator[paramiko.SSHClient]:
    """A connection. A server that does not answer yet is waited for; a key that is not the machine's never is."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(ready_within_s),
        wait=tenacity.wait_exponential(0.2, max=2.0),
        retry=tenacity.retry_if_exception_type((OSError, EOFError, paramiko.SSHException))
        & tenacity.retry_if_not_exception_type((paramiko.AuthenticationException, paramiko.BadHostKeyException)),
        reraise=True,
    )
    try:
        client = retrying(_connected, login)
    except paramiko.AuthenticationException as error:
        raise LoginFailed(
            f"{login.name} does not take the lab's key for {login.user}",
            hint="was the machine booted with this lab's discovery ISO, or installed by its cluster?",
        ) from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise LoginFailed(
            f"nothing lets us in at {login.name} ({login.host}:{login.port}) within {ready_within_s:.0f} s: "
            f"{error or type(error).__name__}",
            hint="labsim console shows whether it is up; where its image was built, dropbear-bin has to be installed",
        ) from error
    try:
        yield client
    finally:
        client.close()


def _connected(login: Login) -> paramiko.SSHClient:
    with system_errors(f"reading {login.key_file}"):
        key = paramiko.Ed25519Key.from_private_key_file(str(login.key_file))
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_Pinned(login))
    try:
        client.connect(
            login.host,
            port=login.port,
            username=login.user,
            pkey=key,
            timeout=CONNECT_TIMEOUT_S,
            banner_timeout=CONNECT_TIMEOUT_S,
            auth_timeout=CONNECT_TIMEOUT_S,
            allow_agent=False,
            look_for_keys=False,
        )
    except BaseException:
        client.close()
        raise
    return client


class _Pinned(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
    """Asked for each key, because the client is told of no known hosts."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client, hostname
        login, found = self._login, fingerprint(key)
        known = paramiko.HostKeys()
        with system_errors(f"reading {login.known_hosts}"):
            if login.known_hosts.exists():
                known.load(str(login.known_hosts))
        pinned = known.lookup(login.name)
        kept = None if pinned is None else pinned.get(key.get_name())
        if login.announced and found not in login.announced:
            raise LoginFailed(
                f"what answers at {login.host}:{login.port} has the key {found}; {login.name} said on its console that "
                f"it has {' or '.join(login.announced)}",
                hint="something else answers there, or the machine is just starting again: try once more",
            )
        if not login.announced and kept is not None and kept != key:
            raise LoginFailed(
                f"{login.name} has another host key ({found}) than when it was logged in to first",
                hint=f"if it was installed or booted anew since, remove its line from {login.known_hosts}",
            )
        if kept != key:
            known.pop(login.name, None)
            known.add(login.name, key.get_name(), key)
            with system_errors(f"writing {login.known_hosts}"):
                known.save(str(login.known_hosts))


def run_command(
    client: paramiko.SSHClient, command: str, *, stdin: IO[bytes] | None = None, stdout: IO[bytes], stderr: IO[bytes]
) -> int:
    """Run a command with these streams; answer its exit code, 255 where the connection ended first."""
    from threading import Thread

    transport = client.get_transport()
    assert transport is not None, "it is connected"
    with transport.open_session(timeout=CONNECT_TIMEOUT_S) as channel:
        channel.exec_command(command)
        senders = []
        if stdin is None:
            channel.shutdown_write()
        else:
            senders.append(Thread(target=_send, args=(channel, stdin), daemon=True))
        errors = Thread(target=_receive, args=(channel.recv_stderr, stderr), daemon=True)
        for thread in (*senders, errors):
            thread.start()
        _receive(channel.recv, stdout)
        errors.join()
        code: int = channel.recv_exit_status()
    return 255 if code < 0 else code


def output_of(client: paramiko.SSHClient, command: str) -> bytes:
    """What a command prints, errors too. Raises LoginFailed where it fails."""
    import io

    printed, errors = io.BytesIO(), io.BytesIO()
    code = run_command(client, command, stdout=printed, stderr=errors)
    if code:
        said = errors.getvalue().decode(errors="replace").strip()
        raise LoginFailed(f"{command!r} ended with {code}: {said or 'it says nothing'}")
    return printed.getvalue()


def fetch_file(client: paramiko.SSHClient, path: str, target: IO[bytes]) -> None:
    """Write a file of the machine to `target`. By `cat`: an SFTP server is not in every image."""
    import io

    errors = io.BytesIO()
    if run_command(client, f"cat {shlex.quote(path)}", stdout=target, stderr=errors):
        raise LoginFailed(errors.getvalue().decode(errors="replace").strip() or f"{path} cannot be read")


def store_file(client: paramiko.SSHClient, source: IO[bytes], path: str) -> None:
    """Write a file on the machine; it has its name when it is whole."""
    import io

    final, part = shlex.quote(path), shlex.quote(f"{path}.labsim-part")
    printed, errors = io.BytesIO(), io.BytesIO()
    command = f"cat > {part} && mv {part} {final}"
    if run_command(client, command, stdin=source, stdout=printed, stderr=errors):
        raise LoginFailed(errors.getvalue().decode(errors="replace").strip() or f"{path} cannot be written")


def _send(channel: paramiko.Channel, source: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # the command does not read on
        read = getattr(source, "read1", source.read)
        while data := read(CHUNK_BYTES):
            channel.sendall(data)
        channel.shutdown_write()


def _receive(receive: Any, target: IO[bytes]) -> None:
    with contextlib.suppress(socket.timeout):
        while data := receive(CHUNK_BYTES):
            target.write(data)
            target.flush()
