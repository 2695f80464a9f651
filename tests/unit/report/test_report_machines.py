"""A run that does not pass keeps what its machines can tell, without secrets."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import typer.testing

from labsim.cli.main import app
from labsim.history import History
from labsim.lab.evidence import machine_evidence
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import open_lab
from labsim.lab.ssh_key import openssh_text, private_key
from labsim.machines.driver import BootSource
from labsim.model.scenario import LabSpec

SCENARIO = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {{name: one}}
spec:
  lab:
    infraEnvs: [{{name: lab}}]
    machines: [{{name: worker, infraEnv: lab}}]
  steps:
    - boot: {{machines: worker-0, from: discovery-iso}}
    - expect: {{agents: all, count: {count}, within: 15m}}
"""


@pytest.mark.parametrize(("count", "code", "is_kept"), [(1, 0, False), (2, 1, True)])
def test_journals_are_kept_of_a_run_that_fails(count: int, code: int, is_kept: bool, tmp_path: Path) -> None:
    file, run = tmp_path / "one.yaml", tmp_path / "run"
    file.write_text(SCENARIO.format(count=count))
    done = typer.testing.CliRunner().invoke(app, ["run", str(file), "--run-dir", str(run)])
    assert done.exit_code == code, done.output
    assert (run / "machines").exists() is is_kept
    if is_kept:
        machine = next((run / "machines").iterdir())
        assert "started from discovery-iso" in (machine / "journal.log").read_text()
        lines = (machine / "agent.log").read_text().splitlines()
        assert lines
        assert all(line.startswith("agent: ") for line in lines)


def test_no_secret_is_in_what_machines_tell(tmp_path: Path) -> None:
    spec = LabSpec.model_validate({"infraEnvs": [{"name": "lab"}], "machines": [{"name": "worker", "infraEnv": "lab"}]})
    with open_lab(spec, LabRequest(name="x", folder=tmp_path)) as opened:
        lab = opened.lab
        lab.make()
        name = lab.machine_names()[0]
        lab.insert_discovery_iso(name)
        lab.driver.boot(name, BootSource.DISCOVERY_ISO)
        lab.run_until(lambda: bool(lab.agents()), lab.now() + 900)
        key = openssh_text(private_key(lab.entropy))
        token = ".".join(
            base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"a":1}', b'{"b":2}', b"sig")
        )
        lab.world.history.hide(["a-password-of-the-lab"])
        machine = lab.driver.machine(name)  # type: ignore[attr-defined]  # a simulated one
        machine.console.extend(f"agent: {key}\nagent: {token} a-password-of-the-lab\n".encode())
        found = machine_evidence(lab)[f"{name}/journal.log"].decode()
    assert "agent: <secret" in found
    for secret in (key.splitlines()[1], token, "a-password-of-the-lab"):
        assert secret not in found


def test_a_private_key_is_scrubbed_in_one_line_too() -> None:
    history = History(lambda: 0.0)
    text = b'{"key":"-----BEGIN EC PRIVATE KEY-----\\nMHcC\\n-----END EC PRIVATE KEY-----\\n"}'
    assert b"MHcC" not in history.scrubbed(text)
