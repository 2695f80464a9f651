"""Domain and network XML as rendered, and read back."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from labsim.machines.driver import CD_FIRST, DISK_FIRST, BootSource, DiskSpec, Firmware, MachineSpec, NicSpec
from labsim.machines.libvirt import domain_xml as xml
from labsim.machines.libvirt.devices import CD_ALIAS

SPEC = MachineSpec(
    name="worker-0",
    uuid="5b0c1c52-6f0e-4c6c-8f7c-000000000001",
    cpus=2,
    memory_mib=384,
    disks=(
        DiskSpec(name="vda", size_bytes=1 << 30, serial="worker-0-vda"),
        DiskSpec(name="ssd", size_bytes=1 << 30, serial="worker-0-ssd", rotational=False, bus="scsi"),
    ),
    nics=(NicSpec(mac="52:54:00:00:00:01", subnet="10.0.7.0/24"), NicSpec(mac="52:54:00:00:00:02", network="lab")),
)


def rendered(spec: MachineSpec = SPEC, *, accelerated: bool = False) -> str:
    disks = [Path(f"/labs/one/{disk.name}.raw") for disk in spec.disks]
    console, nvram = Path("/labs/one/console"), Path("/labs/one/nvram.fd")
    return xml.domain_xml(spec, lab="one-1234", disks=disks, console=console, nvram=nvram, accelerated=accelerated)


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
    assert root.findtext("./os/nvram") == "/labs/one/nvram.fd", "among the machine's own files, which go with it"
    assert root.find("./devices/tpm") is None


@pytest.mark.parametrize(("firmware", "enforced"), [("uefi", "no"), ("uefi-secure", "yes")])
def test_secure_boot_is_a_feature_of_the_firmware_that_is_chosen(firmware: Firmware, enforced: str) -> None:
    root = ET.fromstring(rendered(dataclasses.replace(SPEC, firmware=firmware, tpm=True)))
    features = {found.attrib["name"]: found.attrib["enabled"] for found in root.iterfind("./os/firmware/feature")}
    assert features == {"secure-boot": enforced, "enrolled-keys": enforced}
    assert (root.find("./features/smm") is not None) == (enforced == "yes")
    assert root.find("./devices/tpm/backend").attrib == {"type": "emulator", "version": "2.0"}  # type: ignore[union-attr]


def test_text_is_escaped() -> None:
    spec = dataclasses.replace(SPEC, disks=(DiskSpec(name="vda", size_bytes=512, serial='<&">'),))
    assert ET.fromstring(rendered(spec)).findtext("./devices/disk/serial") == '<&">'


@pytest.mark.parametrize(("order", "expected"), [(DISK_FIRST, ("1", "2", "3")), (CD_FIRST, ("2", "3", "1"))])
def test_the_boot_order_is_the_machines_own_and_a_pick_comes_first(
    order: tuple[BootSource, ...], expected: tuple[str, str, str]
) -> None:
    definition = rendered(dataclasses.replace(SPEC, boot_order=order))
    assert orders(definition) == dict(zip(("ua-disk0", "ua-disk1", CD_ALIAS), expected, strict=True))
    picked = xml.started_from(definition, BootSource.DISCOVERY_ISO)
    assert orders(picked) == {"ua-disk0": "2", "ua-disk1": "3", "ua-cd": "1"}
    picked = xml.started_from(definition, BootSource.DISK)
    assert orders(picked) == {"ua-disk0": "1", "ua-disk1": "2", "ua-cd": "3"}


def test_a_boot_order_that_is_set_for_good_stands_in_the_mark_too() -> None:
    changed = xml.with_boot_order(rendered(), CD_FIRST)
    assert orders(changed)[CD_ALIAS] == "1"
    metadata = ET.fromstring(changed).find("metadata")
    assert metadata is not None
    mark = xml.mark_from(ET.tostring(metadata[0], encoding="unicode"))
    assert mark is not None
    assert (mark.order, mark.spec) == (CD_FIRST, xml.digest_of(SPEC))


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


EVERY_BUS = dataclasses.replace(
    SPEC,
    disks=(
        DiskSpec(name="nvme0n1", size_bytes=512, serial="N", bus="nvme", rotational=False, wwn="0x5254000000000001"),
        DiskSpec(name="sda", size_bytes=512, serial="A", bus="sata", wwn="0x5000c50000000001"),
        DiskSpec(name="sdb", size_bytes=512, serial="B", bus="scsi", rotational=False),
        DiskSpec(name="vda", size_bytes=512, serial="V"),
    ),
    cd_bus="sata",
)
QEMU_ARGUMENT = f"./{{{xml.QEMU_NAMESPACE}}}commandline/{{{xml.QEMU_NAMESPACE}}}arg"


def arguments(definition: str) -> list[str]:
    return [element.attrib["value"] for element in ET.fromstring(definition).iterfind(QEMU_ARGUMENT)]


def test_each_disk_sits_on_its_bus_with_its_identity() -> None:
    disks = ET.fromstring(rendered(EVERY_BUS)).findall("./devices/disk")
    targets = [disk.find("target").attrib for disk in disks]  # type: ignore[union-attr]
    assert targets == [
        {"dev": "sdb", "bus": "sata"},
        {"dev": "sdc", "bus": "scsi", "rotation_rate": "1"},
        {"dev": "vda", "bus": "virtio"},
        {"dev": "sda", "bus": "sata"},
    ]
    places = [element.attrib for disk in disks for element in disk.iterfind("address")]
    assert [(place["target"], place["unit"]) for place in places] == [("0", "1"), ("2", "0"), ("0", "0")]
    assert [disk.findtext("wwn") for disk in disks] == ["5000c50000000001", None, None, None]
    aliases = [disk.find("alias").attrib["name"] for disk in disks]  # type: ignore[union-attr]
    assert aliases == ["ua-disk1", "ua-disk2", "ua-disk3", CD_ALIAS]


def test_libvirt_cannot_emulate_nvme_so_qemu_is_told_itself() -> None:
    definition = rendered(EVERY_BUS)
    drive, controller, namespace = arguments(definition)[1::2]
    assert drive.startswith("if=none,id=drive-disk0,file=/labs/one/nvme0n1.raw,format=raw")
    assert controller == "nvme,id=nvme0,serial=N,bus=pcie.0,addr=0x8"
    assert namespace.endswith("nsid=1,eui64=0x5254000000000001,bootindex=1")
    assert "id=ua-disk0," in namespace
    assert orders(definition) == {"ua-disk1": "2", "ua-disk2": "3", "ua-disk3": "4", CD_ALIAS: "5"}
    picked = xml.started_from(definition, BootSource.DISCOVERY_ISO)
    assert orders(picked) == {"ua-disk1": "3", "ua-disk2": "4", "ua-disk3": "5", CD_ALIAS: "1"}
    assert arguments(picked)[-1].endswith("bootindex=2")
    assert xml.devices_of(picked)[0] == ("sda", "sdb", "vda", "nvme0n1")


def test_identities_may_be_what_other_machines_have_too() -> None:
    twin = "11111111-2222-3333-4444-555555555555"
    root = ET.fromstring(rendered(dataclasses.replace(SPEC, product_uuid=twin, board_serial="BOARD 7")))
    assert text_of(root, "uuid") == SPEC.uuid, "libvirt tells machines apart by it"
    assert arguments(ET.tostring(root, encoding="unicode")) == ["-smbios", f"type=1,uuid={twin}"]
    assert root.findtext("./sysinfo/baseBoard/entry[@name='serial']") == "BOARD 7"
    assert root.find("./os/smbios").attrib == {"mode": "sysinfo"}  # type: ignore[union-attr]
    assert arguments(rendered()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"wwn": "0x5000c50000000001"}, {"rotational": False}, {"bus": "nvme"}],
    ids=["virtio-wwn", "virtio-ssd", "nvme-that-rotates"],
)
def test_a_disk_does_not_say_what_its_bus_cannot_carry(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"virtio|NVMe"):
        dataclasses.replace(SPEC.disks[0], **wrong)  # type: ignore[arg-type]


def test_a_device_to_plug_in_takes_what_is_free_and_is_found_again() -> None:
    definition = rendered(EVERY_BUS)
    disk = DiskSpec(name="vdb", size_bytes=512, serial="V2")
    added = ET.fromstring(xml.new_device(definition, disk, Path("/labs/one/vdb.raw")))
    assert added.find("target").attrib == {"dev": "vdb", "bus": "virtio"}  # type: ignore[union-attr]
    assert added.find("alias").attrib == {"name": "ua-disk4"}  # type: ignore[union-attr]
    assert added.find("boot") is None
    # Found with a VM: the NVMe disk, here the last, has an alias of QEMU's own.
    last = rendered(dataclasses.replace(EVERY_BUS, disks=(*EVERY_BUS.disks[1:], EVERY_BUS.disks[0])))
    added = ET.fromstring(xml.new_device(last, disk, Path("/labs/one/vdb.raw")))
    assert added.find("alias").attrib == {"name": "ua-disk4"}  # type: ignore[union-attr]
    scsi = dataclasses.replace(disk, name="sdc", bus="scsi")
    added = ET.fromstring(xml.new_device(definition, scsi, Path("/labs/one/sdc.raw")))
    assert added.find("target").attrib["dev"] == "sdd"  # type: ignore[union-attr]
    assert added.find("address").attrib["target"] == "3"  # type: ignore[union-attr]
    card = ET.fromstring(xml.new_device(definition, NicSpec(mac="52:54:00:00:00:09"), Path("/labs/one")))
    assert (card.tag, card.attrib["type"]) == ("interface", "user")
    for device in ("vda", "52:54:00:00:00:02"):
        assert xml.device_named(definition, device) is not None
    for device in ("vdz", "52:54:00:00:00:09"):
        assert xml.device_named(definition, device) is None


def test_an_aarch64_machine_has_the_type_and_firmware_that_there_are_for_it() -> None:
    definition = rendered(dataclasses.replace(SPEC, arch="aarch64", tpm=True))
    root = ET.fromstring(definition)
    assert root.find("./os/type").attrib == {"arch": "aarch64", "machine": "virt"}  # type: ignore[union-attr]
    assert root.find("os").attrib == {"firmware": "efi"}, "there is no BIOS for it"  # type: ignore[union-attr]
    assert root.findtext("./os/nvram") == "/labs/one/nvram.fd"
    features = [element.tag for element in root.find("features")]  # type: ignore[union-attr]
    assert features == ["acpi", "gic", "tcg"]
    assert root.find("./devices/panic") is None
    assert root.find("./devices/tpm").attrib == {"model": "tpm-tis"}  # type: ignore[union-attr]
    assert ET.fromstring(rendered()).find("./os/type").attrib["machine"] == "q35"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        EVERY_BUS,
        dataclasses.replace(SPEC, firmware="uefi-secure", tpm=True, board_serial="B 7", product_uuid=SPEC.uuid),
        dataclasses.replace(SPEC, arch="aarch64", tpm=True),
    ],
    ids=["plain", "every-bus", "secure-boot", "aarch64"],
)
def test_libvirts_own_schema_takes_every_machine(spec: MachineSpec) -> None:
    """Its test driver makes nothing and needs no daemon."""
    libvirt = pytest.importorskip("libvirt", reason="the libvirt binding is not installed")
    connection = libvirt.open("test:///default")
    try:
        domain = connection.defineXMLFlags(rendered(spec), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        assert domain.UUIDString() == SPEC.uuid
        domain.undefine()
    finally:
        connection.close()


def test_under_uefi_an_nvme_disk_is_not_in_the_boot_order() -> None:
    """Found with a machine that came back from its CD: OVMF gave up the whole order for the NVMe disk in it."""
    definition = rendered(dataclasses.replace(EVERY_BUS, firmware="uefi"))
    assert not any("bootindex" in argument for argument in arguments(definition))
    assert orders(definition) == {"ua-disk1": "1", "ua-disk2": "2", "ua-disk3": "3", CD_ALIAS: "4"}
