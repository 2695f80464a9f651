"""The pytest plugin from outside: scenario files are items, and the `lab` fixture makes labs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCENARIOS = Path(__file__).parents[3] / "scenarios"


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_a_scenario_file_is_an_item_that_passes(tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text((SCENARIOS / "label-selector.yaml").read_text())
    (tmp_path / "other.yaml").write_text("just: yaml\n")
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_failing_scenario_shows_the_page_of_its_step(tmp_path: Path) -> None:
    text = (SCENARIOS / "label-selector.yaml").read_text().replace("count: 3, state", "count: 4, state")
    (tmp_path / "story.yaml").write_text(text)
    done = pytest_in(tmp_path)
    assert done.returncode == 1
    assert "4 agents in known-unbound did not come to hold" in done.stdout
    assert "last transitions" in done.stdout


def test_the_lab_fixture_gives_a_lab_in_virtual_time(tmp_path: Path) -> None:
    (tmp_path / "test_lab.py").write_text(
        f"""
from labsim.machines.driver import BootSource

def test_agents_register(lab):
    one = lab({str(SCENARIOS / "label-selector.yaml")!r})
    one.insert_discovery_iso("worker-0")
    one.driver.reboot("worker-0", BootSource.DISCOVERY_ISO)
    assert one.run_until(lambda: len(one.agents()) == 1, one.now() + 900)
    assert one.machine_of(one.agents()[0]) == "worker-0"
"""
    )
    done = pytest_in(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
