"""Every domain of a hypervisor that carries a mark of ours, whichever lab made it and whatever its name is."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from labsim.machines.libvirt.connection import Connection
from labsim.machines.libvirt.domain_removal import mark_of
from labsim.machines.libvirt.domain_xml import console_of


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MarkedDomain:
    """A domain of some lab. folder: the lab's, by where the machine's console is written. media: the ISO in its
    drive."""

    uri: str
    uuid: str
    name: str
    mark: str
    folder: Path | None
    nvram: Path | None
    media: Path | None


def marked_domains(uri: str) -> list[MarkedDomain]:
    """Raises LabError where the hypervisor cannot be asked."""
    connection = Connection(uri)
    try:
        return connection.call(lambda hypervisor: _marked(connection, hypervisor, uri))
    finally:
        connection.close()


def _marked(connection: Connection, hypervisor: Any, uri: str) -> list[MarkedDomain]:
    libvirt = connection.libvirt
    found = []
    for domain in hypervisor.listAllDomains():
        mark = mark_of(connection, domain)
        if mark is None:
            continue
        try:
            definition = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                continue  # gone since it was listed
            raise
        console = console_of(definition)
        found.append(
            MarkedDomain(
                uri=uri,
                uuid=domain.UUIDString(),
                name=domain.name(),
                mark=mark.lab,
                folder=console.parents[2] if console is not None and len(console.parents) > 2 else None,
                nvram=_path(definition, "./os/nvram"),
                media=_path(definition, "./devices/disk[@device='cdrom']/source", "file"),
            )
        )
    return found


def _path(definition: str, where: str, attribute: str = "") -> Path | None:
    element = ET.fromstring(definition).find(where)  # noqa: S314 - written by the user's own hypervisor
    if element is None:
        return None
    text = element.get(attribute) if attribute else (element.text or element.get("file"))
    return Path(text) if text else None
