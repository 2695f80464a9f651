"""The faults of a lab's machines: which are on, how each is undone, and the commands about them."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from labsim.errors import LabError, NothingSelected, UsageError
from labsim.machines import faults
from labsim.machines.faults import HasFaultyParts, Undo
from labsim.machines.simulated.driver import SimulatedDriver
from labsim.model.machine_fault import FaultDetails, MachineFault, fault_of

if TYPE_CHECKING:
    from labsim.lab.lab import Lab

LIST, CLEAR = "list", "clear"


class NoPower(LabError):
    """A start was asked of a machine whose power is cut."""

    def __init__(self, machine: str) -> None:
        super().__init__(f"the power of machine {machine!r} is cut", hint="mend it first: labsim fault list, clear")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PresentFault:
    """One fault of one machine."""

    number: int
    machine: str
    details: FaultDetails
    undo: Undo

    def row(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "machine": self.machine,
            "fault": self.details.what,
            "details": self.details.particulars(),
        }

    def __str__(self) -> str:
        return f"fault {self.number} is on: {self.details} of {self.machine}"


class MachineFaults:
    """The faults that are on. They end with `mend`, and none outlives the process that brought it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._present: list[PresentFault] = []
        self._count = 0

    def present(self) -> list[PresentFault]:
        """The faults that are on, the oldest first."""
        return list(self._present)

    def meets(self, machine: str, fault: MachineFault | None = None) -> bool:
        """Whether a machine has a fault, or this one."""
        return any(found.machine == machine and fault in (None, found.details.fault) for found in self._present)

    def check_power(self, machine: str) -> None:
        """Raises NoPower for a machine that cannot start."""
        if self.meets(machine, MachineFault.POWER_CUT):
            raise NoPower(machine)

    def begin(self, machine: str, fault: FaultDetails) -> PresentFault:
        """Let a machine have a fault. Raises UsageError where it has it already, LabError where it cannot be made."""
        again = [found for found in self._present if found.machine == machine and _same(found.details, fault)]
        if again:
            raise UsageError(f"{machine} has that fault already: {again[0]}", hint="mend it first: labsim fault clear")
        undo = _BEGIN[fault.fault](self._lab, machine, fault)
        self._count += 1
        begun = PresentFault(number=self._count, machine=machine, details=fault, undo=undo)
        self._present.append(begun)
        self._tell("on", begun)
        return begun

    def mend(self, found: Iterable[PresentFault]) -> None:
        """Undo faults. Power comes back last: a machine starts with everything else in its place."""
        for fault in sorted(found, key=lambda fault: (fault.details.fault is MachineFault.POWER_CUT, -fault.number)):
            fault.undo()
            self._present.remove(fault)
            self._tell("off", fault)

    def forget(self) -> None:
        """Take away what an earlier process of the lab, which did not come to its end, has left."""
        driver = self._lab.driver
        for machine in self._lab.machine_names():
            driver.set_link(machine, True)
            if isinstance(driver, HasFaultyParts):
                driver.fail_disks(machine, "")

    def _tell(self, what: str, fault: PresentFault) -> None:
        self._lab.has_changed()
        self._lab.world.history.record("fault", what=what, **fault.row())


def _same(one: FaultDetails, other: FaultDetails) -> bool:
    """Whether the two cannot be on at once."""
    return one.fault is other.fault and one.place == other.place


def _block(lab: Lab, machine: str, fault: FaultDetails) -> Undo:
    if not isinstance(lab.driver, SimulatedDriver):
        hint = "cable-out cuts a machine off from everything; lab.dns.missing leaves a name out for all of them"
        raise LabError("a virtual machine cannot be kept from one place: nothing of the lab is in between", hint=hint)
    fabric = lab.world.fabric
    fabric.block(machine, fault.place)
    return lambda: fabric.unblock(machine, fault.place)


_BEGIN: dict[MachineFault, Callable[[Lab, str, FaultDetails], Undo]] = {
    MachineFault.POWER_CUT: lambda lab, machine, _: faults.cut_power(lab.driver, machine),
    MachineFault.CABLE_OUT: lambda lab, machine, _: faults.pull_cables(lab.driver, machine),
    MachineFault.MEDIA_OUT: lambda lab, machine, _: faults.eject_media(lab.driver, machine),
    MachineFault.BLOCKED: _block,
    MachineFault.CLOCK_SKEW: lambda lab, machine, fault: faults.skew_clock(lab.driver, machine, fault.skew_s),
    MachineFault.DISK_FAILING: lambda lab, machine, fault: faults.fail_disks(
        lab.driver, machine, full=bool(fault.full)
    ),
}


def carry_fault_command(present: MachineFaults, machines: Sequence[str], command: dict[str, Any]) -> list[Any]:
    """Carry out one command: rows for `list`, lines for a person otherwise. Raises LabsimError.

    fault: `list`, `clear` (with `numbers`; all by default), or a document of model.machine_fault.FaultDetails, which
    begins in the machines of the patterns `machines`.
    """
    fault = command.get("fault")
    if fault == LIST:
        return [found.row() for found in present.present()]
    if fault == CLEAR:
        return _clear(present, [int(number) for number in command.get("numbers") or ()])
    patterns = [str(pattern) for pattern in command.get("machines") or ()]
    names = [name for name in machines if any(fnmatch.fnmatchcase(name, wanted) for wanted in patterns)]
    if not names:
        raise NothingSelected(f"no machine matches {', '.join(patterns)}", hint=f"machines: {', '.join(machines)}")
    try:
        wanted = fault_of(dict(fault or {}))
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(message, hint="labsim fault --help") from error
    return [str(present.begin(name, wanted)) for name in names]


def _clear(present: MachineFaults, numbers: Sequence[int]) -> list[str]:
    found = [fault for fault in present.present() if not numbers or fault.number in numbers]
    unknown = sorted(set(numbers) - {fault.number for fault in found})
    if unknown:
        known = ", ".join(str(fault.number) for fault in present.present()) or "none"
        raise NothingSelected(f"there is no fault {unknown[0]}", hint=f"faults that are on: {known}")
    present.mend(found)
    return [f"fault {fault.number} is off: {fault.details} of {fault.machine}" for fault in found] or ["no fault is on"]
