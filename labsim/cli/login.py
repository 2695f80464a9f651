"""`labsim ssh`, `labsim cp` and `labsim reboot --inside`: what is done in a machine, over SSH."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labsim.cli.labs import ask_lab
from labsim.cli.output import talk
from labsim.errors import ExitCode, UsageError, system_errors

if TYPE_CHECKING:
    import paramiko

    from labsim.lab.ssh import Login


def login_to(lab: str, machine: str) -> Login:
    """How to log in to a machine of a running lab."""
    from labsim.lab.ssh import Login

    return Login.of_document(ask_lab(lab, {"verb": "login", "machine": machine}))


def run_ssh(lab: str, machine: str, command: Sequence[str]) -> int:
    """Run a command in a machine and end with its code; without one, a shell."""
    from labsim.lab.ssh import logged_in, run_command

    with logged_in(login_to(lab, machine)) as client:
        if not command:
            return _shell(client)
        stdin = None if sys.stdin.isatty() else sys.stdin.buffer
        line = command[0] if len(command) == 1 else shlex.join(command)
        return run_command(client, line, stdin=stdin, stdout=sys.stdout.buffer, stderr=sys.stderr.buffer)


def copy_file(lab: str, source: str, target: str) -> int:
    """Copy a file from or to a machine: one of the two is MACHINE:PATH."""
    from labsim.lab.ssh import fetch_file, logged_in, store_file

    source_machine, source_path = _place(source)
    target_machine, target_path = _place(target)
    if bool(source_machine) == bool(target_machine):
        raise UsageError("one of the two has to be in a machine", hint="labsim cp worker-0:/etc/hosts hosts")
    if source_machine:
        local = Path(target_path)
        local = local / Path(source_path).name if local.is_dir() else local
        partial = local.with_name(f"{local.name}.part-{os.getpid()}")
        try:
            with logged_in(login_to(lab, source_machine)) as client:
                with system_errors(f"writing {partial}"), partial.open("wb") as file:
                    fetch_file(client, source_path, file)
            partial.replace(local)
        finally:
            partial.unlink(missing_ok=True)
        talk(f"{source} copied to {local}")
        return int(ExitCode.PASSED)
    path = f"{target_path}{Path(source_path).name}" if target_path.endswith("/") else target_path
    with system_errors(f"reading {source_path}"), Path(source_path).open("rb") as content:
        with logged_in(login_to(lab, target_machine)) as client:
            store_file(client, content, path)
    talk(f"{source} copied to {target_machine}:{path}")
    return int(ExitCode.PASSED)


def reboot_inside(lab: str, machines: Sequence[str]) -> int:
    """Let each machine restart itself: its own boot order counts, as for a reboot that its user asks for."""
    from labsim.lab.ssh import logged_in, output_of

    for machine in machines:
        with logged_in(login_to(lab, machine)) as client:
            output_of(client, "sudo systemctl reboot")
        print(f"{machine} restarts by itself")
    return int(ExitCode.PASSED)


def _place(text: str) -> tuple[str, str]:
    """(machine, path); "" for this host. A path of this host with a colon in it is written with a slash before."""
    head, colon, tail = text.partition(":")
    return (head, tail) if colon and head and "/" not in head else ("", text)


def _shell(client: paramiko.SSHClient) -> int:
    """The user's terminal, joined to a shell in the machine."""
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal", hint="labsim ssh MACHINE -- COMMAND runs a command without one")
    size = shutil.get_terminal_size()
    channel = client.invoke_shell(os.environ.get("TERM", "vt100"), size.columns, size.lines)

    def resized(*_: object) -> None:
        now = shutil.get_terminal_size()
        channel.resize_pty(now.columns, now.lines)

    before = termios.tcgetattr(sys.stdin)
    previous = signal.signal(signal.SIGWINCH, resized)
    try:
        tty.setraw(sys.stdin)
        _join(channel)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, previous)
    code = channel.recv_exit_status()
    return 255 if code < 0 else int(code)


def _join(channel: paramiko.Channel) -> None:
    while True:
        ready, _, _ = select.select([channel, sys.stdin], [], [])
        if channel in ready:
            data = channel.recv(1 << 15)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
        if sys.stdin in ready:
            typed = os.read(sys.stdin.fileno(), 1 << 10)
            if not typed:
                channel.shutdown_write()
                return
            channel.sendall(typed)
