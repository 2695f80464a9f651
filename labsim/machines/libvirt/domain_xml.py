"""Domain XML: rendered from vm-templates/, and read back. Pure: no hypervisor is touched."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import jinja2

from labsim.machines.driver import BootSource, MachineSpec
from labsim.machines.libvirt.devices import CD_ALIAS, DISK_ALIAS, placed_disks, qemu_arguments, with_boot_index
from labsim.machines.templates import template_directory

NAMESPACE = "urn:labsim:machine:1"
METADATA_PREFIX = "labsim"
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
# By default virtio-scsi, not AHCI: small cloud kernels have no AHCI driver, and the guest must find its CD.
CD_BUSES = {"": "scsi", "virtio": "scsi", "sata": "sata"}
# QEMU's own default is up to 1 GiB of translated code for each machine; this holds a booted Linux with Python.
TCG_CACHE_MIB = 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose a domain is: the lab's mark, the machine's name in it, its own boot order, the digest of its spec."""

    lab: str
    name: str
    order: tuple[BootSource, ...]
    spec: str


@functools.cache
def templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_directory()), autoescape=True, undefined=jinja2.StrictUndefined
    )


def digest_of(spec: MachineSpec) -> str:
    """A short digest of everything that a spec says."""
    return hashlib.sha256(repr(spec).encode()).hexdigest()[:16]


def domain_name(lab: str, machine: str) -> str:
    return f"labsim-{lab}-{machine}"


def domain_xml(
    spec: MachineSpec, *, lab: str, disks: Sequence[Path], console: Path, nvram: Path, accelerated: bool
) -> str:
    """The definition of a machine with an empty CD drive. `disks` are the files of `spec.disks`, in that order; `nvram`
    is where UEFI keeps its variables."""
    place = {source: index + 1 for index, source in enumerate(spec.boot_order)}
    return (
        templates()
        .get_template("domain.xml.j2")
        .render(
            cd_bus=CD_BUSES[spec.cd_bus],
            cd_order=place.get(BootSource.DISCOVERY_ISO, 2),
            console=str(console),
            digest=digest_of(spec),
            disk_order=place.get(BootSource.DISK, 2),
            disks=placed_disks(spec.disks, disks),
            domain_name=domain_name(lab, spec.name),
            domain_type="kvm" if accelerated else "qemu",
            lab=lab,
            namespace=NAMESPACE,
            nvram=str(nvram),
            order=",".join(source.value for source in spec.boot_order),
            qemu_arguments=qemu_arguments(spec, disks, place.get(BootSource.DISK, 2)),
            qemu_namespace=QEMU_NAMESPACE,
            spec=spec,
            tcg_cache_mib=TCG_CACHE_MIB,
        )
    )


def mark_from(metadata: str) -> Mark | None:
    """The mark in a domain's metadata element; None for a domain that carries none of ours, or one we cannot read."""
    try:
        element = ET.fromstring(metadata)  # noqa: S314 - written by the user's own hypervisor
        order = tuple(BootSource(word) for word in element.get("order", "").split(","))
        return Mark(lab=element.attrib["lab"], name=element.attrib["name"], order=order, spec=element.get("spec", ""))
    except (ET.ParseError, KeyError, ValueError):
        return None


def started_from(definition: str, source: BootSource) -> str:
    """The same domain with `source` first: what a pick in the boot menu does to one start."""
    root = _parse(definition)
    for device, of_source in ((CD_ALIAS, BootSource.DISCOVERY_ISO), (DISK_ALIAS, BootSource.DISK)):
        element = _device(root, device)
        boot = element.find("boot") if element is not None else None
        order = 1 if of_source is source else 2
        if boot is not None:
            boot.set("order", str(order))
        for argument in root.iterfind(f"./{{{QEMU_NAMESPACE}}}commandline/{{{QEMU_NAMESPACE}}}arg"):
            argument.set("value", with_boot_index(argument.get("value", ""), device, order))
    return ET.tostring(root, encoding="unicode")


def media_of(definition: str) -> Path | None:
    """The ISO in the CD drive."""
    drive = _device(_parse(definition), CD_ALIAS)
    source = drive.find("source") if drive is not None else None
    file = source.get("file") if source is not None else None
    return Path(file) if file else None


def drive_with_media(definition: str, iso: Path | None) -> str:
    """The CD drive of a domain as a device to update, holding `iso` or nothing."""
    drive = _device(_parse(definition), CD_ALIAS)
    assert drive is not None, "a domain of ours has a CD drive"
    for source in drive.findall("source"):
        drive.remove(source)
    if iso is not None:
        drive.insert(0, ET.Element("source", {"file": str(iso)}))
    return ET.tostring(drive, encoding="unicode")


def console_of(definition: str) -> Path | None:
    """The file that the serial port is written to."""
    source = _parse(definition).find("./devices/serial[@type='file']/source")
    path = source.get("path") if source is not None else None
    return Path(path) if path else None


def _parse(definition: str) -> ET.Element:
    ET.register_namespace(METADATA_PREFIX, NAMESPACE)
    ET.register_namespace("qemu", QEMU_NAMESPACE)
    return ET.fromstring(definition)  # noqa: S314 - written by the user's own hypervisor


def _device(root: ET.Element, alias: str) -> ET.Element | None:
    for element in root.iterfind("./devices/disk"):
        found = element.find("alias")
        if found is not None and found.get("name") == alias:
            return element
    return None
