"""`labsim run`: scenario files on labs of their own, one directory for each run."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson

from labsim.cli.progress import TerminalProgress
from labsim.errors import ExitCode, UsageError
from labsim.lab.folder import LAB_FOLDER, LEDGER, LabFolder, process_started
from labsim.lab.interruption import uninterrupted
from labsim.lab.opening import EMBEDDED, HubChoice, OpenLab, open_lab
from labsim.lab.sizes import sizes_of
from labsim.model.quantities import format_duration
from labsim.model.scenario import Scenario, load_scenario
from labsim.report.resources import resource_lines
from labsim.report.run_directory import RunDirectory
from labsim.scenario.runner import run_scenario
from labsim.scenario.subject import ScenarioLab
from labsim.scenario.verdicts import EXIT_CODES, RunResult, Verdict

HUBS = ("embedded", "plain")
KUBE_CONTROLLERS = ("auto", "simulated", "external")
MACHINES = ("simulated", "libvirt")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunChoice:
    """What one run is made with."""

    machines: str
    profile: str
    seed: str
    speed: float
    hub: str = "embedded"


def run_files(
    files: list[Path],
    *,
    hub: HubChoice,
    machines: str,
    profile: str,
    seed: str,
    speed: float,
    repeat: int,
    run_dir: Path | None,
    output: str,
) -> int:
    """Run every file `repeat` times; the exit code is that of the worst run."""
    if hub.name not in HUBS:
        raise UsageError(f"unknown hub {hub.name!r}", hint=f"this version runs on: {', '.join(HUBS)}")
    if hub.kube_controllers not in KUBE_CONTROLLERS:
        raise UsageError(f"unknown --kube-controllers {hub.kube_controllers!r}", hint=", ".join(KUBE_CONTROLLERS))
    if machines not in MACHINES:
        raise UsageError(f"unknown machines {machines!r}", hint=f"known: {', '.join(MACHINES)}")
    if speed < 0:
        raise UsageError("--speed must be positive", hint="for example --speed 20")
    sizes_of(profile)
    scenarios = [(path, load_scenario(path)) for path in files]
    progress = TerminalProgress()
    results: list[tuple[RunResult, Path]] = []
    for path, scenario in scenarios:
        for index in range(repeat):
            choice = RunChoice(
                machines=machines,
                profile=profile,
                seed=_seed(seed, index),
                speed=speed,
                hub=hub.name,
            )
            directory = _run_directory(run_dir, scenario, choice.seed, alone=len(scenarios) * repeat == 1)
            results.append((_run_one(path, scenario, choice, hub, directory, progress), directory.path))
    _print_results(results, output)
    return _exit_code([result for result, _ in results])


def _seed(seed: str, index: int) -> str:
    if index == 0:
        return seed
    return str(int(seed) + index) if seed.lstrip("-").isdigit() else f"{seed}-{index}"


def _run_directory(run_dir: Path | None, scenario: Scenario, seed: str, *, alone: bool) -> RunDirectory:
    """The place given, for a single run; else a numbered folder per run below it (or below runs/)."""
    if run_dir is not None and alone:
        return RunDirectory(run_dir)
    parent = run_dir or Path("runs")
    number = 1
    while (path := parent / f"{scenario.metadata.name}-seed{seed}-{number}").exists():
        number += 1
    return RunDirectory(path)


def _run_one(
    path: Path,
    scenario: Scenario,
    choice: RunChoice,
    hub: HubChoice,
    directory: RunDirectory,
    progress: TerminalProgress,
) -> RunResult:
    directory.write_inputs(path.read_text(), {**dataclasses.asdict(choice), "replay": _replay_line(path, choice)})
    progress.talk(f"{scenario.metadata.name}: seed {choice.seed}, {choice.machines} machines")
    lab_folder = LabFolder(directory.path.resolve() / LAB_FOLDER)
    lab_folder.make()
    folder = lab_folder.path
    lab_folder.write_facts({"pid": os.getpid(), "process_started": process_started(os.getpid())})
    with directory.open_history() as history:
        opened: OpenLab | None = None
        try:
            opened = open_lab(
                scenario.spec.lab,
                name=scenario.metadata.name,
                folder=folder,
                ledger=directory.path / LEDGER,
                machines=choice.machines,
                sizes=sizes_of(choice.profile),
                seed=choice.seed,
                speed=choice.speed,
                history=history,
                talk=progress.talk,
                hub=hub,
            )
            subject: Any = ScenarioLab(opened.lab)
            opened.lab.make()
            result = run_scenario(subject, scenario, progress)
            history.flush()
            directory.write_resources(resource_lines(opened.lab.world))
            directory.write_consoles({name: opened.lab.console_of(name) for name in opened.lab.machine_names()})
            failures = opened.lab.world.engine.failures
            if failures:
                progress.talk(f"{len(failures)} reconcile(s) failed unexpectedly; the first: {failures[0]}")
        finally:
            with uninterrupted():
                if opened is not None:
                    opened.close()
                shutil.rmtree(folder, ignore_errors=True)
    directory.write_result(result)
    for violation in result.violations:
        progress.talk(f"  invariant {violation.invariant} broken at {violation.at_s:.3f} s: {violation.message}")
    if result.verdict is not Verdict.PASSED:
        progress.talk(f"  replay: {_replay_line(path, choice)}")
    return result


def _replay_line(path: Path, choice: RunChoice) -> str:
    line = f"labsim run {path} --machines {choice.machines} --seed {choice.seed}"
    if choice.hub != EMBEDDED.name:
        line += f" --hub {choice.hub}"
    if choice.profile != "default":
        line += f" --profile {choice.profile}"
    return line + (f" --speed {choice.speed:g}" if choice.speed else "")


def _print_results(results: list[tuple[RunResult, Path]], output: str) -> None:
    if output == "json":
        documents = [
            {
                "scenario": result.scenario,
                "seed": result.seed,
                "verdict": str(result.verdict),
                "machines": result.machines,
                "duration_s": round(result.duration_s, 3),
                "directory": str(path),
            }
            for result, path in results
        ]
        sys.stdout.write(orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    for result, path in results:
        sys.stdout.write(
            f"{result.verdict.upper()} {result.scenario} seed {result.seed}: "
            f"{sum(step.verdict is Verdict.PASSED for step in result.steps)}/{len(result.steps)} steps, "
            f"{len(result.violations)} broken invariant(s), {format_duration(result.duration_s)} in the lab, "
            f"{result.machines} machines, {path}\n"
        )


def _exit_code(results: list[RunResult]) -> int:
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return int(EXIT_CODES[verdict])
    if not results or all(not result.steps for result in results):
        return int(ExitCode.NOTHING_SELECTED)
    return int(ExitCode.PASSED)
