"""Where labs are kept: a folder each, below the user's state directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from labsim.errors import LabError, UsageError, system_errors
from labsim.machines.marked_folder import delete_marked_folder
from labsim.model.quantities import parse_size_bytes

LAB_FILE = "lab.json"
LAB_FOLDER = "lab"  # of a run, in its run directory: gone when the run ends
SOCKET = "control.sock"
LEDGER = "ledger.jsonl"
KUBECONFIG = "kubeconfig"
READER_KUBECONFIG = "kubeconfig-reader"
LOG = "lab.log"
CACHE_LIMIT = "LABSIM_CACHE_LIMIT"
DEFAULT_CACHE_LIMIT_BYTES = 20 << 30
STATE = "state.log"
SCENARIO = "scenario.yaml"


def labs_root(environment: dict[str, str] | None = None) -> Path:
    """`$XDG_STATE_HOME/labsim/labs`, or `~/.local/state/labsim/labs`."""
    known = os.environ if environment is None else environment
    state = known.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "labsim" / "labs"


def cache_root(environment: dict[str, str] | None = None) -> Path:
    """`$XDG_CACHE_HOME/labsim`, or `~/.cache/labsim`: what can be made again, shared by all labs of the user."""
    known = os.environ if environment is None else environment
    return Path(known.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")) / "labsim"


def cache_limit_bytes(environment: dict[str, str] | None = None) -> int:
    """What the cache may hold: `$LABSIM_CACHE_LIMIT` (for example 50GiB), or 20 GiB. Raises UsageError."""
    known = os.environ if environment is None else environment
    text = known.get(CACHE_LIMIT, "")
    if not text:
        return DEFAULT_CACHE_LIMIT_BYTES
    try:
        return parse_size_bytes(text)
    except ValueError as error:
        raise UsageError(f"{CACHE_LIMIT}: {error}") from error


class LabFolder:
    """One lab's folder: its ledger, its control socket, its kubeconfig, what is known about its process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    @property
    def socket(self) -> Path:
        return self.path / SOCKET

    @property
    def ledger(self) -> Path:
        return self.path / LEDGER

    @property
    def kubeconfig(self) -> Path:
        return self.path / KUBECONFIG

    @property
    def reader_kubeconfig(self) -> Path:
        """Of a user who may only look; labs on a cluster of somebody else have none."""
        return self.path / READER_KUBECONFIG

    @property
    def log(self) -> Path:
        return self.path / LOG

    @property
    def scenario(self) -> Path:
        """The file that the lab was made from, as it was then."""
        return self.path / SCENARIO

    def make(self) -> None:
        """Make the folder, readable by its user alone."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise LabError(f"{self.path} cannot be made: {error.strerror}", hint="set XDG_STATE_HOME") from error

    def is_ours(self) -> bool:
        """Whether a lab made it: it says so, or is as a crash leaves it that came before the first word."""
        if self.path.is_symlink():
            return False
        if (self.path / LAB_FILE).is_file() or self.ledger.is_file():
            return True
        with system_errors(f"reading {self.path}"):
            return {child.name for child in self.path.iterdir()} <= {f"{LAB_FILE}.new", LOG}

    def delete(self) -> None:
        """Delete the folder; what says that it is a lab's goes last. Quiet where there is none."""
        with system_errors(f"deleting {self.path}"):
            if self.path.exists():
                delete_marked_folder(self.path, LAB_FILE if (self.path / LAB_FILE).is_file() else LEDGER)

    def must_be_new(self) -> None:
        """Raises LabError where a lab of this name is up, or was left behind."""
        if self.is_running():
            hint = f"labsim down {self.name}, or choose another name"
            raise LabError(f"lab {self.name!r} is up already", hint=hint)
        if self.path.exists():
            hint = f"labsim down {self.name} removes it"
            if self.can_restart():
                hint = f"labsim restart {self.name} goes on with it, {hint}"
            raise LabError(f"lab {self.name!r} was left behind by a process that is gone", hint=hint)

    def can_restart(self) -> bool:
        """Whether a process that is gone has kept the lab's state."""
        return (self.path / STATE).is_file() and self.scenario.is_file()

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Replace lab.json, whole or not at all."""
        temporary = self.path / f"{LAB_FILE}.new"
        with system_errors(f"writing {self.path / LAB_FILE}"):
            temporary.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
            temporary.replace(self.path / LAB_FILE)

    def facts(self) -> dict[str, Any]:
        """What the lab's process wrote about itself; empty where it wrote nothing (yet)."""
        try:
            found: dict[str, Any] = orjson.loads((self.path / LAB_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def is_running(self) -> bool:
        """Whether the process that made this lab still lives (and is no later one with the same number)."""
        facts = self.facts()
        pid, started = facts.get("pid"), facts.get("process_started")
        return isinstance(pid, int) and process_started(pid) == started


def this_process() -> dict[str, Any]:
    """The facts by which `is_running` knows the process that asks."""
    return {"pid": os.getpid(), "process_started": process_started(os.getpid())}


def process_started(pid: int) -> str | None:
    """When a process started, in kernel ticks: with the pid it names a process for good. None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]  # a killed one that nobody has waited for does nothing more


def known_labs(root: Path) -> list[LabFolder]:
    if not root.is_dir():
        return []
    return [LabFolder(path) for path in sorted(root.iterdir()) if path.is_dir()]
