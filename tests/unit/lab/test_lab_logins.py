"""Logins: real SSH to simulated machines, with the lab's key, and only to who answers with the machine's key."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from labsim.entropy import Entropy
from labsim.errors import LabError, NothingSelected
from labsim.lab.lab import Lab
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import open_lab
from labsim.lab.ssh import Login, LoginFailed, announced_keys, fetch_file, logged_in, output_of, run_command, store_file
from labsim.lab.ssh_key import openssh_text, private_key
from labsim.lab.virtual_machines import open_paced_lab
from labsim.machines.driver import BootSource, MachineOff
from labsim.model.scenario import LabSpec

SPEC = LabSpec.model_validate(
    {"infraEnvs": [{"name": "lab"}], "machines": [{"name": "worker", "count": 2, "infraEnv": "lab"}]}
)
T = TypeVar("T")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab whose first machine is up and registered."""
    with open_paced_lab(SPEC, LabRequest(name="x", folder=tmp_path / "lab", speed=300.0)) as opened:
        lab = opened.lab
        lab.make()
        lab.insert_discovery_iso("worker-0")
        lab.driver.boot("worker-0", BootSource.DISCOVERY_ISO)
        assert lab.run_until(lambda: bool(lab.agents()), lab.now() + 6000)
        yield lab


def beside(lab: Lab, work: Callable[[], T]) -> T:
    """What `work` does on a thread of its own, while the lab lives on."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
        lab.world.post(lab.has_changed)

    thread = threading.Thread(target=run)
    thread.start()
    lab.run_until(lambda: bool(done or failed), lab.now() + 60_000)
    thread.join(30)
    if failed:
        raise failed[0]
    return done[0]


def ran(lab: Lab, login: Login, command: str, stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
    def work() -> tuple[int, bytes, bytes]:
        out, err = io.BytesIO(), io.BytesIO()
        with logged_in(login, ready_within_s=20) as client:
            sent = None if stdin is None else io.BytesIO(stdin)
            code = run_command(client, command, stdin=sent, stdout=out, stderr=err)
        return code, out.getvalue(), err.getvalue()

    return beside(lab, work)


def test_a_command_shows_what_the_machine_has_and_how_it_ended(lab: Lab) -> None:
    login = lab.logins.of("worker-0")
    code, out, err = ran(lab, login, "hostname; cat /etc/hosts && sudo journalctl -u agent.service -n 1")
    assert (code, err) == (0, b"")
    assert out.startswith(b"worker-0\n")
    assert b"assisted-service.labsim.internal" in out
    assert out.endswith(b"agent: registered with status discovering-unbound\n")
    code, out, err = ran(lab, login, "cat /nothing")
    assert (code, out) == (1, b"")
    assert b"No such file" in err
    assert ran(lab, login, "gdb /proc/1/exe")[0] == 127


def test_files_are_copied_both_ways(lab: Lab) -> None:
    data = Entropy(1).bytes("file", 300_000)
    back = io.BytesIO()

    def work() -> None:
        with logged_in(lab_login, ready_within_s=20) as client:
            store_file(client, io.BytesIO(data), "/tmp/a 'file'")
            fetch_file(client, "/tmp/a 'file'", back)
            with pytest.raises(LoginFailed, match="No such file"):
                fetch_file(client, "/tmp/other", io.BytesIO())

    lab_login = lab.logins.of("worker-0")
    beside(lab, work)
    assert back.getvalue() == data


def test_a_machine_restarts_from_inside_by_its_own_boot_order(lab: Lab) -> None:
    login = lab.logins.of("worker-0")
    before = lab.console_of("worker-0").count(b"started from")
    ran(lab, login, "echo kept > /tmp/kept; sudo systemctl reboot")
    code, out, _ = ran(lab, login, "cat /tmp/kept")  # waits until it is up again
    assert (code, out) == (1, b"")
    assert lab.console_of("worker-0").count(b"started from") == before + 1


def test_the_systems_own_client_gets_in_with_the_labs_key_and_known_hosts(lab: Lab) -> None:
    login = lab.logins.of("worker-0")
    ran(lab, login, "true")
    command = ["ssh", "-i", str(login.key_file), "-p", str(login.port), "-F", "none", "-o", "BatchMode=yes"]
    command += ["-o", f"UserKnownHostsFile={login.known_hosts}", "-o", f"HostKeyAlias={login.name}"]
    command += ["-o", "StrictHostKeyChecking=yes", f"core@{login.host}", "hostname"]
    try:
        done = beside(lab, lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False))
    except FileNotFoundError:
        pytest.skip("there is no ssh program")
    assert (done.returncode, done.stdout) == (0, "worker-0\n"), done.stderr


def test_another_key_does_not_get_in(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(openssh_text(private_key(Entropy("another lab"))))
    login = dataclasses.replace(lab.logins.of("worker-0"), key_file=other)
    with pytest.raises(LoginFailed, match="does not take the lab's key for core"):
        ran(lab, login, "true")
    with pytest.raises(LoginFailed, match="does not take the lab's key for root"):
        ran(lab, dataclasses.replace(lab.logins.of("worker-0"), user="root"), "true")


def test_who_answers_with_another_key_than_the_machine_told_is_not_trusted(lab: Lab) -> None:
    told = announced_keys(b"SSH host key: SHA256:" + b"A" * 43 + b" (ED25519)\n")
    login = dataclasses.replace(lab.logins.of("worker-0"), announced=told)
    with pytest.raises(LoginFailed, match="said on its console that it has SHA256:AAAA"):
        ran(lab, login, "true")
    assert not login.known_hosts.exists()


def test_where_no_console_tells_the_first_key_is_kept(lab: Lab) -> None:
    login = dataclasses.replace(lab.logins.of("worker-0"), announced=())
    assert ran(lab, login, "true")[0] == 0
    assert ran(lab, login, "true")[0] == 0
    kept = login.known_hosts.read_text()
    assert kept.startswith("worker-0.x ssh-ed25519 ")
    lab.insert_discovery_iso("worker-1")
    lab.driver.boot("worker-1", BootSource.DISCOVERY_ISO)
    other = dataclasses.replace(lab.logins.of("worker-1"), announced=(), name=login.name)
    with pytest.raises(LoginFailed, match="another host key") as caught:
        ran(lab, other, "true")
    assert "remove its line" in caught.value.hint
    assert login.known_hosts.read_text() == kept


def test_the_labs_key_is_in_its_folder_for_its_user_alone(lab: Lab) -> None:
    login = lab.logins.of("worker-0")
    assert login.key_file.parent == lab.options.folder.resolve()
    assert login.key_file.stat().st_mode & 0o077 == 0
    assert Login.of_document(login.as_document()) == login


def test_what_cannot_be_logged_in_to_is_said(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(MachineOff):
        lab.logins.of("worker-1")
    with pytest.raises(NothingSelected):
        lab.logins.of("nobody")
    lab.insert_discovery_iso("worker-1")
    lab.driver.boot("worker-1", BootSource.DISCOVERY_ISO)
    login = dataclasses.replace(lab.logins.of("worker-1"), port=1)
    with pytest.raises(LoginFailed, match="nothing lets us in at worker-1"):
        beside(lab, lambda: logged_in(login, ready_within_s=0.1).__enter__())
    with open_lab(SPEC, LabRequest(name="y", folder=tmp_path / "virtual")) as opened:
        opened.lab.make()
        opened.lab.insert_discovery_iso("worker-0")
        opened.lab.driver.boot("worker-0", BootSource.DISCOVERY_ISO)
        with pytest.raises(LabError, match="nobody can log in") as refused:
            opened.lab.logins.of("worker-0")
        assert "--keep" in refused.value.hint


def test_nobody_logs_in_to_a_machine_whose_cable_is_out(lab: Lab) -> None:
    login = lab.logins.of("worker-0")
    assert ran(lab, login, "true")[0] == 0
    lab.driver.set_link("worker-0", False)
    with pytest.raises(LoginFailed, match="nothing lets us in at worker-0"):
        beside(lab, lambda: logged_in(login, ready_within_s=0.1).__enter__())


def test_the_last_key_of_each_type_that_a_console_told_counts() -> None:
    line = "SSH host key: SHA256:{} ({})\r\n"
    console = "".join(
        line.format(letter * 43, kind) for letter, kind in (("a", "ED25519"), ("b", "RSA"), ("c", "ED25519"))
    )
    assert announced_keys(console.encode()) == ("SHA256:" + "c" * 43, "SHA256:" + "b" * 43)
    assert announced_keys(b"nothing of it") == ()


def test_a_command_that_fails_is_an_error_where_its_output_is_wanted(lab: Lab) -> None:
    login = lab.logins.of("worker-0")

    def work() -> bytes:
        with logged_in(login, ready_within_s=20) as client:
            return output_of(client, "cat /nothing")

    with pytest.raises(LoginFailed, match="ended with 1: cat: can't open"):
        beside(lab, work)
