"""Runs a labsim command that kills itself (SIGKILL) at its n-th change of a file.

A change is what Python's audit hooks tell of below one folder: a file opened to write, deleted or renamed, a folder
made or deleted. Every call of libvirt lies between two lines of the ledger, which are such files. Commands are read
from stdin, one JSON line each; each is carried out in a fork of this process, so that the program is loaded once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from labsim.lab.folder import LabFolder

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kill_at(point: int, folder: str, counter: str) -> None:
    """point 0: never; the number of changes is written to `counter` when the process ends."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            changes = isinstance(arguments[2], int) and bool(arguments[2] & WRITES)
        else:
            changes = event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.truncate")
        if not changes or os.getpid() != own:
            return
        path = arguments[0]
        if isinstance(path, (str, os.PathLike)) and not str(path).startswith((folder, *NAMES)):
            return
        seen += 1
        if seen == point:
            os.kill(own, signal.SIGKILL)

    own = os.getpid()
    sys.addaudithook(hook)
    ended.append(lambda: Path(counter).write_text(str(seen)))


NAMES = ("vda", "vdb", "labsim-mark", "console", "worker-")  # relative to an open folder: how a tree is deleted
ended: list[Any] = []


def carry_out(command: dict[str, Any]) -> int:
    """One command in this process."""
    from labsim.cli import labs, main, outcome
    from labsim.discovery import bootable

    class Image:
        path = Path(command["iso"])

    bootable.bootable_base_image = lambda *_, **__: Image  # type: ignore[assignment]  # no machine boots here

    def interrupted(folder: LabFolder) -> None:
        raise KeyboardInterrupt

    labs.say_up = interrupted  # a lab that is up goes down again, in the same process
    os.environ["XDG_STATE_HOME"] = command["state"]
    os.chdir(command["state"])
    sys.argv = ["labsim", *command["arguments"]]
    kill_at(command["point"], command["state"], command["counter"])
    code = outcome.carried_out(main._parsed)
    ended[0]()
    return code


def main() -> None:
    import labsim.cli.labs
    import labsim.cli.run
    import labsim.lab.daemon
    import labsim.lab.removal
    import labsim.lab.virtual_machines
    import labsim.machines.libvirt.driver  # noqa: F401 - loaded once, for all forks

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(carry_out(json.loads(line)))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"exit {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
