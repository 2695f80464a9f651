"""Domain and network XML as rendered, and read back."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from labsim.machines.driver import CD_FIRST, DISK_FIRST, BootSource, DiskSpec, MachineSpec, NicSpec
from labsim.machines.libvirt import domain_xml as xml

SPEC = MachineSpec(
    name="worker-0",
    uuid="5b0c1c52-6f0e-4c6c-8f7c-000000000001",
    cpus=2,
    memory_mib=384,
    disks=(
        DiskSpec(name="vda", size_bytes=1 << 30, serial="worker-0-vda"),
        DiskSpec(name="ssd", size_bytes=1 << 30, serial="worker-0-ssd", rotational=False),
    ),
    nics=(NicSpec(mac="52:54:00:00:00:01", subnet="10.0.7.0/24"), NicSpec(mac="52:54:00:00:00:02", network="lab")),
)


def rendered(spec: MachineSpec = SPEC, *, accelerated: bool = False) -> str:
    disks = [Path(f"/labs/one/{disk.name}.raw") for disk in spec.disks]
    return xml.domain_xml(spec, lab="one-1234", disks=disks, console=Path("/labs/one/console"), accelerated=accelerated)


def orders(definition: str) -> dict[str, str]:
    found = {}
    for disk in ET.fromstring(definition).iterfind("./devices/disk"):
        alias, boot = disk.find("alias"), disk.find("boot")
        if alias is not None and boot is not None:
            found[alias.attrib["name"]] = boot.attrib["order"]
    return found


def text_of(root: ET.Element, path: str) -> str:
    return root.findtext(path) or ""


def test_a_domain_is_what_the_spec_says() -> None:
    root = ET.fromstring(rendered())
    assert root.attrib["type"] == "qemu"
    assert text_of(root, "name") == "labsim-one-1234-worker-0"
    assert text_of(root, "uuid") == SPEC.uuid
    assert text_of(root, "memory") == "384"
    assert text_of(root, "vcpu") == "2"
    assert "firmware" not in root.find("os").attrib  # type: ignore[union-attr]
    targets = [disk.find("target").attrib for disk in root.iterfind("./devices/disk")]  # type: ignore[union-attr]
    assert targets == [
        {"dev": "vda", "bus": "virtio"},
        {"dev": "sdb", "bus": "scsi", "rotation_rate": "1"},
        {"dev": "sda", "bus": "scsi"},
    ]
    controllers = [element.attrib for element in root.iterfind("./devices/controller[@type='scsi']")]
    assert controllers == [{"type": "scsi", "index": "0", "model": "virtio-scsi"}]
    places = [element.attrib for element in root.iterfind("./devices/disk/address")]
    assert [(place["controller"], place["target"]) for place in places] == [("0", "1"), ("0", "0")]
    assert [element.text for element in root.iterfind("./devices/disk/serial")] == ["worker-0-vda", "worker-0-ssd"]
    user, network = root.findall("./devices/interface")
    assert user.attrib["type"] == "user"
    assert user.find("ip").attrib == {"family": "ipv4", "address": "10.0.7.0", "prefix": "24"}  # type: ignore[union-attr]
    assert network.find("source").attrib == {"network": "lab"}  # type: ignore[union-attr]
    assert xml.console_of(rendered()) == Path("/labs/one/console")
    assert "sysinfo" not in rendered(), "a board serial would become the host id in place of the UUID"


def test_kvm_and_uefi_are_used_where_they_are_asked_for() -> None:
    root = ET.fromstring(rendered(dataclasses.replace(SPEC, firmware="uefi"), accelerated=True))
    assert root.attrib["type"] == "kvm"
    assert root.find("./features/tcg") is None
    assert root.find("os").attrib["firmware"] == "efi"  # type: ignore[union-attr]


def test_text_is_escaped() -> None:
    spec = dataclasses.replace(SPEC, disks=(DiskSpec(name="vda", size_bytes=512, serial='<&">'),))
    assert ET.fromstring(rendered(spec)).findtext("./devices/disk/serial") == '<&">'


@pytest.mark.parametrize(("order", "expected"), [(DISK_FIRST, ("1", "2")), (CD_FIRST, ("2", "1"))])
def test_the_boot_order_is_the_machines_own_and_a_pick_comes_first(
    order: tuple[BootSource, ...], expected: tuple[str, str]
) -> None:
    definition = rendered(dataclasses.replace(SPEC, boot_order=order))
    assert orders(definition) == {xml.DISK_ALIAS: expected[0], xml.CD_ALIAS: expected[1]}
    assert orders(xml.started_from(definition, BootSource.DISCOVERY_ISO)) == {"ua-disk0": "2", "ua-cd": "1"}
    assert orders(xml.started_from(definition, BootSource.DISK)) == {"ua-disk0": "1", "ua-cd": "2"}


def test_media_goes_into_the_drive_and_out_again() -> None:
    definition = rendered()
    assert xml.media_of(definition) is None
    drive = xml.drive_with_media(definition, Path("/iso/a b.iso"))
    holding = f"<domain><devices>{drive}</devices></domain>"
    assert xml.media_of(holding) == Path("/iso/a b.iso")
    assert xml.media_of(f"<domain><devices>{xml.drive_with_media(holding, None)}</devices></domain>") is None


def test_the_mark_is_read_back_and_nothing_else_is_taken_for_one() -> None:
    metadata = ET.fromstring(rendered()).find("metadata")
    assert metadata is not None
    mark = xml.mark_from(ET.tostring(metadata[0], encoding="unicode"))
    assert mark == xml.Mark(lab="one-1234", name="worker-0", order=DISK_FIRST, spec=xml.digest_of(SPEC))
    for foreign in ("", "<machine/>", '<machine lab="x" name="y" order="tape"/>', "not xml"):
        assert xml.mark_from(foreign) is None


def test_every_part_of_a_spec_counts_in_its_digest() -> None:
    others = [
        dataclasses.replace(SPEC, memory_mib=385),
        dataclasses.replace(SPEC, boot_order=CD_FIRST),
        dataclasses.replace(SPEC, disks=SPEC.disks[:1]),
    ]
    assert len({xml.digest_of(spec) for spec in (SPEC, *others)}) == 4


@pytest.mark.parametrize("wrong", [{"serial": "x" * 21}, {"size_bytes": 0}, {"size_bytes": 513}])
def test_a_disk_that_no_machine_can_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="disk"):
        dataclasses.replace(SPEC.disks[0], **wrong)  # type: ignore[arg-type]


def test_a_network_has_its_gateway_first_and_serves_the_rest() -> None:
    host = xml.NetworkHost(mac="52:54:00:00:00:01", name="worker-0", address="192.168.77.20")
    spec = xml.NetworkSpec(
        name="lab", uuid=SPEC.uuid, bridge="labsim0", subnet="192.168.77.0/24", domain="krnl.es", hosts=(host,)
    )
    root = ET.fromstring(xml.network_xml(spec, lab="one-1234"))
    assert root.find("ip").attrib == {"address": "192.168.77.1", "prefix": "24"}  # type: ignore[union-attr]
    assert root.find("./ip/dhcp/range").attrib == {"start": "192.168.77.2", "end": "192.168.77.254"}  # type: ignore[union-attr]
    assert root.find("./ip/dhcp/host").attrib == {  # type: ignore[union-attr]
        "mac": "52:54:00:00:00:01",
        "name": "worker-0",
        "ip": "192.168.77.20",
    }
    assert root.find("forward") is None
    assert ET.fromstring(xml.network_xml(dataclasses.replace(spec, outgoing=True), lab="x")).find("forward") is not None
    with pytest.raises(ValueError, match="bridge"):
        dataclasses.replace(spec, bridge="a-bridge-with-a-long-name")
