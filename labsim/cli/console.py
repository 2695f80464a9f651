"""`labsim console`: what a machine has printed, and what it goes on to print."""

from __future__ import annotations

import sys

from labsim.cli.labs import ask_lab
from labsim.edge_time import wait_s
from labsim.errors import ExitCode

POLL_S = 0.3
OVERLAP = 4096


def show_console(lab: str, machine: str, *, follow: bool) -> int:
    """Print a machine's console; with `follow` go on until Ctrl-C."""
    seen = ""
    while True:
        text = str(ask_lab(lab, {"verb": "console", "machine": machine}))
        sys.stdout.write(added(seen, text))
        sys.stdout.flush()
        if not follow:
            return int(ExitCode.PASSED)
        seen = text
        wait_s(POLL_S)


def added(seen: str, text: str) -> str:
    """What came since `seen`. A console that became too long has lost its beginning meanwhile."""
    if text.startswith(seen):
        return text[len(seen) :]
    tail = seen[-OVERLAP:]
    place = text.find(tail)
    return text if place < 0 else text[place + len(tail) :]
