"""The documentation's story, its portable twin and the reclaim variant with three virtual machines under libvirt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from libvirt_at_hand import NEEDS_LIBVIRT

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SPEED = "15"  # in-world seconds per real second, under software emulation on two cores
WITHIN_S = 560


pytestmark = NEEDS_LIBVIRT


@pytest.mark.parametrize("name", ["scale-down-and-reuse", "scale-down-and-reuse-portable", "scale-down-and-reclaim"])
def test_a_scenario_passes_with_three_virtual_machines(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "labsim.cli.main", "run", str(SCENARIOS / f"{name}.yaml"), "--run-dir", str(run)]
    command += ["--machines", "libvirt", "--profile", "small", "--speed", SPEED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "libvirt machines" in done.stdout
    consoles = sorted(path.name for path in (run / "consoles").iterdir())
    assert consoles == ["worker-0.log", "worker-1.log", "worker-2.log"]
    assert "registered with status" in (run / "consoles" / "worker-0.log").read_text(errors="replace")
    judged = subprocess.run(
        [sys.executable, "-m", "labsim.cli.main", "check", str(run)], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout
