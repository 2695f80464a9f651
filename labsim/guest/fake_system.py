"""The made-up /sys, /proc and /etc of a simulated machine, from plain parameters.

It holds what the guest reads and nothing else, in the kernel's own formats, so that a simulated machine's inventory
comes out of the same parser as a VM's. The shape is that of a libvirt q35 machine (host-lifecycle section 4).
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import struct

DEFAULT_FLAGS = ("fpu", "avx2", "vmx", "hypervisor")
CD_BYTES = 111_149_056  # a minimal ISO
# What the kernel keeps for itself of 16 GiB, in KiB: measured on the example of host-lifecycle section 4.
KERNEL_KIB, KERNEL_OF_KIB = 784_416, 16_777_216

Files = dict[str, bytes]
Links = dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """A disk. `bus` is virtio, scsi, sata or nvme; `wwn` is "0x" and 16 hexadecimal digits, or ""."""

    name: str
    size_bytes: int
    rotational: bool = True
    serial: str = ""
    bus: str = "virtio"
    wwn: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What a simulated machine is. `nics` are (name, mac, ipv4_cidr, gateway)."""

    uuid: str
    hostname: str
    cpus: int
    memory_mib: int
    disks: tuple[DiskFacts, ...]
    nics: tuple[tuple[str, str, str, str], ...]
    cdrom: bool = True
    cd_bus: str = "sata"
    arch: str = "x86_64"
    uefi: bool = False
    secure_boot: bool = False
    tpm: bool = False
    board_serial: str = ""
    cpu_model: str = "Intel Xeon Processor (Icelake)"
    cpu_mhz: float = 2394.374
    cpu_flags: tuple[str, ...] = DEFAULT_FLAGS
    manufacturer: str = "QEMU"
    product_name: str = "Standard PC (Q35 + ICH9, 2009)"
    command_line: str = ""
    boot_id: str = ""


def system_tree(facts: MachineFacts) -> tuple[Files, Links]:
    """Files by path, and symbolic links by path. Folders follow from the paths."""
    files: Files = {
        "/proc/cpuinfo": _cpuinfo(facts.cpus, facts.cpu_model, facts.cpu_mhz, facts.cpu_flags),
        "/proc/meminfo": _meminfo(facts.memory_mib),
        "/proc/cmdline": facts.command_line.encode() + b"\n",
        "/proc/mounts": b"",
        "/proc/sys/kernel/hostname": facts.hostname.encode() + b"\n",
        "/proc/sys/kernel/arch": facts.arch.encode() + b"\n",
        "/proc/sys/kernel/random/boot_id": facts.boot_id.encode() + b"\n",
        "/sys/class/dmi/id/sys_vendor": facts.manufacturer.encode() + b"\n",
        "/sys/class/dmi/id/product_name": facts.product_name.encode() + b"\n",
        "/sys/class/dmi/id/product_uuid": facts.uuid.encode() + b"\n",
        "/sys/class/dmi/id/board_serial": facts.board_serial.encode() + b"\n",
        "/sys/firmware/dmi/tables/DMI": _dmi_table(facts.memory_mib),
    }
    links: Links = {}
    if facts.uefi:
        files["/sys/firmware/efi/fw_platform_size"] = b"64\n"
        enforced = b"\1" if facts.secure_boot else b"\0"
        files["/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"] = b"\6\0\0\0" + enforced
    if facts.tpm:
        files["/sys/class/tpm/tpm0/tpm_version_major"] = b"2\n"
    _add_gpu(files)
    for index, disk in enumerate(facts.disks):
        _add_disk(files, links, index, disk)
    if facts.cdrom:
        _add_cdrom(files, links, facts.cd_bus)
    for index, nic in enumerate(facts.nics):
        _add_nic(files, links, index, nic[0], nic[1])
    _add_ipv4(files, facts.nics)
    return files, links


# Machines of one size have the same: it is made, and kept, once.
@functools.lru_cache(maxsize=32)
def _cpuinfo(cpus: int, model: str, mhz: float, cpu_flags: tuple[str, ...]) -> bytes:
    flags = " ".join(cpu_flags)
    blocks = [
        f"processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: {model}\n"
        f"cpu MHz\t\t: {mhz:.3f}\nflags\t\t: {flags}\n"
        if number == 0
        else f"processor\t: {number}\n"
        for number in range(cpus)
    ]
    return "\n".join(blocks).encode()


@functools.lru_cache(maxsize=32)
def _meminfo(memory_mib: int) -> bytes:
    installed_kib = memory_mib * 1024
    usable_kib = installed_kib - installed_kib * KERNEL_KIB // KERNEL_OF_KIB
    return f"MemTotal:       {usable_kib} kB\n".encode()


@functools.lru_cache(maxsize=32)
def _dmi_table(memory_mib: int) -> bytes:
    """An SMBIOS table with one memory device."""
    small = memory_mib < 0x7FFF
    device = bytearray(0x28)
    device[0], device[1] = 17, len(device)
    struct.pack_into("<H", device, 0x02, 0x1100)
    struct.pack_into("<H", device, 0x0C, memory_mib if small else 0x7FFF)
    if not small:
        struct.pack_into("<I", device, 0x1C, memory_mib)
    return bytes(device) + b"DIMM 0\0\0" + bytes([127, 4, 0x00, 0x7F]) + b"\0\0"


def _add_gpu(files: Files) -> None:
    root = "/sys/bus/pci/devices/0000:00:01.0"
    files[f"{root}/class"] = b"0x030000\n"
    files[f"{root}/vendor"] = b"0x1af4\n"
    files[f"{root}/device"] = b"0x1050\n"


def _add_disk(files: Files, links: Links, index: int, disk: DiskFacts) -> None:
    root = f"/sys/block/{disk.name}"
    files[f"{root}/size"] = f"{disk.size_bytes // 512}\n".encode()
    files[f"{root}/removable"] = b"0\n"
    files[f"{root}/queue/rotational"] = b"1\n" if disk.rotational else b"0\n"
    _BUSES[disk.bus](files, links, index, disk)


def _add_virtio_disk(files: Files, links: Links, index: int, disk: DiskFacts) -> None:
    """Behind a PCI express port of its own."""
    root = f"/sys/block/{disk.name}"
    slot = f"0000:{index + 4:02x}:00.0"
    links[root] = f"../devices/pci0000:00/0000:00:02.{index + 3}/{slot}/virtio{index + 2}/block/{disk.name}"
    links[f"{root}/device"] = f"../../../virtio{index + 2}"
    files[f"{root}/device/vendor"] = b"0x1af4\n"
    if disk.serial:
        files[f"{root}/serial"] = disk.serial.encode()


def _add_scsi_disk(files: Files, links: Links, index: int, disk: DiskFacts) -> None:
    """One target of the virtio-scsi controller; the CD drive may be its target 0."""
    _add_scsi_device(
        files, links, disk, f"{_SCSI_CONTROLLER}/virtio1/host6/target6:0:{index + 1}", f"6:0:{index + 1}:0"
    )
    files[f"/sys/block/{disk.name}/device/vendor"] = b"QEMU    \n"


def _add_sata_disk(files: Files, links: Links, index: int, disk: DiskFacts) -> None:
    """One port of the chipset's AHCI controller; the CD drive may be on its first."""
    port = index + 1
    _add_scsi_device(files, links, disk, f"{_AHCI}/ata{port + 1}/host{port}/target{port}:0:0", f"{port}:0:0:0")
    files[f"/sys/block/{disk.name}/device/vendor"] = b"ATA     \n"


def _add_scsi_device(files: Files, links: Links, disk: DiskFacts, place: str, hctl: str) -> None:
    root = f"/sys/block/{disk.name}"
    links[root] = f"{place}/{hctl}/block/{disk.name}"
    links[f"{root}/device"] = f"../../../{hctl}"
    files[f"{root}/device/model"] = b"QEMU HARDDISK   \n"
    files[f"{root}/device/vpd_pg80"] = struct.pack(">BBH", 0, 0x80, len(disk.serial)) + disk.serial.encode()
    if disk.wwn:
        files[f"{root}/device/wwid"] = f"naa.{disk.wwn.removeprefix('0x')}\n".encode()


def _add_nvme_disk(files: Files, links: Links, index: int, disk: DiskFacts) -> None:
    root, controller = f"/sys/block/{disk.name}", disk.name[: -len("n1")]
    links[root] = f"../devices/pci0000:00/0000:00:{index + 4:02x}.0/nvme/{controller}/{disk.name}"
    links[f"{root}/device"] = f"../../{controller}"
    files[f"{root}/device/model"] = b"QEMU NVMe Ctrl                          \n"
    files[f"{root}/device/serial"] = disk.serial.ljust(20).encode() + b"\n"
    if disk.wwn:
        files[f"{root}/wwid"] = f"eui.{disk.wwn.removeprefix('0x')}\n".encode()


_AHCI = "../devices/pci0000:00/0000:00:1f.2"
_SCSI_CONTROLLER = "../devices/pci0000:00/0000:00:02.2/0000:03:00.0"
_BUSES = {
    "virtio": _add_virtio_disk,
    "scsi": _add_scsi_disk,
    "sata": _add_sata_disk,
    "nvme": _add_nvme_disk,
}


def _add_cdrom(files: Files, links: Links, bus: str) -> None:
    """The CD drive, with udev's record of it."""
    root = "/sys/block/sr0"
    place = f"{_AHCI}/ata1/host0/target0:0:0/0:0:0:0"
    if bus != "sata":
        place = f"{_SCSI_CONTROLLER}/virtio1/host6/target6:0:0/6:0:0:0"
    links[root] = f"{place}/block/sr0"
    links[f"{root}/device"] = f"../../../{place.rpartition('/')[2]}"
    files[f"{root}/size"] = f"{CD_BYTES // 512}\n".encode()
    files[f"{root}/removable"] = b"1\n"
    files[f"{root}/dev"] = b"11:0\n"
    files[f"{root}/queue/rotational"] = b"1\n"
    files[f"{root}/device/vendor"] = b"QEMU    \n"
    files[f"{root}/device/model"] = b"QEMU DVD-ROM    \n"
    files["/run/udev/data/b11:0"] = b"E:ID_MODEL=QEMU_DVD-ROM\nE:ID_SERIAL_SHORT=QM00001\n"


def _add_nic(files: Files, links: Links, index: int, name: str, mac: str) -> None:
    root = f"/sys/class/net/{name}"
    links[f"{root}/device"] = f"../../../virtio{index}"
    files[f"{root}/address"] = mac.encode() + b"\n"
    files[f"{root}/mtu"] = b"1500\n"
    files[f"{root}/speed"] = b"-1\n"
    files[f"{root}/carrier"] = b"1\n"
    files[f"{root}/flags"] = b"0x1003\n"
    files[f"{root}/device/vendor"] = b"0x1af4\n"
    files[f"{root}/device/device"] = b"0x0001\n"


def _add_ipv4(files: Files, nics: tuple[tuple[str, str, str, str], ...]) -> None:
    """/proc/net/route and /proc/net/fib_trie, for NICs that have an address."""
    routes = ["Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"]
    trie = ["Local:"]
    for index, (name, _, cidr, gateway) in enumerate(nics):
        if not cidr:
            continue
        interface = ipaddress.IPv4Interface(cidr)
        network, metric = interface.network, 100 + index
        if gateway:
            routes.append(f"{name}\t00000000\t{_hex(gateway)}\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0")
        routes.append(
            f"{name}\t{_hex(network.network_address)}\t00000000\t0001\t0\t0\t{metric}\t{_hex(network.netmask)}\t0\t0\t0"
        )
        trie += [f"        |-- {interface.ip}", "           /32 host LOCAL"]
    files["/proc/net/route"] = "\n".join(routes).encode() + b"\n"
    files["/proc/net/fib_trie"] = "\n".join(trie).encode() + b"\n"
    files["/proc/net/if_inet6"] = b""


def _hex(address: str | ipaddress.IPv4Address) -> str:
    """An address as /proc/net/route writes it: little endian."""
    return f"{struct.unpack('<I', ipaddress.IPv4Address(address).packed)[0]:08X}"
