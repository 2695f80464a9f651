"""`labsim doctor` on this very host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from labsim.edge_time import monotonic_s


def doctor(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labsim.cli.main", "doctor", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder, env={**os.environ, **environment},
    )  # fmt: skip


def test_the_table_and_the_document_say_the_same(tmp_path: Path) -> None:
    began_s = monotonic_s()
    done = doctor("-o", "json", folder=tmp_path)
    took_s = monotonic_s() - began_s
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["usable"]["simulated"] is True
    areas = {found["area"] for found in said["findings"]}
    assert areas == {
        "cpu", "memory", "disk", "permissions", "hypervisor", "firmware", "packages", "ports", "subnets"
    }  # fmt: skip
    assert all(found["fix"]["apt"] for found in said["findings"] if found["level"] != "ok")
    assert {lab["profile"] for lab in said["largestLabs"]} == {"", "default", "small"}
    assert took_s < 15  # 5 s on a host that does nothing else

    table = doctor(folder=tmp_path)
    assert table.returncode == 0
    assert table.stdout.count("fix: ") == sum(found["level"] != "ok" for found in said["findings"])
    assert "simulated machines: work here" in table.stdout
    assert list(tmp_path.iterdir()) == []  # nothing was made


def test_a_host_without_a_hypervisor_carries_simulated_labs_only(tmp_path: Path) -> None:
    """No libvirt answers at a URI that no driver has."""
    arguments = ("--connect", "nonsense:///session")
    assert doctor(*arguments, folder=tmp_path).returncode == 0
    refused = doctor(*arguments, "--machines", "libvirt", folder=tmp_path)
    assert refused.returncode == 4
    assert "libvirt machines: do not work here" in refused.stdout


def test_machines_of_a_kind_that_there_is_not_are_refused(tmp_path: Path) -> None:
    refused = doctor("--machines", "paper", folder=tmp_path)
    assert refused.returncode == 2
    assert "simulated, libvirt" in refused.stderr
