"""An installed wheel is complete: it has templates, scenarios and data, and runs a scenario away from the source."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_run_from_an_installed_wheel_passes(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("labsim-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    scenario = site / "labsim" / "shipped" / "scenarios" / "scale-down-and-reuse.yaml"
    assert (site / "labsim" / "shipped" / "vm-templates" / "domain.xml.j2").exists()
    program = f"import sys; sys.path.insert(0, {str(site)!r}); from labsim.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "run", str(scenario), "--run-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout
