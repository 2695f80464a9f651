"""The directory that a run leaves: scenario as read, seed, versions, history, results, JUnit, resources, consoles."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from labsim import __version__
from labsim.errors import LabError, UsageError, system_errors
from labsim.history import rebuild
from labsim.report.evidence import EvidenceFile
from labsim.report.junit import junit_xml
from labsim.scenario.verdicts import RunResult

HISTORY = "history.jsonl"
RESULTS = "results.json"


class RunDirectory:
    """One run's directory. It is new, or empty: a run never mixes with another's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with system_errors(f"making the run directory {path}"):
            if path.exists() and any(path.iterdir()):
                raise LabError(f"run directory {path} is not empty", hint="name another one, or remove it")
            self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)

    def open_history(self) -> EvidenceFile:
        """The file that the history is written to."""
        return EvidenceFile(self.path / HISTORY)

    def discard(self) -> None:
        """Remove the directory of a run that never was one, and the folders above it that were made for it."""
        for child in list(self.path.iterdir()) if self.path.is_dir() else []:
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child, ignore_errors=True)
            else:
                child.unlink(missing_ok=True)
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                return  # somebody has put something into it

    def write_inputs(self, scenario_text: str, facts: dict[str, Any]) -> None:
        """What the run was started with: the scenario as read, and everything that a replay needs."""
        known = {"labsim": __version__, "python": platform.python_version(), **facts}
        self._write("scenario.yaml", scenario_text.encode())
        self._write("run.json", orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")

    def write_result(self, result: RunResult) -> None:
        document = {**dataclasses.asdict(result), "verdict": str(result.verdict)}
        self._write("junit.xml", junit_xml([result]))
        self._write(RESULTS, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")

    def write_consoles(self, consoles: dict[str, bytes]) -> None:
        for machine, text in consoles.items():
            self._write(f"consoles/{machine}.log", text)

    def write_evidence(self, files: Mapping[str, bytes]) -> None:
        """What machines and hypervisor tell of a run that did not pass, by `<machine>/<name>`; secrets are removed."""
        for name, data in files.items():
            self._write(f"machines/{name}", data)

    def write_resources(self, resources: bytes) -> None:
        """The hub's objects at the end, as JSON lines with secrets already removed."""
        self._write("resources.jsonl", resources)

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        with system_errors(f"writing {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What `labsim check` found in a run directory."""

    verdict: str
    problems: tuple[str, ...]
    objects: int
    lines: int


def judge(path: Path) -> Judgement:
    """Judge a run again from its directory alone: the final state is rebuilt from the history, digest by digest."""
    try:
        results = orjson.loads((path / RESULTS).read_bytes())
        with (path / HISTORY).open("rb") as history:
            lines = [orjson.loads(line) for line in history]
    except (OSError, ValueError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        hint = "name a directory that labsim run made, and whose run has ended"
        raise UsageError(f"{path} is no complete run directory: {why}", hint=hint) from error
    problems = [
        f"gap: changes of {line.get('kind')} of {line.get('store')} were not seen, line {line['n']}"
        for line in lines
        if line["type"] == "gap"
    ]
    inconclusive = bool(problems)
    try:
        state = rebuild(lines)
    except ValueError as error:
        return Judgement("failed", (str(error),), 0, len(lines))
    problems += _differences(path, state)
    verdict = str(results["verdict"])
    if len(problems) > sum(problem.startswith("gap") for problem in problems):
        verdict = "failed"
    elif inconclusive and verdict == "passed":
        verdict = "inconclusive"
    return Judgement(verdict, tuple(problems), len(state), len(lines))


def _differences(path: Path, state: dict[tuple[str, str, str, str], dict[str, Any]]) -> list[str]:
    """Where the resources that the run wrote down at its end are not those that its history leads to."""
    resources = path / "resources.jsonl"
    if not resources.exists():
        return ["resources.jsonl is missing"]
    written: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for line in resources.read_bytes().splitlines():
        entry = orjson.loads(line)
        written[entry["store"], entry["kind"], entry["namespace"], entry["name"]] = entry["object"]
    problems = [f"{key} is in the history and not in the resources" for key in sorted(state.keys() - written.keys())]
    problems += [f"{key} is in the resources and not in the history" for key in sorted(written.keys() - state.keys())]
    problems += [f"{key} differs" for key in sorted(state.keys() & written.keys()) if state[key] != written[key]]
    return problems
