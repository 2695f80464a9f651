"""`labsim run`: scenario files on labs of their own, one directory for each run, and what they came to together."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labsim.cli import background
from labsim.cli.output import Format, print_document, talk
from labsim.cli.progress import TerminalProgress
from labsim.cli.run_once import RunChoice, RunSummary, run_once
from labsim.errors import ExitCode, InvalidFile, LabError, UsageError
from labsim.lab.folder import LabFolder, labs_root
from labsim.lab.hub_choice import HubChoice
from labsim.lab.ledger import Ledger
from labsim.lab.sizes import sizes_of
from labsim.model.quantities import format_duration
from labsim.model.scenario import Scenario, load_scenario
from labsim.report.run_directory import RunDirectory
from labsim.scenario.verdicts import EXIT_CODES, Verdict

MACHINES = ("simulated", "libvirt")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The flags of `labsim run`."""

    hub: HubChoice
    machines: str
    profile: str
    seed: str
    speed: float
    connect: str
    repeat: int
    keep: bool
    run_dir: Path | None
    output: Format


def run_files(files: list[Path], options: RunOptions) -> int:
    """Run every file `repeat` times; the exit code is that of the worst run. Nothing is begun while a file is wrong."""
    _check(options)
    scenarios = load_all(files)
    alone = len(scenarios) * options.repeat == 1
    summaries: list[RunSummary] = []
    try:
        for path, scenario, seed in _runs(scenarios, options):
            choice = RunChoice(
                lab=scenario.metadata.name,
                machines=options.machines,
                profile=options.profile,
                seed=seed,
                speed=options.speed,
                connect=options.connect,
                keep=options.keep,
                hub=options.hub,
            )
            place = _place(options.run_dir, scenario, seed, alone=alone)
            if options.keep:
                name = scenario.metadata.name if alone else f"{scenario.metadata.name}-seed{seed}"
                summaries.append(_run_kept(path, choice, place, name))
            else:
                summaries.append(run_once(path, scenario, choice, RunDirectory(place), TerminalProgress()))
    finally:
        _print(summaries, options.output)
    return _exit_code(summaries)


def load_all(files: list[Path]) -> list[tuple[Path, Scenario]]:
    """Every file read. Raises one InvalidFile with the mistakes of all of them."""
    scenarios: list[tuple[Path, Scenario]] = []
    wrong: list[InvalidFile] = []
    for path in files:
        try:
            scenarios.append((path, load_scenario(path)))
        except InvalidFile as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        problems = [
            (" ".join(part for part in (error.source, place) if part), text, advice)
            for error in wrong
            for place, text, advice in error.problems
        ]
        raise InvalidFile(f"{len(wrong)} of {len(files)} files are wrong", problems)
    return scenarios


def _check(options: RunOptions) -> None:
    if options.machines not in MACHINES:
        raise UsageError(f"unknown machines {options.machines!r}", hint=f"known: {', '.join(MACHINES)}")
    sizes_of(options.profile)


def _runs(scenarios: list[tuple[Path, Scenario]], options: RunOptions) -> Iterator[tuple[Path, Scenario, str]]:
    for path, scenario in scenarios:
        for index in range(options.repeat):
            yield path, scenario, _seed(options.seed, index)


def _seed(seed: str, index: int) -> str:
    if index == 0:
        return seed
    return str(int(seed) + index) if seed.lstrip("-").isdigit() else f"{seed}-{index}"


def _place(run_dir: Path | None, scenario: Scenario, seed: str, *, alone: bool) -> Path:
    """The place given, for a single run; else a numbered folder per run below it (or below runs/)."""
    if run_dir is not None and alone:
        return run_dir
    parent = run_dir or Path("runs")
    number = 1
    while (path := parent / f"{scenario.metadata.name}-seed{seed}-{number}").exists():
        number += 1
    return path


def _run_kept(path: Path, choice: RunChoice, place: Path, name: str) -> RunSummary:
    """The run in a process of its own, whose lab stays open under a name."""
    folder = LabFolder(labs_root() / name)
    folder.must_be_new()
    arguments: dict[str, Any] = dataclasses.asdict(choice)
    arguments |= {"scenario": str(path.resolve()), "directory": str(place.resolve()), "folder": str(folder.path)}
    try:
        report = background.start("run", arguments, within_s=None, stderr=None)
    except BaseException:
        if not Ledger(folder.ledger).pending():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    summary = RunSummary(**{**report["summary"], "directory": str(place)})
    talk(f"lab {folder.name} is kept: export KUBECONFIG={folder.kubeconfig}; labsim down {folder.name} removes it")
    return summary


def _print(summaries: list[RunSummary], output: Format) -> None:
    if output in (Format.JSON, Format.YAML):
        print_document([dataclasses.asdict(summary) for summary in summaries], output)
        return
    for summary in summaries:
        if output is Format.NAME:
            sys.stdout.write(f"{summary.directory}\n")
            continue
        sys.stdout.write(
            f"{summary.verdict.upper()} {summary.scenario} seed {summary.seed}: "
            f"{summary.steps_passed}/{summary.steps} steps, {summary.violations} broken invariant(s), "
            f"{format_duration(summary.duration_s)} in the lab, {summary.machines} machines, {summary.directory}\n"
        )
    if len(summaries) > 1 and output is not Format.NAME:
        _print_total(summaries)


def _print_total(summaries: list[RunSummary]) -> None:
    """One line for all runs: how many came to what, and the seeds of those that did not pass."""
    counts = {verdict: sum(summary.verdict == verdict for summary in summaries) for verdict in Verdict}
    parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    line = f"{len(summaries)} runs: {', '.join(parts)}"
    others = [f"{summary.scenario} seed {summary.seed}" for summary in summaries if summary.verdict != Verdict.PASSED]
    sys.stdout.write(line + (f"; not passed: {', '.join(others)}" if others else "") + "\n")


def _exit_code(summaries: list[RunSummary]) -> int:
    verdicts = {summary.verdict for summary in summaries}
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return int(EXIT_CODES[verdict])
    if not summaries:
        raise LabError("nothing was run")
    if all(summary.steps == 0 for summary in summaries):
        return int(ExitCode.NOTHING_SELECTED)
    return int(ExitCode.PASSED)
