"""The driver whose machines live in the process."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from labsim.clock import Scheduler
from labsim.discovery.inspect import read_ignition
from labsim.entropy import Entropy
from labsim.machines.driver import (
    RESUME_FIRST,
    START_FIRST,
    STOP_FIRST,
    BootSource,
    DiskSpec,
    MachineSpec,
    MachineView,
    NicSpec,
    NoMedia,
    NoSuchMachine,
    NoSuchSnapshot,
    Power,
    WrongPower,
    check_pluggable,
    check_snapshot_name,
    no_such_device,
)
from labsim.machines.simulated.machine import SimulatedMachine, Transport
from labsim.machines.simulated.record import Document, GuestRecord, Tell


class SimulatedDriver:
    """Machines on the world's clock; every verb takes effect at once, booting takes in-world time."""

    name = "simulated"

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        entropy: Entropy,
        transport: Transport,
        resolve: Callable[[str, str], tuple[str, ...]],
        observe: Callable[[str, str, dict[str, Any]], None] = lambda machine, what, fields: None,
        tell: Tell | None = None,
    ) -> None:
        """resolve: the addresses of a name, as the name server of a machine (named first) has them. tell: hears every
        record that a later process needs to `resume` the machines; None keeps none."""
        self._tell = tell
        self._records: dict[str, GuestRecord] = {}
        self._scheduler = scheduler
        self._entropy = entropy
        self._transport = transport
        self._resolve = resolve
        self._observe = observe
        self._machines: dict[str, SimulatedMachine] = {}
        self._asked: dict[str, MachineSpec] = {}
        self._addresses = 0
        self._ignition_of_iso = functools.lru_cache(maxsize=16)(lambda path: read_ignition(Path(path)))

    def ensure(self, spec: MachineSpec) -> None:
        known = self._machines.get(spec.name)
        asked, self._asked[spec.name] = self._asked.get(spec.name), spec
        if known is not None:
            if asked != spec:  # what was plugged in or set since stays, while the same is asked for
                known.change(spec)
            return
        self._addresses += 1
        number = self._addresses + 19
        address = f"192.168.{122 + number // 250}.{number % 250 + 1}/24"
        self._machines[spec.name] = SimulatedMachine(
            spec,
            scheduler=self._scheduler,
            entropy=self._entropy,
            transport=self._transport,
            resolve=self._resolve,
            observe=self._observe,
            address=address,
            ignition_of_iso=self._ignition_of_iso,
            record=self._record_of(spec.name),
        )

    def insert_media(self, name: str, iso: Path | None) -> None:
        self._machine(name).insert(None if iso is None else str(iso))

    def set_link(self, name: str, up: bool) -> None:
        self._machine(name).has_link = up

    def skew_clock(self, name: str, seconds: float) -> None:
        self._machine(name).skew_s = seconds

    def fail_disks(self, name: str, message: str) -> None:
        self._machine(name).disk_error = message

    def boot(self, name: str, source: BootSource) -> None:
        machine = self._machine(name)
        if machine.power is Power.PAUSED:
            machine.go_on()
        elif machine.power is Power.OFF:
            self._check_media(machine, source)
            machine.start(source)

    def reboot(self, name: str, source: BootSource) -> None:
        machine = self._machine(name)
        self._check_media(machine, source)
        machine.start(source)

    def stop(self, name: str, graceful: bool = False) -> None:
        machine = self._machine(name)
        if not graceful:
            machine.stop()
        elif machine.power is Power.PAUSED:
            raise WrongPower(name, machine.power, "stopped gracefully", RESUME_FIRST)
        elif machine.power is Power.ON:
            machine.press_power_button()

    def reset(self, name: str) -> None:
        machine = self._machine(name)
        if machine.power is not Power.ON:
            raise WrongPower(name, machine.power, "reset", START_FIRST)
        machine.reset()

    def pause(self, name: str) -> None:
        machine = self._machine(name)
        if machine.power is Power.OFF:
            raise WrongPower(name, machine.power, "paused", START_FIRST)
        if machine.power is Power.ON:
            machine.pause()

    def resume(self, name: str) -> None:
        machine = self._machine(name)
        if machine.power is Power.OFF:
            raise WrongPower(name, machine.power, "resumed", START_FIRST)
        if machine.power is Power.PAUSED:
            machine.go_on()

    def set_boot_order(self, name: str, order: tuple[BootSource, ...]) -> None:
        self._machine(name).set_boot_order(order)

    def plug(self, name: str, device: DiskSpec | NicSpec) -> None:
        spec = self._machine(name).spec
        check_pluggable(device)
        if isinstance(device, DiskSpec):
            if device.name not in {disk.name for disk in spec.disks}:
                self._machine(name).replug(dataclasses.replace(spec, disks=(*spec.disks, device)))
        elif device.mac not in {nic.mac for nic in spec.nics}:
            self._machine(name).replug(dataclasses.replace(spec, nics=(*spec.nics, device)))

    def unplug(self, name: str, device: str) -> None:
        spec = self._machine(name).spec
        disks = tuple(disk for disk in spec.disks if disk.name != device)
        nics = tuple(nic for nic in spec.nics if nic.mac != device)
        if (disks, nics) == (spec.disks, spec.nics):
            raise no_such_device(name, device, self.observe(name))
        self._machine(name).replug(dataclasses.replace(spec, disks=disks, nics=nics))

    def snapshot(self, name: str, snapshot: str) -> None:
        machine = self._machine(name)
        check_snapshot_name(snapshot)
        if machine.power is not Power.OFF:
            raise WrongPower(name, machine.power, "kept as a snapshot", STOP_FIRST)
        machine.snapshot(snapshot)

    def revert(self, name: str, snapshot: str) -> None:
        machine = self._machine(name)
        if snapshot not in machine.snapshots:
            raise NoSuchSnapshot(name, snapshot, machine.snapshots)
        machine.revert(snapshot)

    def observe(self, name: str) -> MachineView:
        machine = self._machine(name)
        return MachineView(
            name=name,
            uuid=machine.spec.uuid,
            power=machine.power,
            boot_order=machine.spec.boot_order,
            media=None if machine.media is None else Path(machine.media),
            console=None,
            disks=tuple(disk.name for disk in machine.spec.disks),
            nics=tuple(nic.mac for nic in machine.spec.nics),
            snapshots=machine.snapshots,
            has_link=machine.has_link,
        )

    def names(self) -> frozenset[str]:
        return frozenset(self._machines)

    def remove(self, name: str) -> None:
        machine = self._machines.pop(name, None)
        self._asked.pop(name, None)
        if machine is not None:
            machine.stop()

    def machine(self, name: str) -> SimulatedMachine:
        """The machine itself, for whoever logs in to it. Raises NoSuchMachine."""
        return self._machine(name)

    def console(self, name: str) -> bytes:
        """What the machine has printed (the last 100 to 200 KB)."""
        return bytes(self._machine(name).console)

    def close(self) -> None:
        for machine in self._machines.values():
            machine.stop()

    def _record_of(self, name: str) -> GuestRecord | None:
        if self._tell is None:
            return None
        record = self._records[name] = GuestRecord(name, self._tell)
        return record

    # -- going on after the process has ended -------------------------------------------------------------------------

    def everything(self) -> Iterator[bytes]:
        """The records that stand for all machines as they are."""
        for name in self._machines:
            yield from self._records[name].everything()

    def resume_from(self, records: Iterable[Document]) -> None:
        """Let the machines, which have been made again, be what the records of an earlier process say."""
        states: dict[str, Document] = {}
        answers: dict[str, list[Document]] = {}
        for record in records:
            name = record["machine"]
            if "is" in record:
                states[name], answers[name] = record["is"], []
            elif "media" in record:
                states.setdefault(name, {"media": None})["media"] = record["media"]
            else:
                answers[name].append(record["answer"])
        for name, state in states.items():
            machine = self._machines.get(name)
            if machine is None:
                continue
            if "power" in state:
                machine.resume(state, answers[name])
            else:  # it has never been switched on
                machine.insert(state["media"])

    def _machine(self, name: str) -> SimulatedMachine:
        machine = self._machines.get(name)
        if machine is None:
            raise NoSuchMachine(name)
        return machine

    @staticmethod
    def _check_media(machine: SimulatedMachine, source: BootSource) -> None:
        if source is BootSource.DISCOVERY_ISO and machine.media is None:
            raise NoMedia(machine.spec.name)
