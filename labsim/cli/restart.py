"""`labsim restart`: a lab goes on in a new process, after its own was killed or ended by a fault."""

from __future__ import annotations

import sys

from labsim.cli import background
from labsim.cli.labs import UP_WITHIN_S, one_lab, say_up, wait_for_end
from labsim.errors import ExitCode, LabError, system_errors
from labsim.lab.control import ask

LEAVE_WITHIN_S = 60.0


def restart_lab(name: str) -> int:
    """Bring a lab back as it was; one that is up is ended first, without removing anything."""
    folder = one_lab(name)
    if not folder.can_restart():
        running = folder.is_running()
        raise LabError(
            f"lab {folder.name!r} cannot be restarted: it keeps no state on the disk",
            hint="its hub is a cluster" if running else f"labsim down {folder.name} removes it",
        )
    if folder.is_running():
        ask(folder.socket, {"verb": "leave"}, LEAVE_WITHIN_S)
        wait_for_end(folder)
    with system_errors(f"writing {folder.log}"), folder.log.open("ab") as log:
        background.start("restart", {"folder": str(folder.path)}, within_s=UP_WITHIN_S, stderr=log)
    say_up(folder)
    sys.stdout.write(f"{folder.name}\n")
    return int(ExitCode.PASSED)
