"""The session's libvirt daemon, for root too.

libvirt starts a user's session daemon by itself, except for root: a client that is root always looks for the system's
daemon, which a container does not have and a lab should not start: it would own the machine's networks and firewall.
Root gets a session daemon all the same, in a user namespace in which root's files belong to a user who is not root.
It listens where a session daemon always does and ends by itself two minutes after its last client and last machine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from pathlib import Path

from labsim.edge_time import monotonic_s, wait_s
from labsim.machines.libvirt.errors import INSTALL_HINT, SYSTEM_ERROR, HypervisorError, Rule, rule_for

SESSION_URI = "qemu:///session"
_DAEMONS = ("libvirtd", "virtqemud")
_IDLE_S = 120
_START_TIMEOUT_S = 20.0
_NO_SESSION = Rule(
    "no-session-for-root",
    frozenset(),
    "",
    "a session of libvirt could not be started for root",
    "run labsim as an ordinary user: user namespaces are closed to root here",
)
_NO_DAEMON = Rule("no-libvirtd", frozenset(), "", "libvirt is not installed", INSTALL_HINT)
_INSIDE_UID = "1"  # any user but root; outside the namespace it is root


def session_uri() -> str:
    """The URI of the caller's own session, whose daemon runs when this returns (root) or is started by libvirt."""
    if os.geteuid() != 0:
        return SESSION_URI
    program = _daemon_program()
    socket_path = _runtime_directory() / "libvirt" / f"{Path(program).name.removesuffix('d')}-sock"
    if Path(program).name == "virtqemud":
        socket_path = socket_path.with_name("virtqemud-sock")
    if not _answers(socket_path):
        _start(program, socket_path)
    return f"{SESSION_URI}?socket={socket_path}"


def has_session() -> bool:
    """Whether there can be a session with machines in it: libvirt and its binding are installed."""
    if importlib.util.find_spec("libvirt") is None:
        return False
    return any(shutil.which(name, path=_search_path()) for name in _DAEMONS)


def _search_path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def _daemon_program() -> str:
    for name in _DAEMONS:
        found = shutil.which(name, path=_search_path())
        if found:
            return found
    raise HypervisorError(_NO_DAEMON, "found neither libvirtd nor virtqemud")


def _runtime_directory() -> Path:
    """Where libvirt itself looks: XDG_RUNTIME_DIR, or the cache directory where there is none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_path))
        except OSError:
            return False
        return True


def _start(program: str, socket_path: Path) -> None:
    """Start the daemon and wait until it answers. Two processes may try: one daemon wins, both find it."""
    mapped = ("unshare", "--user", f"--map-user={_INSIDE_UID}", f"--map-group={_INSIDE_UID}")
    try:
        done = subprocess.run(
            [*mapped, program, "--daemon", f"--timeout={_IDLE_S}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_START_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HypervisorError(
            rule_for(SYSTEM_ERROR, "connection refused"), f"{program} does not start: {error}"
        ) from error
    deadline_s = monotonic_s() + _START_TIMEOUT_S
    while not _answers(socket_path):
        if monotonic_s() > deadline_s or (done.returncode and "unshare" in done.stderr):
            said = done.stderr.strip().splitlines()
            raise HypervisorError(_NO_SESSION, said[-1] if said else f"nothing answers at {socket_path}")
        wait_s(0.05)
