"""pytest support: a `lab` fixture for tests in Python, and scenario files collected as test items.

A YAML file below a test path whose first lines hold `apiVersion: labsim/` is a scenario; each is one test item. The
fixture gives a factory: `lab("scenario.yaml")` or `lab(text)` makes the file's lab in virtual time and returns it.
Heavy imports wait until something of labsim is used, because this module loads in every pytest run on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labsim.scenario.verdicts import RunResult

MARK = b"apiVersion: labsim/"
HEAD_BYTES = 4096


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("labsim")
    group.addoption("--labsim-seed", default="1", help="seed of the labs (default 1)")
    group.addoption("--labsim-machines", default="simulated", help="simulated or libvirt (default simulated)")
    group.addoption("--labsim-profile", default="default", help="machine sizes: default or small (default default)")
    group.addoption("--labsim-speed", default=0.0, type=float, help="paced time; virtual time without it, 15 for VMs")


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> pytest.Collector | None:
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    try:
        with file_path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None  # not ours to report: this plugin sees every YAML file of every project
    return ScenarioFile.from_parent(parent, path=file_path) if MARK in head else None


class ScenarioFile(pytest.File):
    """A scenario file: one item."""

    def collect(self) -> Iterator[pytest.Item]:
        yield ScenarioItem.from_parent(self, name=self.path.stem)


class ScenarioItem(pytest.Item):
    """Runs a scenario; its failure text is the page of the step that failed."""

    def runtest(self) -> None:
        result = _run(self.path, self.config)
        if result.verdict != "passed":
            raise ScenarioFailed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from labsim.errors import LabsimError

        if isinstance(excinfo.value, ScenarioFailed):
            return excinfo.value.page()
        if isinstance(excinfo.value, LabsimError):
            return f"{excinfo.value.message}\n  hint: {excinfo.value.hint}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"scenario {self.name}"


class ScenarioFailed(AssertionError):
    """A scenario did not pass."""

    def __init__(self, result: RunResult) -> None:
        super().__init__(f"scenario {result.scenario} {result.verdict}")
        self.result = result

    def page(self) -> str:
        lines = [f"scenario {self.result.scenario}, seed {self.result.seed}: {self.result.verdict}"]
        for step in self.result.steps:
            lines.append(f"  {step.index + 1:>3} {step.verdict:<8} {step.title}")
            if step.message:
                lines += [f"      {step.message}", *(f"      {line}" for line in step.page.splitlines())]
        lines += [f"  invariant {entry.invariant}: {entry.message}" for entry in self.result.violations]
        return "\n".join(lines)


def _run(path: Path, config: pytest.Config) -> RunResult:
    import tempfile

    from labsim.lab.lab_request import LabRequest
    from labsim.lab.opening import open_lab
    from labsim.lab.sizes import sizes_of
    from labsim.model.scenario import load_scenario
    from labsim.scenario.runner import run_scenario
    from labsim.scenario.subject import ScenarioLab

    scenario = load_scenario(path)
    with tempfile.TemporaryDirectory(prefix="labsim-") as made:
        place = Path(made)
        with open_lab(
            scenario.spec.lab,
            LabRequest(
                name=scenario.metadata.name,
                folder=place,
                machines=str(config.getoption("--labsim-machines")),
                sizes=sizes_of(str(config.getoption("--labsim-profile"))),
                seed=str(config.getoption("--labsim-seed")),
                speed=float(config.getoption("--labsim-speed")),
            ),
        ) as opened:
            subject: Any = ScenarioLab(opened.lab)
            opened.lab.make()
            return run_scenario(subject, scenario)


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str | Path], Any]]:
    """A factory of labs: give it a scenario file (its steps are not run) or the text of one.

    The lab it returns is a `labsim.scenario.subject.ScenarioLab`: `hub`, `driver`, `agents()`, `run_until(...)`; time
    is virtual and moves only inside `run_until`. Everything is removed at the end of the test.
    """
    from contextlib import ExitStack

    from labsim.lab.lab_request import LabRequest
    from labsim.lab.opening import open_lab
    from labsim.model.scenario import load_scenario, parse_scenario
    from labsim.scenario.subject import ScenarioLab

    labs = 0

    def make(source: str | Path) -> ScenarioLab:
        text = str(source)
        scenario = parse_scenario(text) if "\n" in text else load_scenario(Path(source))
        nonlocal labs
        folder, labs = tmp_path / f"lab-{labs}", labs + 1
        one = stack.enter_context(
            open_lab(
                scenario.spec.lab,
                LabRequest(
                    name=scenario.metadata.name,
                    folder=folder,
                    seed=str(request.config.getoption("--labsim-seed")),
                ),
            )
        )
        subject = ScenarioLab(one.lab)
        one.lab.make()
        return subject

    with ExitStack() as stack:
        yield make
