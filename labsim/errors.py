"""What can go wrong, for a person: what happened, a hint that can be acted on, and an exit code."""

from __future__ import annotations

import contextlib
import enum
import errno
from collections.abc import Iterator


class ExitCode(enum.IntEnum):
    """The exit codes of every labsim command."""

    PASSED = 0
    CHECK_FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    LAB_FAILED = 4
    NOTHING_SELECTED = 5
    INTERNAL = 70
    INTERRUPTED = 130


class LabsimError(Exception):
    """The root of labsim's own errors. `exit_code` is the process's, `hint` what the reader can do."""

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidFile(LabsimError):
    """A file that a person wrote is wrong; `problems` lists every mistake as (path, message, suggestion)."""

    exit_code = ExitCode.USAGE

    def __init__(self, source: str, problems: list[tuple[str, str, str]]) -> None:
        lines = [
            (f"{path}: " if path else "") + text + (f" ({advice})" if advice else "") for path, text, advice in problems
        ]
        super().__init__(f"{source}: {len(problems)} mistake(s)\n  " + "\n  ".join(lines))
        self.source = source
        self.problems = problems


class UsageError(LabsimError):
    """A command was called in a way that cannot be carried out."""

    exit_code = ExitCode.USAGE


class LabError(LabsimError):
    """The lab could not be made, or a preflight check failed. Everything made so far is removed."""

    exit_code = ExitCode.LAB_FAILED


class LabStopped(LabError):
    """A lab's process cannot go on. What the lab has made and kept stays."""

    def __init__(self, lab: str, message: str, hint: str) -> None:
        again = f"labsim restart {lab} goes on with it, labsim down {lab} removes it"
        super().__init__(f"lab {lab!r} has stopped: {message}", hint=f"{hint}; {again}" if hint else again)


class CheckFailed(LabsimError):
    """An expectation or invariant of a scenario does not hold."""

    exit_code = ExitCode.CHECK_FAILED


class NothingSelected(LabsimError):
    """What was asked for names nothing that is there."""

    exit_code = ExitCode.NOTHING_SELECTED


_ADVICE = {
    errno.ENOSPC: "free some disk space, or choose a place on another disk",
    errno.EDQUOT: "free some of your quota, or choose a place on another disk",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "choose a place where you may write",
    errno.EPERM: "choose a place where you may write",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "this machine has too many open files",
}


def refused_by_system(error: OSError, doing: str) -> LabError:
    """What the operating system refused, as a LabError: `doing` is what was tried, for example "writing x"."""
    where = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
    hint = _ADVICE.get(error.errno or 0, "look at the place that is named")
    return LabError(f"{doing}: {error.strerror or error}{where}", hint=hint)


@contextlib.contextmanager
def system_errors(doing: str) -> Iterator[None]:
    """A block in which what the operating system refuses becomes a LabError."""
    try:
        yield
    except OSError as error:
        raise refused_by_system(error, doing) from error
