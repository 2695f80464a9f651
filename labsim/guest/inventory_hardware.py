"""Processor, memory, boot, TPM, vendor and graphics of a machine, out of /proc and /sys."""

from __future__ import annotations

import struct
from typing import Any

from labsim.guest.effects import ListDir, ReadFile, Task, read_text

SECURE_BOOT_VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
VIRTUAL_VENDORS = ("qemu", "red hat", "kvm", "vmware", "xen", "innotek", "microsoft corporation", "openstack")
MEMORY_DEVICE = 17  # SMBIOS structure type
END_OF_TABLE = 127
PCI_NAMES = {  # what pci.ids says of the display adapters that hypervisors have
    "1013": ("Cirrus Logic", {"00b8": "GD 5446"}),
    "1234": ("", {"1111": "QEMU Virtual Video Controller"}),
    "15ad": ("VMware", {"0405": "SVGA II Adapter"}),
    "1af4": ("Red Hat, Inc.", {"1050": "Virtio 1.0 GPU"}),
    "1b36": ("Red Hat, Inc.", {"0100": "QXL paravirtual graphic card"}),
}


def read_cpu() -> Task[dict[str, Any]]:
    """Architecture, number of logical processors, frequency in MHz, model and flags."""
    text = yield from read_text("/proc/cpuinfo", "")
    fields: dict[str, str] = {}
    count = 0
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key = key.strip()
        if key == "processor":
            count += 1
        fields.setdefault(key, value.strip())
    architecture = yield from read_text("/proc/sys/kernel/arch", "")
    if not architecture:
        architecture = "aarch64" if "CPU implementer" in fields else "x86_64"
    fastest = yield from read_text("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "")
    megahertz = int(fastest) / 1000 if fastest.isdigit() else float(fields.get("cpu MHz") or 0)
    return {
        "architecture": "arm64" if architecture == "aarch64" else architecture,
        "count": count,
        "frequency": megahertz,
        "model_name": fields.get("model name", ""),
        "flags": (fields.get("flags") or fields.get("Features") or "").split(),
    }


def read_memory() -> Task[dict[str, Any]]:
    """Physical memory from the firmware's table (as dmidecode), else from the kernel's; and what Linux may use."""
    text = yield from read_text("/proc/meminfo", "")
    total = 0
    for line in text.splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    try:
        table: bytes = yield ReadFile("/sys/firmware/dmi/tables/DMI")
    except OSError:
        table = b""
    installed = memory_in_dmi(table)
    method = "dmidecode"
    if not installed:
        installed, method = total, "meminfo"
    return {"physical_bytes": installed, "physical_bytes_method": method, "usable_bytes": total}


def memory_in_dmi(table: bytes) -> int:
    """The sum of all memory devices in a raw SMBIOS table, in bytes; 0 where it has none."""
    total = 0
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        if length < 4 or kind == END_OF_TABLE:
            break
        if kind == MEMORY_DEVICE and length >= 0x0E:
            total += _device_bytes(table[at : at + length])
        end = table.find(b"\0\0", at + length)
        if end < 0:
            break
        at = end + 2
    return total


def _device_bytes(entry: bytes) -> int:
    (size,) = struct.unpack_from("<H", entry, 0x0C)
    if size in (0, 0xFFFF):  # empty slot, unknown
        return 0
    if size == 0x7FFF and len(entry) >= 0x20:
        (extended,) = struct.unpack_from("<I", entry, 0x1C)
        return int(extended & 0x7FFFFFFF) << 20
    return int(size & 0x7FFF) << (10 if size & 0x8000 else 20)


def read_boot(*, ephemeral: bool) -> Task[dict[str, Any]]:
    """How the machine started; `ephemeral` where it runs from live media."""
    try:
        yield ListDir("/sys/firmware/efi")
        mode = "uefi"
    except OSError:
        mode = "bios"
    secure = "NotSupported"
    if mode == "uefi":
        try:
            variable: bytes = yield ReadFile(SECURE_BOOT_VARIABLE)
            secure = "Enabled" if variable[-1:] == b"\1" else "Disabled"
        except OSError:
            secure = "Unknown"
    try:
        command_line = (yield ReadFile("/proc/cmdline")).decode(errors="replace")
    except OSError:
        command_line = ""
    return {
        "current_boot_mode": mode,
        "device_type": "ephemeral" if ephemeral else "persistent",
        "secure_boot_state": secure,
        "command_line": command_line,
    }


def read_tpm() -> Task[str]:
    major = yield from read_text("/sys/class/tpm/tpm0/tpm_version_major", "")
    return {"1": "1.2", "2": "2.0"}.get(major, "none")


def read_system_vendor(cpu_flags: list[str]) -> Task[dict[str, Any]]:
    """What the firmware says of who made the machine; virtual where the processor or the vendor says so."""
    manufacturer = yield from read_text("/sys/class/dmi/id/sys_vendor", "")
    product = yield from read_text("/sys/class/dmi/id/product_name", "")
    serial = yield from read_text("/sys/class/dmi/id/product_serial", "")
    vendor: dict[str, Any] = {"manufacturer": manufacturer, "product_name": product}
    if serial and serial.lower() not in ("not specified", "none"):
        vendor["serial_number"] = serial
    if "hypervisor" in cpu_flags or manufacturer.lower().startswith(VIRTUAL_VENDORS):
        vendor["virtual"] = True
    return vendor


def read_gpus() -> Task[list[dict[str, Any]]]:
    """Display controllers on the PCI bus."""
    root = "/sys/bus/pci/devices"
    try:
        addresses: tuple[str, ...] = yield ListDir(root)
    except OSError:
        return []
    gpus: list[dict[str, Any]] = []
    for address in addresses:
        if not (yield from read_text(f"{root}/{address}/class", "")).startswith("0x03"):
            continue
        vendor_id = (yield from read_text(f"{root}/{address}/vendor", "")).removeprefix("0x")
        device_id = (yield from read_text(f"{root}/{address}/device", "")).removeprefix("0x")
        vendor, names = PCI_NAMES.get(vendor_id, ("", {}))
        gpu = {"address": address, "vendor": vendor, "vendor_id": vendor_id, "device_id": device_id}
        gpu["name"] = names.get(device_id, "")
        gpus.append({key: value for key, value in gpu.items() if value})
    return gpus
