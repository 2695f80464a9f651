"""The inventory: the complete example of the fact sheet, and what real systems look like."""

from __future__ import annotations

import dataclasses
import json
import struct

import pytest
from guest_carrier import FACTS, Carrier, answer, run_alone

from labsim.guest.fake_system import DiskFacts
from labsim.guest.host_id import host_id, read_host_id
from labsim.guest.inventory import read_inventory
from labsim.guest.inventory_disks import device_path, path_id
from labsim.guest.inventory_hardware import memory_in_dmi
from labsim.guest.inventory_network import addresses_by_interface

# host-lifecycle section 4, "Complete example"
EXAMPLE = r"""
{"hostname":"lab-worker-0","bmc_address":"0.0.0.0","bmc_v6address":"::/0","tpm_version":"none",
 "boot":{"current_boot_mode":"bios","device_type":"ephemeral","secure_boot_state":"NotSupported",
  "command_line":"BOOT_IMAGE=/images/pxeboot/vmlinuz ignition.firstboot ignition.platform.id=metal coreos.live.rootfs_url=https://images.example.com/boot-artifacts/rootfs?arch=x86_64&version=4.18\n"},
 "cpu":{"architecture":"x86_64","count":8,"frequency":2394.374,"model_name":"Intel Xeon Processor (Icelake)","flags":["fpu","avx2","vmx","hypervisor"]},
 "memory":{"physical_bytes":17179869184,"physical_bytes_method":"dmidecode","usable_bytes":16376627200},
 "system_vendor":{"manufacturer":"QEMU","product_name":"Standard PC (Q35 + ICH9, 2009)","virtual":true},
 "gpus":[{"address":"0000:00:01.0","vendor":"Red Hat, Inc.","vendor_id":"1af4","device_id":"1050","name":"Virtio 1.0 GPU"}],
 "disks":[
  {"id":"/dev/disk/by-path/pci-0000:04:00.0","name":"vda","path":"/dev/vda","by_path":"/dev/disk/by-path/pci-0000:04:00.0","drive_type":"HDD","vendor":"0x1af4","size_bytes":128849018880,"installation_eligibility":{"eligible":true,"not_eligible_reasons":null}},
  {"id":"/dev/disk/by-path/pci-0000:00:1f.2-ata-1","name":"sr0","path":"/dev/sr0","by_path":"/dev/disk/by-path/pci-0000:00:1f.2-ata-1","hctl":"0:0:0:0","drive_type":"ODD","vendor":"QEMU","model":"QEMU_DVD-ROM","serial":"QM00001","size_bytes":111149056,"removable":true,"is_installation_media":true,"installation_eligibility":{"eligible":true,"not_eligible_reasons":null}}],
 "interfaces":[
  {"name":"enp1s0","type":"physical","mac_address":"52:54:00:aa:bb:01","mtu":1500,"speed_mbps":-1,"has_carrier":true,"vendor":"0x1af4","product":"0x0001","flags":["up","broadcast","multicast","running"],"ipv4_addresses":["192.168.126.21/24"],"ipv6_addresses":[]}],
 "routes":[
  {"interface":"enp1s0","destination":"0.0.0.0","gateway":"192.168.126.1","family":2,"metric":100},
  {"interface":"enp1s0","destination":"192.168.126.0","family":2,"metric":100}]}
"""  # noqa: E501

COMMAND_LINE = (
    "BOOT_IMAGE=/images/pxeboot/vmlinuz ignition.firstboot ignition.platform.id=metal "
    "coreos.live.rootfs_url=https://images.example.com/boot-artifacts/rootfs?arch=x86_64&version=4.18"
)


def machine(**changes: object) -> Carrier:
    return Carrier(lambda _request: answer(404), dataclasses.replace(FACTS, **changes))  # type: ignore[arg-type]


def test_the_made_up_system_gives_exactly_the_sheets_example() -> None:
    inventory = run_alone(read_inventory(media="discovery-iso"), machine(command_line=COMMAND_LINE))
    assert inventory == json.loads(EXAMPLE)


def test_uefi_machine_with_a_serial_and_no_drive() -> None:
    disk = DiskFacts(name="vda", size_bytes=10**11, rotational=False, serial="DISK7")
    carrier = machine(uefi=True, cdrom=False, disks=(disk,))
    inventory = run_alone(read_inventory(media="discovery-disk"), carrier)
    assert inventory["boot"]["current_boot_mode"] == "uefi"
    assert inventory["boot"]["secure_boot_state"] == "Disabled"
    assert [(disk["serial"], disk["drive_type"]) for disk in inventory["disks"]] == [("DISK7", "SSD")]
    assert "is_installation_media" not in inventory["disks"][0]


@pytest.mark.parametrize("memory_mib", [384, 8192, 32767, 65536])
def test_memory_comes_from_the_firmware_table(memory_mib: int) -> None:
    memory = run_alone(read_inventory(media="disk"), machine(memory_mib=memory_mib))["memory"]
    assert memory["physical_bytes"] == memory_mib * 2**20
    assert memory["physical_bytes_method"] == "dmidecode"
    assert memory["usable_bytes"] < memory["physical_bytes"]


def test_without_a_firmware_table_memory_is_what_the_kernel_says() -> None:
    carrier = machine()
    del carrier.files["/sys/firmware/dmi/tables/DMI"]
    memory = run_alone(read_inventory(media="disk"), carrier)["memory"]
    assert memory["physical_bytes_method"] == "meminfo"
    assert memory["physical_bytes"] == memory["usable_bytes"]


def test_empty_and_truncated_firmware_tables_are_survived() -> None:
    empty_slot = bytes([17, 0x15, 0, 0]) + bytes(8) + struct.pack("<H", 0) + bytes(7) + b"\0\0"
    assert memory_in_dmi(empty_slot) == 0
    assert memory_in_dmi(b"\x11\x28\x00") == 0
    assert memory_in_dmi(b"\x01\x00\x00\x00\x00\x00") == 0


@pytest.mark.parametrize(("hostname", "expected"), [("localhost", "52-54-00-aa-bb-01"), ("n1", "n1")])
def test_a_name_that_says_nothing_becomes_the_dashed_mac(hostname: str, expected: str) -> None:
    assert run_alone(read_inventory(media="disk"), machine(hostname=hostname))["hostname"] == expected


def test_the_configured_name_wins_over_the_kernels() -> None:
    carrier = machine()
    carrier.files["/etc/hostname"] = b"worker-a\n"
    assert run_alone(read_inventory(media="disk"), carrier)["hostname"] == "worker-a"


def test_two_interfaces_their_prefixes_and_loopback() -> None:
    routes = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\n"
        "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
        "eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\n"
    )
    trie = "\n".join(
        f"     |-- {address}\n        /32 host LOCAL" for address in ("10.0.2.15", "127.0.0.1", "192.168.7.9")
    )
    found = addresses_by_interface(f"Main:\n  +-- 0.0.0.0/0 3 0 5\n{trie}\nLocal:\n{trie}\n", routes)
    assert found == {"eth0": ["10.0.2.15/24"], "lo": ["127.0.0.1/8"], "eth1": ["192.168.7.9/16"]}


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("../devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "pci-0000:00:04.0"),
        ("../devices/pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sda", "pci-0000:00:1f.2-ata-2"),
        ("../devices/pci0000:00/0000:00:05.0/virtio3/host6/x/6:0:0:1/block/sdb", "pci-0000:00:05.0-scsi-0:0:0:1"),
        ("../devices/pci0000:00/0000:00:06.0/0000:01:00.0/nvme/nvme0/nvme0n1", "pci-0000:01:00.0-nvme-1"),
        ("../devices/virtual/block/loop0", ""),
    ],
)  # fmt: skip
def test_disk_paths_are_udevs(place: str, expected: str) -> None:
    assert path_id(place) == expected


@pytest.mark.parametrize("name", ["/dev/vda", "/dev/disk/by-path/pci-0000:04:00.0"])
def test_a_disk_is_found_by_path_and_by_id(name: str) -> None:
    assert run_alone(device_path(name), machine()) == "/dev/vda"


def test_host_id_is_the_uuid_of_a_machine_without_board_serial() -> None:
    assert run_alone(read_host_id(), machine(uuid=FACTS.uuid.upper())) == FACTS.uuid


def test_host_id_falls_back_in_the_sheets_order() -> None:
    # MD5 of the serial as given, laid out 8-4-4-4-12
    assert host_id("Ab12", FACTS.uuid, []) == "0fd93394-8249-6975-fb8e-efe5df086a84"
    assert host_id("ab12", FACTS.uuid, []) != host_id("Ab12", FACTS.uuid, [])
    assert host_id("Default String", FACTS.uuid, []) == FACTS.uuid
    assert host_id("", "03000200-0400-0500-0006-000700080009", []) == "deaddead-dead-dead-dead-deaddeaddead"
    by_mac = host_id("None", "not-a-uuid", ["52:54:00:00:00:02", "52:54:00:00:00:01"])
    assert by_mac == host_id("52:54:00:00:00:01", "", [])


def test_each_bus_tells_a_disk_in_its_own_way() -> None:
    disks = (
        DiskFacts(name="sda", size_bytes=10**11, bus="sata", serial="A", wwn="0x5000c50000000001"),
        DiskFacts(name="sdb", size_bytes=10**11, bus="scsi", serial="B", rotational=False),
        DiskFacts(
            name="nvme0n1", size_bytes=10**11, bus="nvme", serial="N", rotational=False, wwn="0x5254000000000001"
        ),
    )
    found = run_alone(read_inventory(media="disk"), machine(disks=disks, cd_bus="virtio"))["disks"]
    shown = [
        {key: disk.get(key) for key in ("id", "hctl", "drive_type", "vendor", "model", "serial")} for disk in found
    ]
    assert shown == [
        {
            "id": "/dev/disk/by-id/nvme-eui.5254000000000001",
            "hctl": None,
            "drive_type": "SSD",
            "vendor": None,
            "model": "QEMU_NVMe_Ctrl",
            "serial": "N",
        },
        {
            "id": "/dev/disk/by-id/wwn-0x5000c50000000001",
            "hctl": "1:0:0:0",
            "drive_type": "HDD",
            "vendor": "ATA",
            "model": "QEMU_HARDDISK",
            "serial": "A",
        },
        {
            "id": "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:2:0",
            "hctl": "6:0:2:0",
            "drive_type": "SSD",
            "vendor": "QEMU",
            "model": "QEMU_HARDDISK",
            "serial": "B",
        },
        {
            "id": "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0",
            "hctl": "6:0:0:0",
            "drive_type": "ODD",
            "vendor": "QEMU",
            "model": "QEMU_DVD-ROM",
            "serial": "QM00001",
        },
    ]
    assert [disk.get("wwn") for disk in found] == ["eui.5254000000000001", "0x5000c50000000001", None, None]
    assert [disk["by_path"] for disk in found[:2]] == [
        "/dev/disk/by-path/pci-0000:00:06.0-nvme-1",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-2",
    ]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, ("bios", "NotSupported", "none")),
        ({"uefi": True}, ("uefi", "Disabled", "none")),
        ({"uefi": True, "secure_boot": True, "tpm": True}, ("uefi", "Enabled", "2.0")),
    ],
    ids=["bios", "uefi", "secure-boot-and-tpm"],
)
def test_firmware_and_tpm_are_told(facts: dict[str, bool], expected: tuple[str, str, str]) -> None:
    inventory = run_alone(read_inventory(media="disk"), machine(**facts))
    boot = inventory["boot"]
    assert (boot["current_boot_mode"], boot["secure_boot_state"], inventory["tpm_version"]) == expected


def test_an_arm_machine_is_called_as_upstream_calls_it() -> None:
    inventory = run_alone(read_inventory(media="disk"), machine(arch="aarch64", uefi=True))
    assert inventory["cpu"]["architecture"] == "arm64"
