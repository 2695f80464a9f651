"""One run: a scenario on a lab of its own, into a directory of its own."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labsim.cli.background import report
from labsim.cli.progress import TerminalProgress
from labsim.errors import ExitCode, LabError, LabsimError, UsageError
from labsim.lab.evidence import machine_evidence
from labsim.lab.external import tell_of_external
from labsim.lab.folder import LAB_FOLDER, LEDGER, LabFolder, this_process
from labsim.lab.hub_choice import OUR_OWN, HubChoice
from labsim.lab.lab_request import LabRequest
from labsim.lab.ledger import Ledger
from labsim.lab.opening import OpenLab, keep_open, open_lab
from labsim.lab.sizes import sizes_of
from labsim.model.components import COMPONENT_FLAGS
from labsim.model.hub_fault import HubFaultStep
from labsim.model.scenario import Scenario
from labsim.report.evidence import EvidenceFile
from labsim.report.resources import resource_lines
from labsim.report.run_directory import RunDirectory
from labsim.scenario.runner import run_scenario
from labsim.scenario.subject import ScenarioLab
from labsim.scenario.verdicts import RunResult, Verdict

KEPT_SPEED = 10.0  # how fast time goes on in a kept lab whose run was in virtual time


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunChoice:
    """What one run is made with. lab: its name; connect: the hypervisor's URI."""

    lab: str
    machines: str
    profile: str
    seed: str
    speed: float
    connect: str = ""
    keep: bool = False
    hub: HubChoice = OUR_OWN

    def replay_line(self, path: Path) -> str:
        """The command that does the same again."""
        line = f"labsim run {path} --machines {self.machines} --seed {self.seed}"
        flags = (
            ("hub", self.hub.hub, OUR_OWN.hub),
            ("kubeconfig", self.hub.kubeconfig, ""),
            ("context", self.hub.context, ""),
            ("kube-controllers", self.hub.kube_controllers, OUR_OWN.kube_controllers),
            ("profile", self.profile, "default"),
            ("connect", self.connect, ""),
            ("external", ",".join(COMPONENT_FLAGS[name] for name in self.hub.external), ""),
        )
        line += "".join(f" --{flag} {value}" for flag, value, default in flags if value != default)
        return line + (f" --speed {self.speed:g}" if self.speed else "") + (" --keep" if self.keep else "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What is told of a run that is over."""

    scenario: str
    seed: str
    verdict: str
    machines: str
    steps: int
    steps_passed: int
    violations: int
    duration_s: float
    directory: str
    lab: str = ""  # where it was kept

    @classmethod
    def of(cls, result: RunResult, directory: Path, lab: str = "") -> RunSummary:
        return cls(
            scenario=result.scenario,
            seed=result.seed,
            verdict=str(result.verdict),
            machines=result.machines,
            steps=len(result.steps),
            steps_passed=sum(step.verdict is Verdict.PASSED for step in result.steps),
            violations=len(result.violations),
            duration_s=round(result.duration_s, 3),
            directory=str(directory),
            lab=lab,
        )


def run_once(
    path: Path, scenario: Scenario, choice: RunChoice, directory: RunDirectory, progress: TerminalProgress
) -> RunSummary:
    """Make the lab, run the scenario, write everything down, remove the lab."""
    folder = LabFolder(directory.path.resolve() / LAB_FOLDER)
    with (
        _evidence(directory, directory.path / LEDGER) as history,
        _opened(path, scenario, choice, directory, folder, directory.path / LEDGER, history, progress) as opened,
    ):
        result = _carry_out(path, scenario, choice, directory, opened, history, progress)
    return RunSummary.of(result, directory.path)


def run_and_keep(
    path: Path,
    scenario: Scenario,
    choice: RunChoice,
    directory: RunDirectory,
    progress: TerminalProgress,
    folder: LabFolder,
) -> int:
    """As `run_once`, in a process of its own; the lab then stays open until somebody says `down`."""
    from labsim.lab.daemon import answer_commands

    with (
        _evidence(directory, folder.ledger) as history,
        _opened(path, scenario, choice, directory, folder, folder.ledger, history, progress) as opened,
    ):
        result = _carry_out(path, scenario, choice, directory, opened, history, progress)
        opened.lab.world.history.stop_writing()
        keep_open(opened, choice.speed or KEPT_SPEED)
        summary = dataclasses.asdict(RunSummary.of(result, directory.path, folder.name))
        facts = {"scenario": scenario.metadata.name, "machines": choice.machines, "run": str(directory.path.resolve())}
        answer_commands(folder, opened, facts, ready=lambda: report({"ok": True, "summary": summary}, folder.log))
    return int(ExitCode.PASSED)


@contextmanager
def _evidence(directory: RunDirectory, ledger: Path) -> Iterator[EvidenceFile]:
    """The run's history. The directory of a run that never began, or whose history broke off, goes again; the ledger of
    a lab that could not be removed stays, because `labsim down` needs it."""
    history: EvidenceFile | None = None
    try:
        history = directory.open_history()
        with history:
            yield history
            history.flush()
        if history.failure is not None:
            raise history.failure
    except BaseException as error:
        left = ""
        if Ledger(ledger).pending():
            left = f"labsim down {directory.path} removes what is left of its lab"
        elif history is not None and history.began and history.failure is None:
            left = f"what was seen until then is in {directory.path}"
        else:
            directory.discard()
        if left and isinstance(error, LabsimError):
            error.hint += f"\n  {left}"
        raise


@contextmanager
def _opened(
    path: Path,
    scenario: Scenario,
    choice: RunChoice,
    directory: RunDirectory,
    folder: LabFolder,
    ledger: Path,
    history: EvidenceFile,
    progress: TerminalProgress,
) -> Iterator[OpenLab]:
    """The run's lab, made; its folder goes when the lab is closed."""
    if choice.hub.hub != OUR_OWN.hub and any(isinstance(step.action, HubFaultStep) for step in scenario.spec.steps):
        hint = f"leave --hub {choice.hub.hub} out: labsim is not between a cluster and its clients"
        raise UsageError(f"{scenario.metadata.name} has a hubFault, which needs the embedded hub", hint=hint)
    facts = {**dataclasses.asdict(choice), "replay": choice.replay_line(path)}
    directory.write_inputs(path.read_text(), facts)
    progress.talk(f"{scenario.metadata.name}: seed {choice.seed}, {choice.machines} machines")
    try:
        folder.make()
        folder.write_facts(this_process())
        with open_lab(
            scenario.spec.lab,
            LabRequest(
                name=choice.lab,
                folder=folder.path,
                ledger_path=ledger,
                machines=choice.machines,
                sizes=sizes_of(choice.profile),
                seed=choice.seed,
                speed=choice.speed,
                connect=choice.connect,
                history=history.buffered,
                talk=progress.talk,
                hub=choice.hub,
            ),
            keep=choice.keep,
        ) as opened:
            history.on_failure = opened.lab.world.fail
            if opened.lab.spec.hub.components.external():
                opened.write_kubeconfig(folder.kubeconfig)
                tell_of_external(opened.lab, folder.kubeconfig, progress.talk)
            yield opened
    finally:
        if not (ledger.is_relative_to(folder.path) and Ledger(ledger).pending()):
            shutil.rmtree(folder.path, ignore_errors=True)


def _carry_out(
    path: Path,
    scenario: Scenario,
    choice: RunChoice,
    directory: RunDirectory,
    opened: OpenLab,
    history: EvidenceFile,
    progress: TerminalProgress,
) -> RunResult:
    subject: Any = ScenarioLab(opened.lab)
    opened.lab.make()
    history.began = True
    result = run_scenario(subject, scenario, progress)
    history.flush()
    if history.failure is not None:
        raise LabError(history.failure.message, hint=history.failure.hint)
    directory.write_resources(resource_lines(opened.lab.world))
    scrubbed = opened.lab.world.history.scrubbed
    directory.write_consoles({name: scrubbed(opened.lab.console_of(name)) for name in opened.lab.machine_names()})
    if result.verdict is not Verdict.PASSED:
        directory.write_evidence(machine_evidence(opened.lab))
    failures = opened.lab.world.engine.failures
    if failures:
        progress.talk(f"{len(failures)} reconcile(s) failed unexpectedly; the first: {failures[0]}")
    directory.write_result(result)
    for violation in result.violations:
        progress.talk(f"  invariant {violation.invariant} broken at {violation.at_s:.3f} s: {violation.message}")
    if result.verdict is not Verdict.PASSED:
        progress.talk(f"  replay: {choice.replay_line(path)}")
    return result
