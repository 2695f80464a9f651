"""The same scenario and seed give the same history, byte for byte; another seed gives another interleaving."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCENARIO = Path(__file__).parents[2] / "scenarios" / "scale-down-and-reuse.yaml"


def history_of(folder: Path, *, seed: str, hash_seed: str) -> bytes:
    command = [sys.executable, "-m", "labsim.cli.main", "run", str(SCENARIO), "--seed", seed, "--run-dir", str(folder)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return (folder / "history.jsonl").read_bytes()


def test_the_same_seed_gives_a_byte_identical_history_in_two_processes(tmp_path: Path) -> None:
    one = history_of(tmp_path / "one", seed="1", hash_seed="1")
    two = history_of(tmp_path / "two", seed="1", hash_seed="4242")
    assert one.count(b"\n") > 1000
    for number, (left, right) in enumerate(zip(one.splitlines(), two.splitlines(), strict=False)):
        assert left == right, f"the histories part at line {number}"
    assert one == two


def test_another_seed_gives_another_interleaving(tmp_path: Path) -> None:
    one = history_of(tmp_path / "one", seed="1", hash_seed="1")
    two = history_of(tmp_path / "two", seed="2", hash_seed="1")
    assert one != two
