"""From what a command did, or what kept it from it, to one clear line, a hint and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from labsim.cli.output import talk
from labsim.errors import ExitCode, LabsimError, refused_by_system

SIGPIPE_EXIT = 141  # what a shell shows for a program whose reader went away


def carried_out(command: Callable[[], Any]) -> int:
    """Carry out a command and say what went wrong. Only a fault of ours shows a traceback (exit code 70)."""
    try:
        code = command()
        sys.stdout.flush()
    except LabsimError as error:
        return told(error)
    except KeyboardInterrupt:
        talk("labsim: interrupted; what was made is removed")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing can be flushed there at the end
        return SIGPIPE_EXIT
    except OSError as error:
        if error.errno is None:
            return _bug()
        return told(refused_by_system(error, "the system refused something that labsim needs"))
    except Exception:
        return _bug()
    return code if isinstance(code, int) else int(ExitCode.PASSED)


def told(error: LabsimError) -> int:
    """Show an error to a person; returns its exit code."""
    talk(f"labsim: {error.message}")
    if error.hint:
        talk(f"  hint: {error.hint}")
    return int(error.exit_code)


def _bug() -> int:
    logging.getLogger("labsim").exception("labsim has a bug")
    return int(ExitCode.INTERNAL)
