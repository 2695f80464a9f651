"""An installed wheel is complete: templates, scenarios, data and the pytest plugin, away from the source."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sys.path that holds what the wheel installs, and nothing of the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("labsim-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120, env=environment)


def test_a_run_from_an_installed_wheel_passes(site: Path, tmp_path: Path) -> None:
    scenario = site / "labsim" / "shipped" / "scenarios" / "scale-down-and-reuse.yaml"
    assert (site / "labsim" / "shipped" / "vm-templates" / "domain.xml.j2").exists()
    done = python(site, tmp_path, "-m", "labsim.cli.main", "run", str(scenario), "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout


def test_the_installed_plugin_collects_scenarios_and_gives_labs(site: Path, tmp_path: Path) -> None:
    """The example of the guide, beside a scenario file, in somebody's own project."""
    (tmp_path / "scenarios").mkdir()
    shipped = site / "labsim" / "shipped" / "scenarios" / "label-selector.yaml"
    (tmp_path / "scenarios" / "label-selector.yaml").write_text("# a comment\n" * 40 + shipped.read_text())
    guide = (ROOT / "docs" / "guides" / "pytest.md").read_text()
    (tmp_path / "test_guide.py").write_text(re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0])
    asked = "import labsim; print(labsim.__file__)"
    assert python(site, tmp_path, "-c", asked).stdout.startswith(str(site))
    done = python(site, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--labsim-seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_what_cannot_be_made_is_a_line_and_no_traceback(site: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("apiVersion: labsim/v1alpha1\nkind: Scenario\nmetadata: {name: x}\n")
    done = python(site, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "wrong.yaml")
    assert done.returncode == 1
    assert "spec: Field required" in done.stdout
    assert "Traceback" not in done.stdout
