"""A process that goes on when its command has ended: it holds a lab that stays open.

The command starts it and waits for one JSON line on its stdout: what the command should say (`{"ok": true, ...}`), or
why it could not be done (`message`, `hint`, `exit_code`). After that line the process writes to its log alone.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import orjson

from labsim.edge_time import monotonic_s
from labsim.errors import ExitCode, LabError, LabsimError

END_WITHIN_S = 60.0


def start(verb: str, arguments: dict[str, Any], *, within_s: float | None, stderr: IO[bytes] | None) -> dict[str, Any]:
    """Start `labsim.cli.daemon`, and return what it reports. Raises what it raised; a Ctrl-C here ends it there too."""
    command = [sys.executable, "-m", "labsim.cli.daemon", verb, orjson.dumps(arguments).decode()]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    try:
        with process.stdout as answers:
            line = _line(answers, within_s)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait(END_WITHIN_S)
        raise
    if not line:
        code = process.wait(END_WITHIN_S)
        raise LabError(
            f"the lab's process ended (exit {code}) without a word", hint="labsim up --foreground shows more"
        )
    report: dict[str, Any] = orjson.loads(line)
    if not report.get("ok"):
        process.wait(END_WITHIN_S)
        raise Refused(report)
    return report


class Refused(LabsimError):
    """What the other process could not do, in its own words."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(str(report.get("message", "")), hint=str(report.get("hint", "")))
        self.exit_code = ExitCode(report.get("exit_code", ExitCode.INTERNAL))


def _line(answers: IO[bytes], within_s: float | None) -> bytes:
    deadline_s = None if within_s is None else monotonic_s() + within_s
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(answers, selectors.EVENT_READ)
        while not data.endswith(b"\n"):
            left_s = None if deadline_s is None else deadline_s - monotonic_s()
            if not selector.select(left_s):
                raise LabError(
                    f"the lab did not come up within {within_s:.0f} s", hint="this machine may be overloaded"
                )
            chunk = os.read(answers.fileno(), 65_536)
            if not chunk:
                return b""
            data += chunk
    return data


def report(document: dict[str, Any], log: Path | None = None) -> None:
    """Tell the command that waits; from then on this process writes to `log` (or nowhere)."""
    sys.stdout.write(orjson.dumps(document).decode() + "\n")
    sys.stdout.flush()
    sink = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(sink, stream.fileno())
    os.close(sink)
