"""How the machines of a lab are logged in to: the key, the address, the host keys to expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from labsim.errors import LabError, NothingSelected
from labsim.hub.embedded.kubeconfig import write_private
from labsim.lab.ssh_key import openssh_text, private_key
from labsim.machines.driver import HasLogin, MachineOff, Power
from labsim.machines.simulated.driver import SimulatedDriver

if TYPE_CHECKING:
    from labsim.lab.lab import Lab
    from labsim.lab.simulated_logins import SimulatedLogins
    from labsim.lab.ssh import Login

USER = "core"
KEY_FILE, KNOWN_HOSTS = "ssh_key", "known_hosts"
ANSWER_WITHIN_S = 60.0
T = TypeVar("T")


class Logins:
    """The logins of one lab. Methods are called on the world's thread."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._simulated: SimulatedLogins | None = None

    def of(self, machine: str) -> Login:
        """How to log in to a machine that runs; the lab's key is then in its folder. LabError where nobody can."""
        from labsim.lab.ssh import Login, announced_keys, fingerprint

        lab = self._lab
        if machine not in lab.machine_names():
            raise NothingSelected(
                f"there is no machine {machine!r}", hint=f"machines: {', '.join(lab.machine_names())}"
            )
        if lab.driver.observe(machine).power is not Power.ON:
            raise MachineOff(machine)
        if isinstance(lab.driver, HasLogin):
            host, port = lab.driver.login_address(machine)
            announced = announced_keys(lab.console_of(machine))
        else:
            logins = self._simulated_logins()
            host, port = logins.address(machine)
            announced = (fingerprint(logins.host_key(machine)),)
        folder = lab.options.folder.resolve()
        if not (folder / KEY_FILE).exists():
            write_private(folder / KEY_FILE, openssh_text(private_key(lab.entropy)))
        return Login(
            name=f"{machine}.{lab.options.name}",
            host=host,
            port=port,
            user=USER,
            key_file=folder / KEY_FILE,
            known_hosts=folder / KNOWN_HOSTS,
            announced=announced,
        )

    def close(self) -> None:
        if self._simulated is not None:
            self._simulated.close()

    def _simulated_logins(self) -> SimulatedLogins:
        from labsim.lab.simulated_logins import SimulatedLogins

        lab = self._lab
        if not isinstance(lab.driver, SimulatedDriver) or lab.world.pace.is_virtual:
            raise LabError(
                "nobody can log in to these machines", hint="labsim up, or run --keep, makes a lab that has logins"
            )

        def on_world(call: Callable[[], T]) -> T:
            return lab.world.post(call).result(ANSWER_WITHIN_S)

        if self._simulated is None:
            self._simulated = SimulatedLogins(lab.driver, lab.entropy, on_world)
        return self._simulated
