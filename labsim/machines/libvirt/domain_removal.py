"""Takes away what the driver made, from any process, by mark and ledger: never what is somebody else's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from labsim.machines.libvirt import domain_xml as xml
from labsim.machines.libvirt.connection import Connection
from labsim.machines.libvirt.errors import from_os
from labsim.machines.libvirt.files import remove_directory
from labsim.machines.libvirt.networks import NETWORK, remove_network
from labsim.machines.libvirt.session import SESSION_URI

log = logging.getLogger(__name__)

DOMAIN, DIRECTORY = "libvirt-domain", "machine-directory"  # kinds in the ledger


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
