"""One simulated machine: power, disks, media, and the guest program that it runs when it is on."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from labsim.clock import Clock, Scheduler, Timer
from labsim.discovery.embed import ignition_in_initrd
from labsim.entropy import Delays, Entropy
from labsim.guest import effects as guest
from labsim.guest import json_text
from labsim.guest.fake_system import MachineFacts, system_tree
from labsim.guest.main import run as guest_program
from labsim.guest.scheduler import LATER, Done, TaskScheduler
from labsim.kube.certificates import csr, derived_key, key_pem
from labsim.machines.driver import BootSource, MachineSpec, Power
from labsim.machines.simulated.disk import BootEntry, SimulatedDisk
from labsim.machines.simulated.facts import gateway_of, machine_facts
from labsim.machines.simulated.file_tree import FileTree
from labsim.machines.simulated.part_reader import PartReader
from labsim.machines.simulated.record import (
    Document,
    GuestRecord,
    RecordedDone,
    Replay,
)
from labsim.machines.simulated.resuming import resume, state_of

log = logging.getLogger(__name__)
json_text.use(orjson.loads, orjson.dumps)

# From power-on to the agent's first request: firmware, kernel, root file system, agent image pull; and the same for a
# disk boot up to Ignition. Ranges in in-world seconds; each boot of each machine draws its own from the seed.
ISO_BOOT_S = (60.0, 100.0)
DISK_BOOT_S = (40.0, 70.0)
GRACEFUL_STOP_S = 5.0
WRITE_DISK_S = (150.0, 260.0)  # the whole image; parts take their share
REQUEST_DELAY_S = (0.002, 0.02)
PING_MS = 0.4  # every machine of the lab hears every other one


class Transport(Protocol):
    """How a simulated machine reaches the world's endpoints."""

    def __call__(
        self, machine: str, effect: guest.Http, addresses: tuple[str, ...], done: Callable[[Any], None]
    ) -> None:
        """Send the request to a host with these addresses; `done` hears an HttpAnswer or an exception
        (ConnectionFailed)."""
        ...


class SimulatedMachine:
    """A machine on the world's clock. Methods are called on the world's thread."""

    def __init__(
        self,
        spec: MachineSpec,
        *,
        scheduler: Scheduler,
        entropy: Entropy,
        transport: Transport,
        resolve: Callable[[str, str], tuple[str, ...]],
        observe: Callable[[str, str, dict[str, Any]], None],
        address: str,
        ignition_of_iso: Callable[[str], bytes],
        record: GuestRecord | None = None,
    ) -> None:
        """record: kept up to date, so that `resume` of a later process's machine goes on from it."""
        self.spec = spec
        self.power = Power.OFF
        self.media: str | None = None
        self.has_link = True
        self.skew_s = 0.0  # what its clock shows more than the time it is
        self.disk_error = ""  # what the system says of each write to a disk; "" while they work
        self.console = bytearray()
        self.disks = [SimulatedDisk(disk.name, disk.size_bytes) for disk in spec.disks]
        self._scheduler = scheduler
        self._entropy = entropy.child(f"machine/{spec.uuid}")
        self._delays = Delays(self._entropy, "http", *REQUEST_DELAY_S)
        self._transport = transport
        self._ask_name_server = resolve
        self._observe = observe
        self._address = address
        self._ignition_of_iso = ignition_of_iso
        self._tasks: TaskScheduler | None = None
        self._files = FileTree({}, {})
        self._boots = 0
        self._booted_from = ""
        self._counts: dict[str, int] = {}
        self._boot_timer: Timer | None = None
        self._booting: guest.Boot | None = None  # what runs, or will at _boot_due_s
        self._boot_due_s: float | None = None  # None: at once
        self._clock: Clock = scheduler  # the program's own
        self._record = record
        self._replay: Replay | None = None
        self._is_held_back = False  # its program would run, but the machine is paused
        self._drawer: dict[str, SimulatedDisk] = {}  # every disk that this machine ever had, by name
        self._snapshots: dict[str, list[SimulatedDisk]] = {}
        self._cards_at_start: frozenset[str] = frozenset()

    def change(self, spec: MachineSpec) -> None:
        """Another specification, which counts from the next start; disks keep their contents by name."""
        self._drawer |= {disk.name: disk for disk in self.disks}
        self.disks = [
            self._drawer.setdefault(disk.name, SimulatedDisk(disk.name, disk.size_bytes)) for disk in spec.disks
        ]
        self.spec = spec

    def insert(self, media: str | None) -> None:
        """Put an ISO into the drive, or take it out."""
        self.media = media
        if self._record is not None:
            self._record.media(media)

    # -- power --------------------------------------------------------------------------------------------------------

    def start(self, source: BootSource) -> None:
        """Power on. DISCOVERY_ISO is one boot from the CD, as a person picks it in the boot menu."""
        self.stop()
        self.power = Power.ON
        self._observe(self.spec.name, "power", {"power": "on"})
        self._boot((source, *self.spec.boot_order))

    def stop(self) -> None:
        """Cut the power: every task ends where it stands."""
        self._halt()
        if self.power is not Power.OFF:
            self.power = Power.OFF
            self._observe(self.spec.name, "power", {"power": "off"})
            self._begin_record()

    def press_power_button(self) -> None:
        """A system that runs shuts itself down; firmware, and a system that is still starting, hear nothing."""
        self._observe(self.spec.name, "power button", {})
        tasks = self._tasks
        if tasks is None:
            return
        self._print("init: the power button was pressed: shutting down")
        # Only this boot ends: the machine may have been cut off and started again meanwhile.
        self._scheduler.call_later(GRACEFUL_STOP_S, lambda: self.stop() if self._tasks is tasks else None, "shutdown")

    def reset(self) -> None:
        """The reset button: a start by the machine's own order."""
        self._observe(self.spec.name, "reset", {})
        self._halt()
        self._boot(self.spec.boot_order)

    def pause(self) -> None:
        self.power = Power.PAUSED
        self._observe(self.spec.name, "power", {"power": "paused"})
        if self._tasks is not None:
            self._tasks.hold()

    def go_on(self) -> None:
        """After a pause."""
        self.power = Power.ON
        self._observe(self.spec.name, "power", {"power": "on"})
        held_back, self._is_held_back = self._is_held_back, False
        if held_back and self._booting is not None:
            self._run(self._booting)
        elif self._tasks is not None:
            self._tasks.release()

    # -- hardware -----------------------------------------------------------------------------------------------------

    def set_boot_order(self, order: tuple[BootSource, ...]) -> None:
        self.spec = dataclasses.replace(self.spec, boot_order=order)
        self._record_while_off()

    def replug(self, spec: MachineSpec) -> None:
        """Disks or cards went in or out: what runs sees it in /sys at once."""
        before = system_tree(self._facts())
        self.change(spec)
        if self._tasks is not None:
            self._files.retell(before, system_tree(self._facts()))
        self._record_while_off()

    def _facts(self) -> MachineFacts:
        return machine_facts(self.spec, self._address, self._cards_at_start)

    @property
    def snapshots(self) -> tuple[str, ...]:
        return tuple(sorted(self._snapshots))

    def snapshot(self, name: str) -> None:
        self._snapshots[name] = copy.deepcopy(self.disks)
        self._record_while_off()

    def revert(self, name: str) -> None:
        """Power off, and the disks hold what they did. Disks that came later are left alone."""
        self.stop()
        self._drawer |= {disk.name: disk for disk in copy.deepcopy(self._snapshots[name])}
        self.disks = [self._drawer.get(disk.name, disk) for disk in self.disks]
        self._record_while_off()

    def _record_while_off(self) -> None:
        """What a machine that runs has become is recorded with its next start or stop."""
        if self.power is Power.OFF:
            self._begin_record()

    def restart(self, reason: str) -> None:
        """A reboot from inside: by the machine's own boot order."""
        self._observe(self.spec.name, "reboot", {"reason": reason})
        self._halt()
        self._boot(self.spec.boot_order)

    @property
    def files(self) -> FileTree:
        """What its running system sees; empty while none runs."""
        return self._files if self._tasks is not None else FileTree({}, {})

    def _halt(self) -> None:
        self._is_held_back = False
        if self._boot_timer is not None:
            self._boot_timer.cancel()
            self._boot_timer = None
        self._booting = None
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            tasks.stop()

    def _boot(self, order: Sequence[BootSource]) -> None:
        """Start from the first source that there is something to start from."""
        self._boots += 1
        boot = next((found for found in map(self._find_boot, order) if found is not None), None)
        if boot is None:
            self._print("No bootable device.")
            self._observe(self.spec.name, "boot", {"source": "none"})
            self._begin_record()
            return
        self._booted_from = boot.source
        self._observe(self.spec.name, "boot", {"source": boot.source})
        span = DISK_BOOT_S if boot.source == "disk" else ISO_BOOT_S
        delay_s = self._entropy.uniform(f"boot/{self._boots}", *span)
        self._booting, self._boot_due_s = boot, self._scheduler.now() + delay_s
        self._boot_timer = self._scheduler.call_at(self._boot_due_s, lambda: self._run(boot), "boot")
        self._begin_record()

    def _find_boot(self, source: BootSource) -> guest.Boot | None:
        """What the firmware finds at a source; None where there is nothing to boot."""
        if source is BootSource.DISK:
            for disk in self.disks:
                if disk.boot_entry is not None:
                    entry, disk.boot_entry = disk.boot_entry, None
                    return guest.Boot("discovery-disk", entry.ignition, entry.command_line)
                if disk.is_bootable and disk.ignition is not None:
                    return guest.Boot("disk", disk.ignition, "ostree=1 ignition.platform.id=metal")
            return None
        if self.media is None:
            return None
        command_line = "BOOT_IMAGE=/images/pxeboot/vmlinuz ignition.firstboot ignition.platform.id=metal"
        return guest.Boot("discovery-iso", self._ignition_of_iso(self.media), command_line)

    def _run(self, boot: guest.Boot) -> None:
        self._boot_timer = None
        if self.power is Power.PAUSED:
            self._is_held_back = True
            return
        self._cards_at_start = frozenset(nic.mac for nic in self.spec.nics)
        files, links = system_tree(self._facts())
        files["/proc/cmdline"] = boot.command_line.encode() + b"\n"
        self._files = FileTree(files, links, self.disks[0] if boot.source == "disk" else None)
        tasks = TaskScheduler(self._perform, self._task_failed, self._at_once)
        self._tasks = tasks
        tasks.start(guest_program(boot), "main")

    # -- the effects of the guest -----------------------------------------------------------------------------------

    def _perform(self, effect: Any, task: str, done: Done | RecordedDone) -> None:
        """Begin an effect that takes time. Answers after the machine went down go nowhere: `done` drops them."""
        kind = type(effect)
        if self._record is not None and isinstance(done, Done):
            if self._replay is not None:
                self._replay.ask(effect, task, done)
                return
            done = self._recorded(self._record, effect, task, done)
        if kind is guest.Http:
            now_s = self._scheduler.now()
            self._scheduler.post_at(now_s + self._delays.of(task, now_s), self._send, (effect, done))
        elif kind is guest.Sleep:
            self._scheduler.post_at(self._scheduler.now() + effect.seconds, done, None)
        elif kind is guest.NextPart:
            PartReader(effect.rest, done, self._scheduler, self._delays, self._hears)
        elif kind is guest.WriteDisk:
            self._write_disk(effect, done)
        elif kind is guest.Reboot:
            self.restart(effect.reason)
        else:
            raise TypeError(f"{task} yielded {effect!r}, which is no effect of labsim.guest.effects")

    def _send(self, pending: tuple[guest.Http, Done | RecordedDone]) -> None:
        effect, done = pending
        host = _host_of(effect.url)
        if not self.has_link:
            lost = guest.ConnectionFailed(f"dial tcp {host}: i/o timeout")
            self._scheduler.post_at(self._scheduler.now() + effect.timeout_s, done, lost)
            return
        addresses = self._addresses_of(host)
        if addresses:
            self._transport(self.spec.name, effect, addresses, done)
        else:
            name_server = gateway_of(self._address)
            done(guest.ConnectionFailed(f"dial tcp: lookup {host} on {name_server}:53: no such host"))

    def _at_once(self, effect: Any, _task: str) -> Any:
        """The answer of an effect that takes no time, or LATER. Raises OSError as the system would."""
        answer = _ANSWERS.get(type(effect))
        return LATER if answer is None else answer(self, effect)

    def _read_file(self, effect: guest.ReadFile) -> bytes:
        data = self._files.read(effect.path)
        if data is None:
            raise FileNotFoundError(2, "No such file or directory", effect.path)
        return data

    def _list_dir(self, effect: guest.ListDir) -> tuple[str, ...]:
        names = self._files.names(effect.path)
        if names is None:
            raise FileNotFoundError(2, "No such file or directory", effect.path)
        return names

    def _read_link(self, effect: guest.ReadLink) -> str:
        target = self._files.target(effect.path)
        if target is None:
            raise FileNotFoundError(2, "No such file or directory", effect.path)
        return target

    def _run_program(self, effect: guest.Run) -> Any:
        raise FileNotFoundError(2, "No such file or directory", effect.argv[0])

    def _random_bytes(self, effect: guest.RandomBytes) -> bytes:
        return self._entropy.bytes(f"random/{effect.purpose}/{self._nth(effect.purpose)}", effect.count)

    def _set_boot_entry(self, effect: guest.SetBootEntry) -> None:
        self.disks[0].boot_entry = BootEntry(ignition_in_initrd(effect.initrd), effect.command_line)

    def _write_disk(self, effect: guest.WriteDisk, done: Done | RecordedDone, begun_s: float | None = None) -> None:
        disk = self._disk(effect.device)
        seconds = self._entropy.uniform(f"write-disk/{self._boots}", *WRITE_DISK_S) / effect.parts

        def written() -> None:
            if not done.wanted:  # the power went away meanwhile
                return
            if self.disk_error:
                done.error(OSError(self.disk_error))
                return
            disk.write_part(effect.part, effect.parts, effect.ignition)
            done()

        begun_s = self._scheduler.now() if begun_s is None else begun_s
        self._scheduler.call_at(begun_s + seconds, written, "guest disk")

    def _disk(self, device: str) -> SimulatedDisk:
        return next((disk for disk in self.disks if device.endswith(f"/{disk.name}")), self.disks[0])

    def _make_csr(self, effect: guest.MakeCsr) -> tuple[str, str]:
        key = derived_key(self._entropy, f"csr/{effect.purpose}/{self._nth(effect.purpose)}")
        request = csr(
            key,
            effect.common_name,
            organizations=effect.organizations,
            dns_names=effect.dns_names,
            ip_addresses=effect.ip_addresses,
        )
        return key_pem(key), request

    def _resolve(self, effect: guest.Resolve) -> tuple[str, ...]:
        return self._addresses_of(effect.name.rstrip("."))

    def _addresses_of(self, name: str) -> tuple[str, ...]:
        """The addresses of a name: from /etc/hosts, or else from the name server of the machine's network."""
        hosts = self._files.read("/etc/hosts")
        found = _hosts_table(hosts).get(name) if hosts else None
        return found or (self._ask_name_server(self.spec.name, name) if self.has_link else ())

    def _ping(self, effect: guest.Ping) -> tuple[float | None, ...]:
        return (PING_MS if self.has_link else None,) * len(effect.addresses)

    def _hears(self) -> bool:
        """Whether anything reaches it."""
        return self.has_link

    # -- going on after the process has ended -------------------------------------------------------------------------

    def resume(self, state: Document, answers: Sequence[Document]) -> None:
        """Be what the machine of an earlier process was: `state` at its last boot, then its program's answers."""
        if self._record is not None:
            self._record.resumed(state, answers)
        resume(self, state, answers)

    def _begin_record(self) -> None:
        if self._record is not None:
            self._record.begins(state_of(self))

    def _recorded(self, record: GuestRecord, effect: Any, task: str, done: Done) -> RecordedDone:
        """A way back that writes down what is answered."""
        if record.is_too_long:  # a later process starts the program anew
            self._boot_due_s = None
            self._begin_record()
        elif _registers(effect) and self._tasks is not None and self._tasks.is_alone:
            # Here a program that has just started would be too: what was before need not be gone through again.
            self._boot_due_s = self._scheduler.now()
            self._begin_record()
        return RecordedDone(record, record.asked(task), done, self._scheduler.now)

    # -- evidence -----------------------------------------------------------------------------------------------------

    def _task_failed(self, task: str, error: BaseException) -> None:
        """A task that nobody joins ended with an error: it shows on the console, and the machine goes on."""
        log.warning("task %s of %s failed", task, self.spec.name, exc_info=error)
        self._print(f"{task}: {type(error).__name__}: {error}")

    def _print(self, text: str) -> None:
        self.console += f"{text}\n".encode()
        if len(self.console) > 200_000:
            del self.console[:100_000]

    def _nth(self, coordinate: str) -> int:
        count = self._counts.get(coordinate, 0)
        self._counts[coordinate] = count + 1
        return count


def _registers(effect: Any) -> bool:
    """Whether it is the agent's registration, with which all that it does begins."""
    return isinstance(effect, guest.Http) and effect.method == "POST" and effect.url.endswith("/hosts")


_Answer = Callable[[SimulatedMachine, Any], Any]
# The effects that take no time. Nothing that the guest could run as a program is there; whoever is asked answers.
_ANSWERS: dict[type, _Answer] = {
    guest.Now: lambda machine, _: machine._clock.now() + machine.skew_s,
    guest.ReadFile: SimulatedMachine._read_file,
    guest.ListDir: SimulatedMachine._list_dir,
    guest.ReadLink: SimulatedMachine._read_link,
    guest.WriteFile: lambda machine, effect: machine._files.write(effect.path, effect.data),
    guest.Run: SimulatedMachine._run_program,
    guest.RandomBytes: SimulatedMachine._random_bytes,
    guest.MakeCsr: SimulatedMachine._make_csr,
    guest.SetBootEntry: SimulatedMachine._set_boot_entry,
    guest.Log: lambda machine, effect: machine._print(f"{effect.unit}: {effect.text}"),
    guest.SystemVersion: lambda machine, _: machine._files.system_version,
    guest.Resolve: SimulatedMachine._resolve,
    guest.Ping: SimulatedMachine._ping,
}


@functools.lru_cache(maxsize=4096)
def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


@functools.lru_cache(maxsize=64)
def _hosts_table(hosts: bytes) -> dict[str, tuple[str, ...]]:
    """Addresses by name, as /etc/hosts has them."""
    table: dict[str, tuple[str, ...]] = {}
    for line in hosts.decode(errors="replace").splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            table[name] = (*table.get(name, ()), address)
    return table
