"""Machines as libvirt domains. A domain is the lab's when its metadata carries the lab's mark, never by its name."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labsim.errors import LabError
from labsim.machines.driver import (
    RESUME_FIRST,
    START_FIRST,
    STOP_FIRST,
    BootSource,
    DiskSpec,
    Journal,
    MachineOff,
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
from labsim.machines.libvirt import domain_xml as xml
from labsim.machines.libvirt.acceleration import Acceleration, find_acceleration
from labsim.machines.libvirt.connection import Connection
from labsim.machines.libvirt.domain_removal import DIRECTORY, DOMAIN, mark_of, remove_domain
from labsim.machines.libvirt.events import DomainEvents
from labsim.machines.libvirt.evidence import domain_evidence
from labsim.machines.libvirt.files import MachineFiles, remove_directory
from labsim.machines.libvirt.login import ssh_address
from labsim.machines.libvirt.networks import LabNetwork
from labsim.machines.libvirt.session import SESSION_URI

log = logging.getLogger(__name__)

_SPARE_BOOT_INDEX = 100  # above every place in use


def lab_mark(lab: str, folder: Path) -> str:
    """What tells a lab from every other one on this host, also from one of the same name in another folder."""
    return f"{lab}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


class LibvirtDriver:
    """The machines of one lab on one hypervisor.

    lab: the lab's name, which may be used in another folder at the same time. folder: where the machines' files go.
    journal: told before anything is made. uri: the caller's own session unless another is named; it must be on this
    host, since disks and ISOs are files. network: the lab's own, where its machines have reservations. talk: gets the
    one-line notice when machines have to be emulated.
    """

    name = "libvirt"

    def __init__(
        self,
        *,
        lab: str,
        folder: Path,
        journal: Journal,
        uri: str = SESSION_URI,
        network: LabNetwork | None = None,
        acceleration: Acceleration | None = None,
        talk: Callable[[str], None] = log.info,
    ) -> None:
        self.mark = lab_mark(lab, folder)
        self._journal = journal
        self._uri = uri
        self._network = network
        self._connection = Connection(uri)
        self._events = DomainEvents(uri)
        self._files = MachineFiles(folder, self.mark)
        self._acceleration = acceleration or find_acceleration()
        if self._acceleration.notice:
            talk(self._acceleration.notice)

    # -- the verbs ----------------------------------------------------------------------------------------------------

    def ensure(self, spec: MachineSpec) -> None:
        definition = xml.domain_xml(
            spec,
            lab=self.mark,
            disks=self._files.disks(spec),
            console=self._files.console(spec.name),
            nvram=self._files.nvram(spec.name),
            accelerated=self._acceleration.kvm and spec.arch == platform.machine(),
        )
        known = self._connection.call(lambda hypervisor: self._marked(hypervisor).get(spec.name))
        if known is None:
            # The hypervisor is asked before the first file is made: an unreachable one leaves nothing behind.
            if self._network is not None:
                self._network.reserve(spec)
            self._make(spec, definition)
            return
        uuid, mark = known
        if uuid != spec.uuid:
            raise LabError(f"machine {spec.name!r} has UUID {uuid}, not {spec.uuid}", hint="remove the machine first")
        self._files.make(spec)
        if mark.spec != xml.digest_of(spec):
            self._change(spec, definition)

    def insert_media(self, name: str, iso: Path | None) -> None:
        if iso is not None and not iso.is_file():
            raise LabError(f"there is no ISO {iso}", hint="build it (labsim iso build), or give its right path")
        wanted = None if iso is None else iso.resolve()

        def insert(hypervisor: Any) -> None:
            libvirt, domain = self._connection.libvirt, self._domain(hypervisor, name)
            kept = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            domain.updateDeviceFlags(xml.drive_with_media(kept, wanted), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            if domain.isActive():
                # Its own XML: a start from the CD has another boot order there. A guest that uses its CD locks the
                # tray, and a person would use a paper clip.
                flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE
                domain.updateDeviceFlags(xml.drive_with_media(domain.XMLDesc(), wanted), flags)

        self._connection.call(insert)

    def set_link(self, name: str, up: bool) -> None:
        def set_link(hypervisor: Any) -> None:
            libvirt, domain = self._connection.libvirt, self._domain(hypervisor, name)
            for card in xml.cards_with_link(self._definition(domain), up):
                domain.updateDeviceFlags(card, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            if domain.isActive():
                for card in xml.cards_with_link(domain.XMLDesc(), up):
                    domain.updateDeviceFlags(card, libvirt.VIR_DOMAIN_AFFECT_LIVE)

        self._connection.call(set_link)

    def boot(self, name: str, source: BootSource) -> None:
        def boot(hypervisor: Any) -> None:
            domain = self._domain(hypervisor, name)
            power, _ = self._power(domain)
            if power is Power.PAUSED:
                domain.resume()
            elif power is not Power.ON:
                self._start(hypervisor, domain, name, source)

        self._connection.call(boot)

    def reboot(self, name: str, source: BootSource) -> None:
        def reboot(hypervisor: Any) -> None:
            domain = self._domain(hypervisor, name)
            self._check_media(domain, name, source)  # before the power goes
            self._start(hypervisor, domain, name, source)

        self._connection.call(reboot)

    def stop(self, name: str, graceful: bool = False) -> None:
        def stop(hypervisor: Any) -> None:
            domain = self._domain(hypervisor, name)
            power, _ = self._power(domain)
            if graceful and power is Power.PAUSED:
                raise WrongPower(name, power, "stopped gracefully", RESUME_FIRST)
            if graceful and power is Power.ON:
                domain.shutdown()
            else:
                self._cut_power(domain)

        self._connection.call(stop)

    def reset(self, name: str) -> None:
        self._in_power(name, "reset", (Power.ON,), lambda domain: domain.reset(0))

    def pause(self, name: str) -> None:
        self._in_power(name, "paused", (Power.ON, Power.PAUSED), lambda domain: domain.suspend())

    def resume(self, name: str) -> None:
        self._in_power(name, "resumed", (Power.PAUSED, Power.ON), lambda domain: domain.resume())

    def set_boot_order(self, name: str, order: tuple[BootSource, ...]) -> None:
        def set_order(hypervisor: Any) -> None:
            domain = self._domain(hypervisor, name)
            hypervisor.defineXML(xml.with_boot_order(self._definition(domain), order))
            if domain.isActive():
                self._restore_boot_order(domain, order)

        self._connection.call(set_order)

    def plug(self, name: str, device: DiskSpec | NicSpec) -> None:
        path = self._files.directory(name)
        if isinstance(device, DiskSpec):
            path /= f"{device.name}.raw"

        def plug(hypervisor: Any) -> None:
            domain = self._domain(hypervisor, name)
            check_pluggable(device)
            disks, nics = xml.devices_of(self._definition(domain))
            if (device.name in disks) if isinstance(device, DiskSpec) else (device.mac in nics):
                return
            if isinstance(device, DiskSpec):
                self._files.make_disk(name, device)
            added = xml.new_device(self._definition(domain), device, path)
            domain.attachDeviceFlags(added, self._here_and_later(domain))

        self._connection.call(plug)

    def unplug(self, name: str, device: str) -> None:
        def unplug(hypervisor: Any) -> None:
            libvirt, domain = self._connection.libvirt, self._domain(hypervisor, name)
            kept = xml.device_named(self._definition(domain), device)
            if kept is None:
                raise no_such_device(name, device, self._view(domain, name))
            domain.detachDeviceFlags(kept, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            running = xml.device_named(domain.XMLDesc(), device) if domain.isActive() else None
            if running is not None:
                domain.detachDeviceFlags(running, libvirt.VIR_DOMAIN_AFFECT_LIVE)

        self._connection.call(unplug)

    def snapshot(self, name: str, snapshot: str) -> None:
        power = self.observe(name).power
        check_snapshot_name(snapshot)
        if power is not Power.OFF:
            raise WrongPower(name, power, "kept as a snapshot", STOP_FIRST)
        self._files.keep(name, snapshot)

    def revert(self, name: str, snapshot: str) -> None:
        known = self.observe(name).snapshots
        if snapshot not in known:
            raise NoSuchSnapshot(name, snapshot, known)
        self.stop(name)
        self._files.bring_back(name, snapshot)

    def observe(self, name: str) -> MachineView:
        return self._connection.call(lambda hypervisor: self._view(self._domain(hypervisor, name), name))

    def names(self) -> frozenset[str]:
        return frozenset(self._connection.call(self._marked))

    def remove(self, name: str) -> None:
        directory = self._files.directory(name)
        known = self._connection.call(lambda hypervisor: self._marked(hypervisor).get(name))
        if known is not None:
            uuid = known[0]
            self._connection.call(lambda hypervisor: remove_domain(self._connection, hypervisor, uuid, self.mark))
            self._journal.removed(DOMAIN, uuid)
        if directory.exists():
            remove_directory(directory, self.mark)
            self._journal.removed(DIRECTORY, str(directory))

    def console(self, name: str) -> bytes:
        self._connection.call(lambda hypervisor: self._domain(hypervisor, name))
        return self._files.console_bytes(name)

    def login_address(self, name: str) -> tuple[str, int]:
        def address(hypervisor: Any) -> tuple[str, int]:
            domain = self._domain(hypervisor, name)
            if self._power(domain)[0] is not Power.ON:
                raise MachineOff(name)
            return ssh_address(self._connection.libvirt, domain)

        return self._connection.call(address)

    def evidence(self, name: str) -> Mapping[str, bytes]:
        def evidence(hypervisor: Any) -> dict[str, bytes]:
            domain = self._domain(hypervisor, name)
            events = self._events.of(domain.UUIDString())
            return {"libvirt-events.jsonl": events, **domain_evidence(self._connection, domain)}

        return self._connection.call(evidence)

    def close(self) -> None:
        self._events.close(self._connection.libvirt)
        self._connection.close()

    # -- making and starting ------------------------------------------------------------------------------------------

    def _make(self, spec: MachineSpec, definition: str) -> None:
        directory = str(self._files.directory(spec.name))
        self._journal.intend(DIRECTORY, directory, mark=self.mark)
        self._files.make(spec)
        self._journal.created(DIRECTORY, directory)
        self._events.begin(self._connection.libvirt)
        detail = {"uri": self._uri, "name": xml.domain_name(self.mark, spec.name)}
        self._journal.intend(DOMAIN, spec.uuid, mark=self.mark, detail=detail)
        self._connection.call(lambda hypervisor: hypervisor.defineXML(definition))
        self._journal.created(DOMAIN, spec.uuid)

    def _change(self, spec: MachineSpec, definition: str) -> None:
        """Define again, with the CD and the cables as they were; a running machine sees it at its next start."""
        before = self.observe(spec.name)
        self._connection.call(lambda hypervisor: hypervisor.defineXML(definition))
        if before.media is not None and before.media.is_file():
            self.insert_media(spec.name, before.media)
        if not before.has_link:
            self.set_link(spec.name, False)

    def _start(self, hypervisor: Any, domain: Any, name: str, source: BootSource) -> None:
        """Start from `source` once.

        A domain's boot order is fixed when QEMU starts, and a guest's reboot keeps it. So a pick is a start with
        the picked device first, halted before its first instruction; QEMU is then told the machine's own order, which
        its firmware reads at the next reset. The persistent definition is never changed: a crash here leaves no trace.
        """
        libvirt = self._connection.libvirt
        self._check_media(domain, name, source)
        self._cut_power(domain)
        mark = self._mark_of(domain)
        if mark is None:
            raise NoSuchMachine(name)
        if mark.order[0] is source:
            domain.create()
            return
        picked = xml.started_from(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), source)
        running = hypervisor.createXML(picked, libvirt.VIR_DOMAIN_START_PAUSED)
        try:
            self._restore_boot_order(running, mark.order)
            running.resume()
        except BaseException:
            self._cut_power(running)
            raise

    def _restore_boot_order(self, domain: Any, order: tuple[BootSource, ...]) -> None:
        import libvirt_qemu

        wanted = xml.places_of(domain.XMLDesc(), order)
        # QEMU refuses two of one index, so all of them make way first.
        steps = [(alias, _SPARE_BOOT_INDEX + place) for alias, place in wanted.items()]
        for alias, index in (*steps, *wanted.items()):
            arguments = {"path": f"/machine/peripheral/{alias}", "property": "bootindex", "value": index}
            command = json.dumps({"execute": "qom-set", "arguments": arguments})
            answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, command, 0))
            if "error" in answer:
                raise LabError(
                    f"QEMU does not take a boot order: {answer['error'].get('desc', answer)}",
                    hint="QEMU 6 or newer is needed",
                )

    def _check_media(self, domain: Any, name: str, source: BootSource) -> None:
        definition = domain.XMLDesc(self._connection.libvirt.VIR_DOMAIN_XML_INACTIVE)
        if source is BootSource.DISCOVERY_ISO and xml.media_of(definition) is None:
            raise NoMedia(name)

    def _cut_power(self, domain: Any) -> None:
        libvirt = self._connection.libvirt
        if not domain.isActive():
            return
        try:
            domain.destroy()
        except libvirt.libvirtError:
            if domain.isActive():  # it may have gone off by itself in between, which is what was wanted
                raise

    def _in_power(self, name: str, verb: str, fitting: tuple[Power, ...], act: Callable[[Any], object]) -> None:
        """Do `act` in the first power state of `fitting`; in the others of it there is nothing to do."""

        def carry_out(hypervisor: Any) -> None:
            domain = self._domain(hypervisor, name)
            power, _ = self._power(domain)
            if power not in fitting:
                raise WrongPower(name, power, verb, RESUME_FIRST if power is Power.PAUSED else START_FIRST)
            if power is fitting[0]:
                act(domain)

        self._connection.call(carry_out)

    # -- finding ------------------------------------------------------------------------------------------------------

    def _view(self, domain: Any, name: str) -> MachineView:
        mark = self._mark_of(domain)
        if mark is None:
            raise NoSuchMachine(name)
        power, reason = self._power(domain)
        definition = self._definition(domain)
        disks, nics = xml.devices_of(definition)
        return MachineView(
            name=name,
            uuid=domain.UUIDString(),
            power=power,
            boot_order=mark.order,
            media=xml.media_of(definition),
            console=xml.console_of(definition),
            reason=reason,
            disks=disks,
            nics=nics,
            snapshots=self._files.snapshots(name),
            has_link=xml.has_link(domain.XMLDesc()),
        )

    def _definition(self, domain: Any) -> str:
        """What the machine is at its next start."""
        return str(domain.XMLDesc(self._connection.libvirt.VIR_DOMAIN_XML_INACTIVE))

    def _here_and_later(self, domain: Any) -> int:
        libvirt = self._connection.libvirt
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
        return int(libvirt.VIR_DOMAIN_AFFECT_CONFIG | live)

    def _power(self, domain: Any) -> tuple[Power, str]:
        libvirt = self._connection.libvirt
        state, why = domain.state()
        if state == libvirt.VIR_DOMAIN_CRASHED:
            return Power.CRASHED, "the guest panicked"
        if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
            full = why == libvirt.VIR_DOMAIN_PAUSED_IOERROR
            return Power.PAUSED, "a disk could not be written: the host's disk may be full" if full else ""
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            died = why in (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED)
            return Power.OFF, "its QEMU process ended by itself" if died else ""
        return Power.ON, ""

    def _mark_of(self, domain: Any) -> xml.Mark | None:
        return mark_of(self._connection, domain)

    def _marked(self, hypervisor: Any) -> dict[str, tuple[str, xml.Mark]]:
        """name -> (UUID, mark) of every domain of this lab."""
        found: dict[str, tuple[str, xml.Mark]] = {}
        for domain in hypervisor.listAllDomains():
            mark = self._mark_of(domain)
            if mark is not None and mark.lab == self.mark:
                found[mark.name] = (domain.UUIDString(), mark)
        return found

    def _domain(self, hypervisor: Any, name: str) -> Any:
        known = self._marked(hypervisor).get(name)
        if known is None:
            raise NoSuchMachine(name)
        return hypervisor.lookupByUUIDString(known[0])
