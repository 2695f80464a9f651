"""What lets people in to a virtual machine: keys from the Ignition, and commands that do what people expect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labsim.discovery.init_script import init_script
from labsim.discovery.login import START_PATH, login_files
from labsim.guest.effects import WriteFile
from labsim.guest.ignition import write_keys
from labsim.guest.init import JOURNAL_PATH

JOURNAL = "guest: started\nagent: one\nagent: two agent: three\nagentless: four\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The scripts as the image has them, with their journal in this folder."""
    for path, script in login_files().items():
        file = tmp_path / Path(path).name
        file.write_bytes(script.replace(JOURNAL_PATH.encode(), str(tmp_path / "journal").encode()))
        file.chmod(0o755)
    (tmp_path / "journal").write_text(JOURNAL)
    return tmp_path


def run(image: Path, *command: str) -> tuple[int, str]:
    environment = {**os.environ, "PATH": f"{image}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=environment)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), JOURNAL.splitlines()),
        (("--no-pager", "-b"), JOURNAL.splitlines()),
        (("-u", "agent.service"), ["agent: one", "agent: two agent: three"]),
        (("-t", "agent", "-n", "1"), ["agent: two agent: three"]),
        (("--unit=guest", "--no-pager"), ["guest: started"]),
        (("-uagent", "-b"), ["agent: one", "agent: two agent: three"]),
    ],
)
def test_journalctl_shows_the_lines_of_a_unit(image: Path, options: tuple[str, ...], expected: list[str]) -> None:
    code, printed = run(image, "journalctl", *options)
    assert printed.splitlines() == expected
    assert code == 0


def test_sudo_runs_what_it_is_given_and_ends_as_that_does(image: Path) -> None:
    assert run(image, "sudo", "-n", "journalctl", "-u", "guest") == (0, "guest: started\n")
    assert run(image, "sudo", "sh", "-c", "exit 7") == (7, "")


IN_INIT = """
import os, signal, sys, time
from labsim.guest import init
init._leave = lambda how: (sys.stdout.write(how), sys.stdout.flush(), os._exit(0))
init.print_line = lambda text: None
init.ANSWERED_WITHIN_S = 0.0
init._run = lambda: (os.kill(os.getpid(), signal.{number}), time.sleep(20))
init.start()
"""


@pytest.mark.parametrize(("number", "how"), [("SIGTERM", "reboot"), ("SIGUSR1", "halt"), ("SIGUSR2", "poweroff")])
def test_pid_1_does_what_busyboxs_reboot_and_poweroff_ask_of_it(number: str, how: str) -> None:
    """Found in a virtual machine that never restarted: its shell prefers busybox's applets to files of their names."""
    code = IN_INIT.format(number=number)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == how, done.stderr


def test_without_a_server_nothing_is_started() -> None:
    assert START_PATH not in init_script(Path("/usr/bin/python3"), []).decode()
    assert f"sh {START_PATH} &" in init_script(Path("/usr/bin/python3"), [], login=START_PATH).decode()


def test_the_keys_of_the_ignition_are_written_where_rhcos_has_them() -> None:
    users = [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 AAAA one ", "ssh-rsa BBBB two"]}, {"name": "other"}]
    assert list(write_keys(json.loads(json.dumps({"passwd": {"users": users}})))) == [
        WriteFile("/home/core/.ssh/authorized_keys.d/ignition", b"ssh-ed25519 AAAA one\nssh-rsa BBBB two\n", 0o600)
    ]
    assert list(write_keys({})) == []
