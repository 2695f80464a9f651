"""What people do to machines by hand, for steps of a scenario and for commands alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from labsim.errors import CheckFailed
from labsim.machines.driver import CD_FIRST, DISK_FIRST, BootSource, MachineDriver, Power
from labsim.model.machine_group import Disk, Nic
from labsim.model.quantities import format_duration

Report = Callable[[str], None]


class Lab(Protocol):
    """What is needed of a lab."""

    driver: MachineDriver

    def now(self) -> float: ...
    def run_until(self, done: Callable[[], bool], deadline_s: float) -> bool: ...
    def check_power(self, machine: str) -> None:
        """Raises LabError where a fault keeps a machine from starting."""
        ...

    def insert_discovery_iso(self, machine: str) -> None:
        """Put the current discovery ISO of the machine's InfraEnv into its drive."""
        ...

    def plug(self, machine: str, device: Disk | Nic) -> str:
        """Plug a disk or card into a machine; its name or MAC address."""
        ...


def carry_out(lab: Lab, verb: str, machines: Sequence[str], options: Mapping[str, Any], report: Report) -> None:
    """Do `verb` to each machine. Raises what the driver does, and CheckFailed where a system does not shut down."""
    for name in machines:
        report(_VERBS[verb](lab, name, options))
    if verb == "stop" and options.get("graceful"):
        _wait_until_off(lab, machines, float(options["within"]))


def verbs() -> tuple[str, ...]:
    return tuple(_VERBS)


def _start(lab: Lab, name: str, options: Mapping[str, Any], start: Callable[[str, BootSource], None]) -> str:
    source = BootSource(options["source"])
    lab.check_power(name)
    if source is BootSource.DISCOVERY_ISO:
        lab.insert_discovery_iso(name)
    if options.get("for_good"):
        lab.driver.set_boot_order(name, DISK_FIRST if source is BootSource.DISK else CD_FIRST)
    start(name, source)
    return f"{name} boots from {source.value}"


def _stop(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    graceful = bool(options.get("graceful"))
    lab.driver.stop(name, graceful)
    return f"{name}: power button pressed" if graceful else f"{name} stopped"


def _wait_until_off(lab: Lab, machines: Sequence[str], within_s: float) -> None:
    def on() -> list[str]:
        return [name for name in machines if lab.driver.observe(name).power is not Power.OFF]

    if not lab.run_until(lambda: not on(), lab.now() + within_s):
        raise CheckFailed(
            f"{', '.join(on())} did not shut down within {format_duration(within_s)}",
            hint="its system may not have started yet, or ignore its power button; cut its power: labsim stop --hard",
        )


def _reset(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    del options
    lab.driver.reset(name)
    return f"{name} reset"


def _pause(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    del options
    lab.driver.pause(name)
    return f"{name} paused"


def _resume(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    del options
    lab.driver.resume(name)
    return f"{name} goes on"


def _snapshot(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    lab.driver.snapshot(name, str(options["name"]))
    return f"{name} kept as {options['name']}"


def _revert(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    lab.driver.revert(name, str(options["to"]))
    return f"{name} is as it was at {options['to']}, and off"


def _plug(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    return f"{lab.plug(name, options['device'])} plugged into {name}"


def _unplug(lab: Lab, name: str, options: Mapping[str, Any]) -> str:
    lab.driver.unplug(name, str(options["device"]))
    return f"{options['device']} unplugged from {name}"


_VERBS: dict[str, Callable[[Lab, str, Mapping[str, Any]], str]] = {
    "boot": lambda lab, name, options: _start(lab, name, options, lab.driver.boot),
    "reboot": lambda lab, name, options: _start(lab, name, options, lab.driver.reboot),
    "stop": _stop,
    "reset": _reset,
    "pause": _pause,
    "resume": _resume,
    "snapshot": _snapshot,
    "revert": _revert,
    "plug": _plug,
    "unplug": _unplug,
}
