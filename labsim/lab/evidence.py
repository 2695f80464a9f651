"""What the machines of a lab can tell when something went wrong: journals, agent logs, what their hypervisor knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labsim.errors import LabsimError
from labsim.machines.driver import HasEvidence, HasLogin
from labsim.machines.simulated.driver import SimulatedDriver
from labsim.machines.simulated.shell import InMachine, SimulatedShell

if TYPE_CHECKING:
    from labsim.lab.lab import Lab

READY_WITHIN_S = 5.0  # a machine that does not let us in now is not waited for
# The same commands answer in RHCOS, in our own image and in a simulated machine.
COMMANDS = {
    "journal.log": "sudo journalctl --no-pager -b",
    "agent.log": "sudo journalctl --no-pager -b -u agent.service",
}


def machine_evidence(lab: Lab) -> dict[str, bytes]:
    """Files by `<machine>/<name>`, secrets removed. Never fails: what cannot be had is said in its place. Called on the
    world's thread, and may take some seconds for each machine."""
    found: dict[str, bytes] = {}
    for machine in lab.machine_names():
        files = _from_inside(lab, machine)
        if isinstance(lab.driver, HasEvidence):
            try:
                files |= lab.driver.evidence(machine)
            except LabsimError as error:
                files["hypervisor.txt"] = f"nothing is known: {error.message}\n".encode()
        found |= {f"{machine}/{name}": lab.world.history.scrubbed(data) for name, data in files.items()}
    return found


def _from_inside(lab: Lab, machine: str) -> dict[str, bytes]:
    if isinstance(lab.driver, SimulatedDriver):
        shell = SimulatedShell(InMachine(lab.driver.machine(machine)))
        return {name: shell.run(command).out for name, command in COMMANDS.items()}
    if not isinstance(lab.driver, HasLogin):
        return {}
    from labsim.lab.ssh import logged_in, output_of

    try:
        with logged_in(lab.logins.of(machine), ready_within_s=READY_WITHIN_S) as client:
            return {name: output_of(client, command) for name, command in COMMANDS.items()}
    except (LabsimError, OSError) as error:
        return {"journal.log": f"cannot be had: {error}\n".encode()}
