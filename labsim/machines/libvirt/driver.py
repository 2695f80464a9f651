"""Machines as libvirt domains. A domain is the lab's when its metadata carries the lab's mark, never by its name."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from labsim.errors import LabError
from labsim.machines.driver import BootSource, Journal, MachineSpec, MachineView, NoMedia, NoSuchMachine, Power
from labsim.machines.libvirt import domain_xml as xml
from labsim.machines.libvirt.acceleration import Acceleration, find_acceleration
from labsim.machines.libvirt.connection import Connection
from labsim.machines.libvirt.devices import CD_ALIAS, DISK_ALIAS
from labsim.machines.libvirt.errors import from_os
from labsim.machines.libvirt.files import MachineFiles, remove_directory
from labsim.machines.libvirt.networks import NETWORK, LabNetwork, remove_network
from labsim.machines.libvirt.session import SESSION_URI

log = logging.getLogger(__name__)

DOMAIN, DIRECTORY = "libvirt-domain", "machine-directory"  # kinds in the ledger
_SPARE_BOOT_INDEX = 9  # free while two devices change places: QEMU refuses two of one index


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
            accelerated=self._acceleration.kvm,
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
            if graceful and power is Power.ON:
                domain.shutdown()
            else:
                self._cut_power(domain)

        self._connection.call(stop)

    def observe(self, name: str) -> MachineView:
        def observe(hypervisor: Any) -> MachineView:
            domain = self._domain(hypervisor, name)
            mark = self._mark_of(domain)
            if mark is None:
                raise NoSuchMachine(name)
            power, reason = self._power(domain)
            definition = domain.XMLDesc(self._connection.libvirt.VIR_DOMAIN_XML_INACTIVE)
            return MachineView(
                name=name,
                uuid=domain.UUIDString(),
                power=power,
                boot_order=mark.order,
                media=xml.media_of(definition),
                console=xml.console_of(definition),
                reason=reason,
            )

        return self._connection.call(observe)

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

    def close(self) -> None:
        self._connection.close()

    # -- making and starting ------------------------------------------------------------------------------------------

    def _make(self, spec: MachineSpec, definition: str) -> None:
        directory = str(self._files.directory(spec.name))
        self._journal.intend(DIRECTORY, directory, mark=self.mark)
        self._files.make(spec)
        self._journal.created(DIRECTORY, directory)
        detail = {"uri": self._uri, "name": xml.domain_name(self.mark, spec.name)}
        self._journal.intend(DOMAIN, spec.uuid, mark=self.mark, detail=detail)
        self._connection.call(lambda hypervisor: hypervisor.defineXML(definition))
        self._journal.created(DOMAIN, spec.uuid)

    def _change(self, spec: MachineSpec, definition: str) -> None:
        """Define again, with the CD that was in the drive; a running machine sees it at its next start."""
        media = self.observe(spec.name).media
        self._connection.call(lambda hypervisor: hypervisor.defineXML(definition))
        if media is not None and media.is_file():
            self.insert_media(spec.name, media)

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

        device = {BootSource.DISK: DISK_ALIAS, BootSource.DISCOVERY_ISO: CD_ALIAS}
        places = [(device[order[0]], _SPARE_BOOT_INDEX)]
        places += [(device[source], index) for index, source in reversed(list(enumerate(order, start=1)))]
        for alias, index in places:
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

    # -- finding ------------------------------------------------------------------------------------------------------

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


def mark_of(connection: Connection, domain: Any) -> xml.Mark | None:
    """The mark a domain carries; None for everybody else's, and for one that has just gone."""
    libvirt = connection.libvirt
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml.NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        gone = (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
        if error.get_error_code() in gone:
            return None
        raise
    return xml.mark_from(text)


def remove_domain(connection: Connection, hypervisor: Any, uuid: str, mark: str) -> None:
    """Stop and undefine the domain with this UUID, if it carries the mark. Gone already: quiet."""
    libvirt = connection.libvirt
    try:
        domain = hypervisor.lookupByUUIDString(uuid)
        found = mark_of(connection, domain)
        if found is None or found.lab != mark:
            log.warning("domain %s does not carry the mark %s and is left alone", uuid, mark)
            return
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


class LedgerEntry(Protocol):
    """What a remover needs of an entry of the ledger."""

    @property
    def identity(self) -> str: ...
    @property
    def mark(self) -> str: ...
    @property
    def detail(self) -> Any: ...  # a mapping of strings


def removers() -> dict[str, Callable[[LedgerEntry], None]]:
    """How to remove what this driver writes into a ledger, from any process, by identity and mark."""

    def domain(entry: LedgerEntry) -> None:
        connection = Connection(entry.detail.get("uri", SESSION_URI))
        try:
            connection.call(lambda hypervisor: remove_domain(connection, hypervisor, entry.identity, entry.mark))
        finally:
            connection.close()

    def network(entry: LedgerEntry) -> None:
        connection = Connection(entry.detail.get("uri", SESSION_URI))
        try:
            connection.call(lambda hypervisor: remove_network(connection, hypervisor, entry.identity, entry.mark))
        finally:
            connection.close()

    def directory(entry: LedgerEntry) -> None:
        try:
            remove_directory(Path(entry.identity), entry.mark)
        except OSError as error:
            raise from_os(error, f"deleting {entry.identity}") from error

    return {DOMAIN: domain, DIRECTORY: directory, NETWORK: network}
