"""`labsim up`, `down`, `status`, `get`, and the commands that a running lab carries out."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labsim.cli import background
from labsim.cli.output import Format, print_document, print_rows, print_table, talk
from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import ExitCode, LabError, LabsimError, LabStopped, UsageError, refused_by_system, system_errors
from labsim.hub.role import Role
from labsim.lab.control import ask
from labsim.lab.external import start_lines
from labsim.lab.folder import LAB_FOLDER, LEDGER, LabFolder, known_labs, labs_root, this_process
from labsim.lab.up_choice import UpChoice

if TYPE_CHECKING:
    from labsim.model.scenario import Scenario

UP_WITHIN_S = 120.0
DOWN_WITHIN_S = 60.0
STATUS_COLUMNS = ("machine", "power", "state", "cluster", "approved", "stage")
SERVICE_COLUMNS = ("cluster", "service", "host", "port", "address")
KUBECONFIG = "kubeconfig"


def up_lab(file: Path, *, name: str, choice: UpChoice, foreground: bool) -> int:
    """Make the lab of a scenario file and leave it open."""
    from labsim.lab.sizes import sizes_of
    from labsim.model.scenario import load_scenario

    scenario = load_scenario(file)
    sizes_of(choice.profile)
    if choice.machines not in ("simulated", "libvirt"):
        raise UsageError(f"unknown machines {choice.machines!r}", hint="simulated or libvirt")
    folder = LabFolder(labs_root() / _lab_name(name or scenario.metadata.name))
    folder.must_be_new()
    folder.make()
    try:  # what says whose folder it is comes first
        folder.write_facts({"scenario": scenario.metadata.name, "state": "starting", **this_process()})
        with system_errors(f"writing {folder.scenario}"):
            folder.scenario.write_bytes(file.read_bytes())
        if foreground:
            return _serve_here(folder, scenario, choice)
        with system_errors(f"writing {folder.log}"), folder.log.open("wb") as log:
            arguments = {**dataclasses.asdict(choice), "folder": str(folder.path)}
            background.start("up", arguments, within_s=UP_WITHIN_S, stderr=log)
    except LabStopped:
        raise
    except BaseException:
        down_one(folder)
        raise
    say_up(folder)
    sys.stdout.write(f"{folder.name}\n")
    return int(ExitCode.PASSED)


def _serve_here(folder: LabFolder, scenario: Scenario, choice: UpChoice) -> int:
    """Serve the lab in this process; at its end it is removed, unless it is left for another one."""
    from labsim.lab.daemon import serve_lab

    code = serve_lab(folder, scenario, choice, ready=lambda: say_up(folder))
    if folder.facts().get("state") != "left":
        down_one(folder)
    return code


def say_up(folder: LabFolder) -> None:
    """Tell a person that a lab is up, and what to do with it."""
    facts = folder.facts()
    talk(f"lab {folder.name} is up: {facts['url']}, {facts['machines']} machines, time x{facts['speed']:g}")
    talk(f"  export KUBECONFIG={folder.kubeconfig}")
    talk(f"  labsim boot '*' --lab {folder.name}")
    for line in start_lines(folder.facts().get("external", ()), folder.kubeconfig):
        talk(line)


def _lab_name(name: str) -> str:
    """A name that can be a folder's and an object's label."""
    if not name.replace("-", "").isalnum() or not name.isascii() or name != name.lower() or name.strip("-") != name:
        raise UsageError(f"{name!r} cannot be a lab's name", hint="lower-case letters, digits and '-'")
    return name


def down_labs(name: str, *, every: bool) -> int:
    """Remove one lab, or all; or what a killed run left, by its directory."""
    if name and (Path(name) / LEDGER).is_file():
        down_run(Path(name))
        talk(f"nothing is left of the lab of {name}")
        return int(ExitCode.PASSED)
    labs = known_labs(labs_root())
    if not labs and not name:
        talk("no lab is up")
        return int(ExitCode.PASSED)
    if every:
        return _down_every(labs)
    folder = one_lab(name)
    down_one(folder)
    talk(f"lab {folder.name} is down")
    return int(ExitCode.PASSED)


def _down_every(labs: list[LabFolder]) -> int:
    """One lab that cannot be removed does not keep the others; the exit code is that of the first that could not."""
    codes = []
    for folder in labs:
        try:
            if not folder.is_ours():
                talk(f"{folder.path} is no lab's folder and is left alone")
                continue
            down_one(folder)
        except (LabsimError, OSError) as error:
            problem = error if isinstance(error, LabsimError) else refused_by_system(error, "removing it")
            talk(f"labsim: lab {folder.name} is not removed: {problem.message}")
            if problem.hint:
                talk(f"  hint: {problem.hint}")
            codes.append(int(problem.exit_code))
        else:
            talk(f"lab {folder.name} is down")
    return codes[0] if codes else int(ExitCode.PASSED)


def down_one(folder: LabFolder) -> None:
    """Ask the lab's process to end; then remove by its ledger whatever is left, and the folder last."""
    if folder.path.exists() and not folder.is_ours():
        raise LabError(f"{folder.path} is no lab's folder", hint="nothing was deleted; look at it, and move it away")
    if folder.is_running() and folder.facts().get("pid") != os.getpid():
        _end_process(folder)
    if folder.ledger.exists():
        from labsim.lab.removal import remove_leftovers

        remove_leftovers(folder.ledger)
    folder.delete()


def _end_process(folder: LabFolder) -> None:
    pid = int(folder.facts()["pid"])
    try:
        ask(folder.socket, {"verb": "down"}, DOWN_WITHIN_S)
    except LabError:
        os.kill(pid, 15)
    wait_for_end(folder)


def wait_for_end(folder: LabFolder) -> None:
    """Wait until the lab's process has ended. Raises LabError where it does not."""
    pid = folder.facts().get("pid")
    deadline_s = monotonic_s() + DOWN_WITHIN_S
    while folder.is_running() and monotonic_s() < deadline_s:
        wait_s(0.02)
    if folder.is_running():
        hint = f"kill -9 {pid}, then down again"
        raise LabError(f"the process of lab {folder.name!r} ({pid}) does not end", hint=hint)


def down_run(directory: Path) -> None:
    """Remove the lab of a run whose process is gone; its evidence stays."""
    folder = LabFolder(directory / LAB_FOLDER)
    if folder.is_running():
        raise LabError(f"the run in {directory} is not over", hint=f"end it first: kill {folder.facts()['pid']}")
    from labsim.lab.removal import remove_leftovers

    remove_leftovers(directory / LEDGER)
    folder.delete()


def ask_lab(name: str, command: dict[str, Any]) -> Any:
    """Send a command to a running lab."""
    folder = one_lab(name)
    if not folder.is_running():
        hint = f"labsim down {folder.name} removes what it left"
        if folder.can_restart():
            hint = f"labsim restart {folder.name} goes on with it, {hint}"
        problem = folder.facts().get("problem")
        raise LabError(f"the process of lab {folder.name!r} is gone" + (f": {problem}" if problem else ""), hint=hint)
    return ask(folder.socket, command)


def show_services(name: str, output: str) -> int:
    """What the hosted clusters of a running lab publish."""
    print_rows(ask_lab(name, {"verb": "services"}), SERVICE_COLUMNS, _status_format(output))
    return int(ExitCode.PASSED)


def show_status(name: str, output: str) -> int:
    """One lab's machines and agents; without a name and with several labs, the labs."""
    if output == KUBECONFIG:
        sys.stdout.write(f"{one_lab(name).kubeconfig}\n")
        return int(ExitCode.PASSED)
    form = _status_format(output)
    labs = known_labs(labs_root())
    if not labs and not name:
        talk("no lab is up")
        if form in (Format.JSON, Format.YAML):
            print_document([], form)
    elif len(labs) > 1 and not name:
        print_rows([_lab_row(folder) for folder in labs], ("name", "state", "url"), form, ("machines", "folder"))
    else:
        print_rows(ask_lab(name, {"verb": "status"}), STATUS_COLUMNS, form, ("agent",))
    return int(ExitCode.PASSED)


def print_kubeconfig(name: str, role: Role) -> None:
    """Print how to reach a running lab's hub with the rights of a role. LabError where the lab has no such user."""
    folder = one_lab(name)
    path = folder.kubeconfig if role is Role.ADMINISTRATOR else folder.reader_kubeconfig
    try:
        sys.stdout.write(path.read_text())
    except FileNotFoundError as missing:
        if folder.kubeconfig.exists():
            hint = "the hub is a cluster of its own, with its own users: make a ServiceAccount and bind it to `view`"
        else:
            hint = f"is it up? labsim status --lab {folder.name}"
        raise LabError(f"lab {folder.name!r} has no kubeconfig for the {role}", hint=hint) from missing


def _status_format(output: str) -> Format:
    try:
        return Format(output)
    except ValueError:
        known = ", ".join([*Format, KUBECONFIG])
        raise UsageError(f"unknown output {output!r}", hint=f"one of: {known}") from None


def _lab_row(folder: LabFolder) -> dict[str, Any]:
    facts = folder.facts()
    return {
        "name": folder.name,
        "state": "up" if folder.is_running() else "stopped" if folder.can_restart() else "dead",
        "url": facts.get("url", ""),
        "machines": facts.get("machines", ""),
        "folder": str(folder.path),
    }


def show_objects(lab: str, kind: str, name: str, form: Format) -> int:
    """Objects of a lab's hub, in all namespaces."""
    found = ask_lab(lab, {"verb": "get", "kind": kind, "name": name})
    objects = found["objects"]
    if form in (Format.JSON, Format.YAML):
        print_document(objects[0] if name and len(objects) == 1 else objects, form)
    elif form is Format.NAME:
        sys.stdout.write("".join(f"{found['resource']}/{entry['metadata']['name']}\n" for entry in objects))
    elif not objects:
        talk("no resources found")
    else:
        shown = [index for index, (_, wide) in enumerate(found["columns"]) if form is Format.WIDE or not wide]
        head = [found["columns"][index][0].upper() for index in shown]
        print_table(head, [[cells[index] for index in shown] for cells in found["rows"]])
    return int(ExitCode.PASSED)


def one_lab(name: str) -> LabFolder:
    """The lab of that name; without one, the only lab there is. UsageError where there is none such."""
    labs = known_labs(labs_root())
    if name:
        found = [folder for folder in labs if folder.name == name]
        if not found:
            raise UsageError(f"there is no lab {name!r}", hint=_known(labs))
        return found[0]
    if len(labs) != 1:
        raise UsageError("no lab is up" if not labs else "several labs are up", hint=_known(labs))
    return labs[0]


def _known(labs: list[LabFolder]) -> str:
    if not labs:
        return "labsim up FILE makes one"
    return "name one of: " + ", ".join(folder.name for folder in labs)
