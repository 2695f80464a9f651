"""`labsim up`, `down`, `status`, and the commands that a running lab carries out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml

from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import ExitCode, LabError, UsageError
from labsim.lab.control import ask
from labsim.lab.folder import LAB_FOLDER, LEDGER, LabFolder, known_labs, labs_root
from labsim.lab.sizes import sizes_of
from labsim.model.scenario import load_scenario

UP_WITHIN_S = 120.0
DOWN_WITHIN_S = 60.0


def talk(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def up_lab(
    file: Path,
    *,
    name: str,
    machines: str,
    profile: str,
    seed: str,
    speed: float,
    port: int,
    foreground: bool,
) -> int:
    """Make the lab of a scenario file and leave it open."""
    scenario = load_scenario(file)
    sizes_of(profile)
    if machines not in ("simulated", "libvirt"):
        raise UsageError(f"unknown machines {machines!r}", hint="simulated or libvirt")
    folder = LabFolder(labs_root() / (name or scenario.metadata.name))
    if folder.is_running():
        raise LabError(
            f"lab {folder.name!r} is up already", hint=f"labsim down {folder.name}, or choose another --name"
        )
    if folder.path.exists():
        raise LabError(
            f"lab {folder.name!r} was left behind by a process that is gone", hint=f"labsim down {folder.name}"
        )
    folder.make()
    if foreground:
        from labsim.lab.daemon import serve_lab

        return serve_lab(
            folder, scenario, machines=machines, profile=profile, seed=seed, speed=speed, port=port, talk=talk
        )
    command = [sys.executable, "-m", "labsim.cli.daemon", str(folder.path), str(file.resolve())]
    command += [machines, profile, seed, str(speed), str(port)]
    with folder.log.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=dict(os.environ)
        )
    deadline_s = monotonic_s() + UP_WITHIN_S
    while folder.facts().get("state") != "up":
        if process.poll() is not None or monotonic_s() > deadline_s:
            tail = folder.log.read_text(errors="replace").strip().splitlines()[-8:]
            code = process.poll()
            down_one(folder)
            raise LabError(
                "the lab did not come up: " + (tail[0] if tail else f"exit {code}"), hint="\n".join(tail[1:])
            )
        wait_s(0.05)
    facts = folder.facts()
    talk(f"lab {folder.name} is up: {facts['url']}, {machines} machines, time x{speed:g}")
    talk(f"  export KUBECONFIG={folder.kubeconfig}")
    talk(f"  labsim boot 'worker-*' --lab {folder.name}")
    sys.stdout.write(f"{folder.name}\n")
    return int(ExitCode.PASSED)


def down_labs(name: str, *, every: bool) -> int:
    """Remove one lab, or all; or what a killed run left, by its directory."""
    if name and (Path(name) / LEDGER).is_file():
        down_run(Path(name))
        talk(f"nothing is left of the lab of {name}")
        return int(ExitCode.PASSED)
    labs = known_labs(labs_root())
    if not every:
        labs = [_one(name)]
    for folder in labs:
        down_one(folder)
        talk(f"lab {folder.name} is down")
    return int(ExitCode.PASSED)


def down_one(folder: LabFolder) -> None:
    """Ask the lab's process to end; then remove by its ledger whatever is left, and the folder last."""
    if folder.is_running():
        pid = int(folder.facts()["pid"])
        try:
            ask(folder.socket, {"verb": "down"}, DOWN_WITHIN_S)
        except LabError:
            os.kill(pid, 15)
        deadline_s = monotonic_s() + DOWN_WITHIN_S
        while folder.is_running() and monotonic_s() < deadline_s:
            wait_s(0.02)
        if folder.is_running():
            raise LabError(
                f"the process of lab {folder.name!r} ({pid}) does not end", hint=f"kill -9 {pid}, then down again"
            )
    if folder.ledger.exists():
        from labsim.lab.removal import remove_leftovers

        remove_leftovers(folder.ledger)
    shutil.rmtree(folder.path, ignore_errors=True)


def down_run(directory: Path) -> None:
    """Remove the lab of a run whose process is gone; its evidence stays."""
    folder = LabFolder(directory / LAB_FOLDER)
    if folder.is_running():
        raise LabError(f"the run in {directory} is not over", hint=f"end it first: kill {folder.facts()['pid']}")
    from labsim.lab.removal import remove_leftovers

    remove_leftovers(directory / LEDGER)
    shutil.rmtree(folder.path, ignore_errors=True)


def ask_lab(name: str, command: dict[str, Any]) -> Any:
    """Send a command to a running lab."""
    folder = _one(name)
    if not folder.is_running():
        raise LabError(
            f"the process of lab {folder.name!r} is gone", hint=f"labsim down {folder.name} removes what it left"
        )
    return ask(folder.socket, command)


def show_status(name: str, output: str) -> int:
    """One lab's machines and agents; without a name and with several labs, the labs."""
    labs = known_labs(labs_root())
    if output == "kubeconfig":
        sys.stdout.write(f"{_one(name).kubeconfig}\n")
        return int(ExitCode.PASSED)
    if not labs:
        talk("no lab is up")
        return int(ExitCode.PASSED)
    if len(labs) > 1 and not name:
        rows = [
            {
                "name": folder.name,
                "state": "up" if folder.is_running() else "dead",
                "url": folder.facts().get("url", ""),
            }
            for folder in labs
        ]
        _print(rows, ("name", "state", "url"), output)
        return int(ExitCode.PASSED)
    rows = ask_lab(name, {"verb": "status"})
    _print(rows, ("machine", "power", "state", "cluster", "approved", "stage"), output)
    return int(ExitCode.PASSED)


def _one(name: str) -> LabFolder:
    labs = known_labs(labs_root())
    if name:
        found = [folder for folder in labs if folder.name == name]
        if not found:
            raise LabError(f"there is no lab {name!r}", hint=_known(labs))
        return found[0]
    if len(labs) != 1:
        raise LabError("no lab is up" if not labs else "several labs are up", hint=_known(labs))
    return labs[0]


def _known(labs: list[LabFolder]) -> str:
    if not labs:
        return "labsim up FILE makes one"
    return "name one of: " + ", ".join(folder.name for folder in labs)


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...], output: str) -> None:
    write: Callable[[str], Any] = sys.stdout.write
    if output == "json":
        write(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n")
    elif output == "yaml":
        write(yaml.safe_dump(rows, sort_keys=False))
    elif output == "name":
        write("".join(f"{row[columns[0]]}\n" for row in rows))
    else:
        widths = [max(len(column), *(len(str(row.get(column, ""))) for row in rows)) for column in columns]
        for cells in [[column.upper() for column in columns]] + [
            [str(row.get(c, "")) for c in columns] for row in rows
        ]:
            write("   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() + "\n")
