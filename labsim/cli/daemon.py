"""The process of a lab that `labsim up` or `labsim run --keep` leaves open. Not for people: `up --foreground` is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from labsim.cli.background import report
from labsim.cli.log import log_to_stderr
from labsim.cli.outcome import carried_out
from labsim.errors import ExitCode, LabError, LabsimError, LabStopped
from labsim.lab.folder import LabFolder
from labsim.lab.interruption import interrupt_once


def main(arguments: list[str]) -> int:
    """up|restart|run and a JSON object."""
    verb, options = arguments[0], orjson.loads(arguments[1])
    interrupt_once()
    log_to_stderr()
    return carried_out(lambda: _carry(verb, options))


def _carry(verb: str, options: dict[str, Any]) -> int:
    try:
        return _VERBS[verb](options)
    except LabStopped:  # long after it came up: for the log
        raise
    except LabsimError as error:
        report({"ok": False, "message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)})
        return int(error.exit_code)
    except OSError as error:
        from labsim.errors import refused_by_system

        refused = refused_by_system(error, "the lab did not come up")
        report({"ok": False, "message": refused.message, "hint": refused.hint, "exit_code": int(ExitCode.LAB_FAILED)})
        return int(ExitCode.LAB_FAILED)


def _up(options: dict[str, Any], *, again: bool = False) -> int:
    from labsim.lab.daemon import serve_lab
    from labsim.lab.hub_choice import HubChoice
    from labsim.lab.up_choice import UpChoice
    from labsim.model.scenario import load_scenario

    folder = LabFolder(Path(options.pop("folder")))
    choice = UpChoice(**{**options, "hub": HubChoice(**options["hub"])})
    return serve_lab(
        folder, load_scenario(folder.scenario), choice, ready=lambda: report({"ok": True}, folder.log), again=again
    )


def _restart(options: dict[str, Any]) -> int:
    chosen = LabFolder(Path(options["folder"])).facts().get("choice")
    if not isinstance(chosen, dict):
        raise LabError("the lab's folder does not say how it was made", hint="labsim down removes it")
    return _up({**chosen, **options}, again=True)


def _run(options: dict[str, Any]) -> int:
    from labsim.cli.progress import TerminalProgress
    from labsim.cli.run_once import RunChoice, run_and_keep
    from labsim.lab.hub_choice import HubChoice
    from labsim.model.scenario import load_scenario
    from labsim.report.run_directory import RunDirectory

    path, directory = Path(options.pop("scenario")), RunDirectory(Path(options.pop("directory")))
    folder = LabFolder(Path(options.pop("folder")))
    choice = RunChoice(**{**options, "hub": HubChoice(**options["hub"])})
    return run_and_keep(path, load_scenario(path), choice, directory, TerminalProgress(), folder)


_VERBS = {"run": _run, "up": _up, "restart": _restart}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
