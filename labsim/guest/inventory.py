"""The inventory that a host reports: what it is, in the JSON shape of host-lifecycle section 4.

Everything is read from /sys, /proc, /dev and /etc, of a real system and of a simulated machine's made-up tree alike.
"""

from __future__ import annotations

from typing import Any

from labsim.guest.effects import Task, read_text
from labsim.guest.inventory_disks import read_disks
from labsim.guest.inventory_hardware import read_boot, read_cpu, read_gpus, read_memory, read_system_vendor, read_tpm
from labsim.guest.inventory_network import read_interfaces, read_routes

FORBIDDEN_HOSTNAMES = frozenset(
    {
        "",
        "(none)",
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
    }
)


def read_inventory(*, media: str) -> Task[dict[str, Any]]:
    """The whole inventory; `media` is Boot.source."""
    interfaces = yield from read_interfaces()
    cpu = yield from read_cpu()
    return {
        "hostname": usable_hostname((yield from read_hostname()), interfaces),
        "bmc_address": "0.0.0.0",  # noqa: S104  (upstream's text for a host without a BMC)
        "bmc_v6address": "::/0",
        "tpm_version": (yield from read_tpm()),
        "boot": (yield from read_boot(ephemeral=media != "disk")),
        "cpu": cpu,
        "memory": (yield from read_memory()),
        "system_vendor": (yield from read_system_vendor(cpu["flags"])),
        "gpus": (yield from read_gpus()),
        "disks": (yield from read_disks(from_cd=media == "discovery-iso")),
        "interfaces": interfaces,
        "routes": (yield from read_routes()),
    }


def read_hostname() -> Task[str]:
    """The name that the system has been given: its own file's, else the kernel's (DHCP)."""
    configured = yield from read_text("/etc/hostname", "")
    if configured and configured not in FORBIDDEN_HOSTNAMES:
        return configured
    running = yield from read_text("/proc/sys/kernel/hostname", "")
    return running


def usable_hostname(hostname: str, interfaces: list[dict[str, Any]]) -> str:
    """A name that says nothing is replaced by the dashed MAC of the first NIC (by name) with a global address."""
    if hostname not in FORBIDDEN_HOSTNAMES:
        return hostname
    for interface in sorted(interfaces, key=lambda entry: str(entry["name"])):
        if interface["type"] in ("physical", "vlan", "bond") and (
            interface["ipv4_addresses"] or interface["ipv6_addresses"]
        ):
            return str(interface["mac_address"]).replace(":", "-")
    return hostname
