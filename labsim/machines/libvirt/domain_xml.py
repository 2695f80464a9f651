"""Domain XML: rendered from vm-templates/, and read back. Pure: no hypervisor is touched."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import jinja2

from labsim.machines.driver import CD_FIRST, DISK_FIRST, BootSource, DiskSpec, MachineSpec, NicSpec
from labsim.machines.libvirt.devices import (
    CD_ALIAS,
    PlacedDisk,
    boot_places,
    disk_in_boot_order,
    placed_disks,
    qemu_arguments,
    with_boot_index,
)
from labsim.machines.templates import template_directory

NAMESPACE = "urn:labsim:machine:1"
METADATA_PREFIX = "labsim"
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
QEMU_ARGUMENT = f"./{{{QEMU_NAMESPACE}}}commandline/{{{QEMU_NAMESPACE}}}arg"
OWN_PORTS, SPARE_PORTS = 2, 4  # of PCI express: the SCSI controller's and the random numbers'; for plugging
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
    # OVMF gives up the whole order for an NVMe disk in it (seen with edk2 2022.11): it starts from the other ones.
    places = boot_places(
        spec.boot_order,
        [f"ua-disk{i}" for i, disk in enumerate(spec.disks) if disk.bus != "nvme" or spec.firmware == "bios"],
    )
    return (
        templates()
        .get_template("domain.xml.j2")
        .render(
            cd_bus=CD_BUSES[spec.cd_bus],
            cd_order=places[CD_ALIAS],
            console=str(console),
            digest=digest_of(spec),
            disks=placed_disks(spec.disks, disks, places),
            domain_name=domain_name(lab, spec.name),
            domain_type="kvm" if accelerated else "qemu",
            lab=lab,
            namespace=NAMESPACE,
            nvram=str(nvram),
            pcie_ports=sum(disk.bus == "virtio" for disk in spec.disks) + len(spec.nics) + OWN_PORTS + SPARE_PORTS,
            order=_words(spec.boot_order),
            qemu_arguments=qemu_arguments(spec, disks, places),
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
    order = CD_FIRST if source is BootSource.DISCOVERY_ISO else DISK_FIRST
    for alias, place in _places(root, order).items():
        element = _device(root, alias)
        boot = element.find("boot") if element is not None else None
        if boot is not None:
            boot.set("order", str(place))
        for argument in root.iterfind(QEMU_ARGUMENT):
            argument.set("value", with_boot_index(argument.get("value", ""), alias, place))
    return ET.tostring(root, encoding="unicode")


def places_of(definition: str, order: tuple[BootSource, ...]) -> dict[str, int]:
    """Where each device of a domain stands in a boot order, by alias."""
    return _places(_parse(definition), order)


def _places(root: ET.Element, order: tuple[BootSource, ...]) -> dict[str, int]:
    disks = [disk_in_boot_order(argument.get("value", "")) for argument in root.iterfind(QEMU_ARGUMENT)]
    for element in root.iterfind("./devices/disk[@device='disk']"):
        alias = element.find("alias")
        if alias is not None and element.find("boot") is not None:
            disks.append(alias.get("name", ""))
    return boot_places(order, sorted(filter(None, disks), key=lambda alias: int(alias.removeprefix("ua-disk"))))


def with_boot_order(definition: str, order: tuple[BootSource, ...]) -> str:
    """The same domain with another boot order of its own, in its mark too."""
    root = _parse(started_from(definition, order[0]))
    mark = root.find(f"./metadata/{{{NAMESPACE}}}machine")
    if mark is not None:
        mark.set("order", _words(order))
    return ET.tostring(root, encoding="unicode")


def _words(order: tuple[BootSource, ...]) -> str:
    return ",".join(source.value for source in order)


def devices_of(definition: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names of disks, MAC addresses of cards). A disk is called as its file is; QEMU's arguments have NVMe ones."""
    root = _parse(definition)
    files = [element.get("file", "") for element in root.iterfind("./devices/disk[@device='disk']/source")]
    for argument in root.iterfind(QEMU_ARGUMENT):
        files += re.findall(r"^if=none,id=drive-disk\d+,file=(.*?),format=", argument.get("value", ""))
    macs = [element.get("address", "") for element in root.iterfind("./devices/interface/mac")]
    return tuple(Path(file).stem for file in files), tuple(macs)


def device_named(definition: str, device: str) -> str | None:
    """The disk of that name or the card of that MAC address, as a device to detach; None where there is none."""
    root = _parse(definition)
    for element in root.iterfind("./devices/disk[@device='disk']"):
        source = element.find("source")
        if source is not None and Path(source.get("file", "")).stem == device:
            return ET.tostring(element, encoding="unicode")
    for element in root.iterfind("./devices/interface"):
        mac = element.find("mac")
        if mac is not None and mac.get("address") == device:
            return ET.tostring(element, encoding="unicode")
    return None


def new_device(definition: str, device: DiskSpec | NicSpec, path: Path) -> str:
    """A disk (its file is `path`) or card to attach to a domain."""
    if isinstance(device, NicSpec):
        return templates().get_template("nic.xml.j2").render(nic=device)
    root = _parse(definition)
    kind = "vd" if device.bus == "virtio" else "sd"
    taken = {element.get("dev") for element in root.iterfind("./devices/disk/target")}
    letter = next(letter for letter in ascii_lowercase if kind + letter not in taken | {"sda"})
    aliases = {element.get("name") for element in root.iterfind("./devices/disk/alias")}
    for argument in root.iterfind(QEMU_ARGUMENT):  # NVMe disks are not among libvirt's
        aliases.update(re.findall(r"id=(ua-disk\d+)", argument.get("value", "")))
    alias = next(name for number in itertools.count(1) if (name := f"ua-disk{number}") not in aliases)
    disk = PlacedDisk(device, str(path), alias, kind + letter, ascii_lowercase.index(letter))
    return templates().get_template("disk.xml.j2").render(disk=disk)


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


def cards_with_link(definition: str, up: bool) -> list[str]:
    """The network cards of a domain as devices to update, with a link or without."""
    cards = _parse(definition).findall("./devices/interface")
    for card in cards:
        link = card.find("link")
        if link is None:
            link = ET.SubElement(card, "link")
        link.set("state", "up" if up else "down")
    return [ET.tostring(card, encoding="unicode") for card in cards]


def has_link(definition: str) -> bool:
    """Whether the network cards have a link. They have it where nothing is said."""
    return _parse(definition).find("./devices/interface/link[@state='down']") is None


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
