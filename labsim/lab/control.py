"""The control socket of a running lab: commands from other processes, answered on the lab's own thread.

One JSON document per line: `{"verb": "boot", ...}` is answered with `{"ok": true, "result": ...}` or
`{"ok": false, "message": ..., "hint": ...}`. The socket lies in the lab's folder with mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from labsim.errors import ExitCode, LabError, LabsimError

Carry = Callable[[dict[str, Any]], Any]  # carries out one command; may block; raises LabsimError
ANSWER_WITHIN_S = 600.0
LINE_BYTES_MAX = 1 << 20


@contextlib.contextmanager
def _short_address(path: Path) -> Iterator[str]:
    """A name of the socket that fits a socket address (108 bytes), however deep the lab's folder lies."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlSocket:
    """Listens for commands until it is closed."""

    def __init__(self, path: Path, carry: Carry) -> None:
        path.unlink(missing_ok=True)

        class Connection(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline(LINE_BYTES_MAX)
                if line:
                    self.wfile.write(orjson.dumps(_answer(line, carry)) + b"\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._path = path
        mask = os.umask(0o177)
        try:
            with _short_address(path) as address:
                self._server = Server(address, Connection)
        finally:
            os.umask(mask)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._path.unlink(missing_ok=True)


def _answer(line: bytes, carry: Carry) -> dict[str, Any]:
    try:
        command = orjson.loads(line)
        if not isinstance(command, dict):
            return {"ok": False, "message": "a command is a JSON object", "hint": ""}
        return {"ok": True, "result": carry(command)}
    except LabsimError as error:
        return {"ok": False, "message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
    except TimeoutError:
        return {
            "ok": False,
            "message": "the lab did not carry it out in time",
            "hint": "it may be overloaded: labsim status",
        }
    except (ValueError, KeyError, TypeError) as error:
        message = f"bad command: {type(error).__name__}: {error}"
        return {"ok": False, "message": message, "hint": "", "exit_code": int(ExitCode.USAGE)}


def ask(path: Path, command: dict[str, Any], timeout_s: float = ANSWER_WITHIN_S) -> Any:
    """Send a command to a running lab; raises LabError where it refuses or does not answer."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        with connection:
            with _short_address(path) as address:
                connection.connect(address)
            connection.sendall(orjson.dumps(command) + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
    except OSError as error:
        raise LabError(
            f"the lab does not answer on {path.name}: {error.strerror or error}",
            hint="labsim status lists labs; labsim down removes what a dead one left",
        ) from error
    if not line:
        raise LabError("the lab closed the connection without an answer", hint="see its log in the lab's folder")
    answer = orjson.loads(line)
    if answer.get("ok"):
        return answer.get("result")
    raise Refused(answer)


class Refused(LabError):
    """What a lab refused to do, with the exit code that it gave."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("message", "refused")), hint=str(answer.get("hint", "")))
        self.exit_code = ExitCode(answer.get("exit_code", ExitCode.LAB_FAILED))
