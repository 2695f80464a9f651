"""Faults of a machine that a driver carries out: each begins at once, and comes with the way to undo it.

Faults of the network between machines and what they want to reach are the fabric's (labsim.network.fabric).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from labsim.errors import LabError
from labsim.machines.driver import MachineDriver, NoMedia, Power

Undo = Callable[[], None]

NO_SPACE, DEVICE_ERROR = "No space left on device", "Input/output error"


@runtime_checkable
class HasFaultyParts(Protocol):
    """Optional: drivers whose machines' clocks and disks can be made to go wrong."""

    def skew_clock(self, name: str, seconds: float) -> None:
        """From now on the machine's clock shows that much more than the time it is, or less."""
        ...

    def fail_disks(self, name: str, message: str) -> None:
        """From now on each write to a disk of the machine fails with this message of the system; "" for no more."""
        ...


def cut_power(driver: MachineDriver, name: str) -> Undo:
    """The machine goes off whatever it does. Power back: it starts by its own boot order if it ran before."""
    view = driver.observe(name)
    driver.stop(name)

    def power_back() -> None:
        if view.power in (Power.ON, Power.PAUSED) and driver.observe(name).power is Power.OFF:
            driver.boot(name, view.boot_order[0])

    return power_back


def pull_cables(driver: MachineDriver, name: str) -> Undo:
    """No network card of the machine has a link."""
    driver.set_link(name, False)
    return lambda: driver.set_link(name, True)


def eject_media(driver: MachineDriver, name: str) -> Undo:
    """The ISO is gone from the CD drive, also of a machine that runs from it. Raises NoMedia where there is none."""
    media = driver.observe(name).media
    if media is None:
        raise NoMedia(name)
    driver.insert_media(name, None)
    return lambda: driver.insert_media(name, media)


def skew_clock(driver: MachineDriver, name: str, seconds: float) -> Undo:
    """The machine's clock is wrong. Raises LabError where the driver's machines keep the host's time."""
    parts = _parts(driver, "a machine's clock")
    parts.skew_clock(name, seconds)
    return lambda: parts.skew_clock(name, 0.0)


def fail_disks(driver: MachineDriver, name: str, *, full: bool) -> Undo:
    """What the machine writes to its disks fails. Raises LabError where the driver cannot make it."""
    parts = _parts(driver, "a machine's disk")
    parts.fail_disks(name, NO_SPACE if full else DEVICE_ERROR)
    return lambda: parts.fail_disks(name, "")


def _parts(driver: MachineDriver, what: str) -> HasFaultyParts:
    if isinstance(driver, HasFaultyParts):
        return driver
    raise LabError(f"these machines have no fault of {what}", hint="simulated machines have: --machines simulated")
