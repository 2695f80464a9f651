"""A lab's own network on a system hypervisor: written down, made, found again by its mark, removed."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import logging
from pathlib import Path
from typing import Any

from labsim.errors import LabError
from labsim.machines.driver import Journal, MachineSpec
from labsim.machines.libvirt.connection import Connection
from labsim.machines.libvirt.host_routes import host_networks
from labsim.machines.libvirt.network_xml import (
    NetworkSpec,
    mark_of_network,
    network_xml,
    next_reservation,
    reservation_xml,
    reserved_addresses,
    subnets_of,
)

log = logging.getLogger(__name__)

NETWORK = "libvirt-network"  # a kind in the ledger


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MarkedNetwork:
    """A network of some lab. folder: the lab's."""

    uri: str
    uuid: str
    name: str
    mark: str
    folder: Path | None


class LabNetwork:
    """The network of one lab, from its making to its removal. mark: the lab's; journal: told before it is made."""

    def __init__(self, spec: NetworkSpec, *, mark: str, journal: Journal, uri: str, is_new: bool = True) -> None:
        self.spec = spec
        self.is_new = is_new  # no earlier process of this lab has made it
        self._mark = mark
        self._journal = journal
        self._uri = uri
        self._connection = Connection(uri)

    def make(self) -> None:
        """Define and start it, where an earlier process of the lab has not. Raises LabError where the hypervisor
        cannot; what was made by then is removed."""
        definition = network_xml(self.spec, lab=self._mark)
        self._connection.call(lambda hypervisor: hypervisor.getLibVersion())  # an unreachable one leaves no line
        detail = {"uri": self._uri, "name": self.spec.name}
        self._journal.intend(NETWORK, self.spec.uuid, mark=self._mark, detail=detail)

        def make(hypervisor: Any) -> None:
            if self.is_new:  # what is there already has the machines' reservations
                hypervisor.networkDefineXML(definition)
            network = hypervisor.networkLookupByUUIDString(self.spec.uuid)
            if not network.isActive():
                network.create()

        try:
            self._connection.call(make)
        except LabError:
            if self.is_new:
                self.remove()
            raise
        self._journal.created(NETWORK, self.spec.uuid)

    def reserve(self, machine: MachineSpec) -> None:
        """Each of the machine's cards in this network keeps its address; the first is served under its name too."""
        if not self.spec.subnet:
            return
        for index, nic in enumerate(entry for entry in machine.nics if entry.network == self.spec.name):
            name = machine.name if index == 0 else f"{machine.name}-{index}"
            self._connection.call(functools.partial(self._reserve, mac=nic.mac, name=name))

    def remove(self) -> None:
        """It is gone. Gone already: quiet."""
        self._connection.call(
            lambda hypervisor: remove_network(self._connection, hypervisor, self.spec.uuid, self._mark)
        )
        self._journal.removed(NETWORK, self.spec.uuid)
        self._connection.close()

    def _reserve(self, hypervisor: Any, *, mac: str, name: str) -> None:
        libvirt = self._connection.libvirt
        network = hypervisor.networkLookupByUUIDString(self.spec.uuid)
        definition = network.XMLDesc()
        if mac.lower() in reserved_addresses(definition):
            return
        try:
            address = next_reservation(definition, self.spec.subnet)
        except ValueError as error:
            raise LabError(
                f"the lab's network is full: {error}", hint="take fewer machines, or a larger lab.network.subnet"
            ) from error
        flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
        command, section = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST
        network.update(command, section, -1, reservation_xml(mac, name, address), flags)


def present_network(uri: str, uuid: str, mark: str) -> str:
    """The definition of a network that an earlier process of the lab has made; "" where there is none."""
    connection = Connection(uri)
    try:
        definitions = connection.call(
            lambda hypervisor: [one.XMLDesc() for one in hypervisor.listAllNetworks() if one.UUIDString() == uuid]
        )
    finally:
        connection.close()
    found = (text for text in definitions if (of := mark_of_network(text)) is not None and of.lab == mark)
    return next(found, "")


def taken_networks(uri: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """What a new network must not overlap: the host's routes, and every network that this hypervisor has defined."""
    connection = Connection(uri)
    try:
        definitions = connection.call(lambda hypervisor: [one.XMLDesc() for one in hypervisor.listAllNetworks()])
    finally:
        connection.close()
    return [*host_networks(), *(subnet for definition in definitions for subnet in subnets_of(definition))]


def marked_networks(uri: str) -> list[MarkedNetwork]:
    """Every network that carries a mark of ours; a session's hypervisor has none. Raises LabError."""
    connection = Connection(uri)
    try:
        return connection.call(lambda hypervisor: _marked(connection, hypervisor, uri))
    finally:
        connection.close()


def _marked(connection: Connection, hypervisor: Any, uri: str) -> list[MarkedNetwork]:
    libvirt = connection.libvirt
    try:
        networks = hypervisor.listAllNetworks()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return []
        raise
    found = []
    for network in networks:
        try:
            mark = mark_of_network(network.XMLDesc())
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
                continue  # gone since it was listed
            raise
        if mark is not None:
            found.append(
                MarkedNetwork(
                    uri=uri, uuid=network.UUIDString(), name=network.name(), mark=mark.lab, folder=mark.folder
                )
            )
    return found


def remove_network(connection: Connection, hypervisor: Any, uuid: str, mark: str) -> None:
    """Stop and undefine the network with this UUID, if it carries the mark. Gone already: quiet."""
    libvirt = connection.libvirt
    try:
        network = hypervisor.networkLookupByUUIDString(uuid)
        found = mark_of_network(network.XMLDesc())
        if found is None or found.lab != mark:
            log.warning("network %s does not carry the mark %s and is left alone", uuid, mark)
            return
        if network.isActive():
            network.destroy()
        network.undefine()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
            raise
