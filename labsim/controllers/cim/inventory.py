"""A host's inventory: what the agent reported, as the service stores it, and as the Agent's status shows it.

Source: host-lifecycle section 4, cim-resources 1.3 and 1.7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from labsim.controllers.cim.errors import ServiceError
from labsim.model.objects import Object

STORED_NIC_TYPES = ("physical", "vlan", "bond", "")
ELIGIBLE_DRIVE_TYPES = ("HDD", "SSD", "Multipath", "RAID", "iSCSI", "FC")
MIB = 2**20
_ILLEGAL_LABEL_CHARACTERS = re.compile(r"[^-A-Za-z0-9_.]+")
_LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
LABEL_PREFIX = "inventory.agent-install.openshift.io/"


class Disk:
    """One disk of an inventory, with what the service thinks of it."""

    __slots__ = (
        "bootable",
        "by_path",
        "document",
        "drive_type",
        "eligible",
        "hctl",
        "id",
        "name",
        "path",
        "size_bytes",
    )

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.id = str(document.get("id") or "")
        self.name = str(document.get("name") or "")
        self.path = str(document.get("path") or "")
        self.by_path = str(document.get("by_path") or "")
        self.drive_type = str(document.get("drive_type") or "")
        self.size_bytes = int(document.get("size_bytes") or 0)
        self.hctl = str(document.get("hctl") or "")
        self.bootable = bool(document.get("bootable"))
        self.eligible = bool((document.get("installation_eligibility") or {}).get("eligible"))

    @property
    def preference(self) -> tuple[bool, bool, str, int, str]:
        """Sorts the default installation disk first (host-lifecycle 2.7)."""
        return self.bootable, self.name.startswith("nvme"), self.drive_type, self.size_bytes, self.hctl


class Inventory:
    """A stored inventory. `text` is the document as the service keeps it."""

    __slots__ = (
        "_agent_status",
        "_connectivity_entry",
        "_labels",
        "architecture",
        "cpu_count",
        "cpu_flags",
        "disks",
        "has_default_route",
        "hostname",
        "interfaces",
        "memory_method",
        "physical_bytes",
        "text",
        "truncation",
        "vendor",
    )

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.text = orjson.dumps(document).decode()
        cpu, memory = _mapping(document, "cpu"), _mapping(document, "memory")
        self.hostname = str(document.get("hostname") or "")
        self.cpu_count = int(cpu.get("count") or 0)
        self.cpu_flags = tuple(cpu.get("flags") or ())
        self.architecture = str(cpu.get("architecture") or "")
        self.physical_bytes = int(memory.get("physical_bytes") or 0)
        self.memory_method = str(memory.get("physical_bytes_method") or "")
        self.disks = tuple(Disk(entry) for entry in document.get("disks") or ())
        self.interfaces = tuple(document.get("interfaces") or ())
        self.vendor = _mapping(document, "system_vendor")
        self.truncation = document.get("truncation")
        self.has_default_route = any(
            route.get("gateway") and route.get("destination") in ("0.0.0.0", "::")  # noqa: S104  (no address to bind)
            for route in document.get("routes") or ()
        )
        self._agent_status: Object | None = None
        self._connectivity_entry = ""
        self._labels: dict[str, str] | None = None

    @property
    def eligible_disks(self) -> list[Disk]:
        """Disks to install on, the preferred one first."""
        return sorted((disk for disk in self.disks if disk.eligible), key=lambda disk: disk.preference)

    def disk(self, disk_id: str) -> Disk | None:
        return next((disk for disk in self.disks if disk.id == disk_id), None)

    def addresses(self) -> list[str]:
        """Every address of the host, without prefix lengths."""
        return [
            address.partition("/")[0]
            for nic in self.interfaces
            for address in (*(nic.get("ipv4_addresses") or ()), *(nic.get("ipv6_addresses") or ()))
        ]

    def agent_status(self) -> Object:
        """`.status.inventory` of the Agent. Shared: not to be changed."""
        if self._agent_status is None:
            self._agent_status = _agent_status(orjson.loads(self.text))
        return self._agent_status

    def adopt(self, text: str | None, shown: Object | None) -> None:
        """Let equal copies of `text` and of `agent_status()`, as an Agent holds them, be the only ones."""
        if text is not None and text == self.text:
            self.text = text
        if shown is not None and shown == self._agent_status:
            self._agent_status = shown

    def connectivity_entry(self, host_id: str) -> str:
        """The host's part of the connectivity-check arguments of other hosts, as JSON."""
        if not self._connectivity_entry:
            entry = {"host_id": host_id, "nics": [_nic_addresses(nic) for nic in self.interfaces]}
            self._connectivity_entry = orjson.dumps(entry).decode()
        return self._connectivity_entry

    def labels(self) -> dict[str, str]:
        """The inventory labels of the Agent; values that no label can hold are left out. Shared: not to be changed."""
        if self._labels is None:
            self._labels = self._make_labels()
        return self._labels

    def _make_labels(self) -> dict[str, str]:
        vendor = self.vendor
        found = {
            "storage-hasnonrotationaldisk": _flag(any(disk.drive_type == "SSD" for disk in self.disks)),
            "cpu-architecture": self.architecture,
            "cpu-virtenabled": _flag("vmx" in self.cpu_flags or "svm" in self.cpu_flags),
            "host-manufacturer": str(vendor.get("manufacturer") or ""),
            "host-productname": str(vendor.get("product_name") or ""),
            "host-isvirtual": _flag(bool(vendor.get("virtual"))),
        }
        cleaned = {name: _ILLEGAL_LABEL_CHARACTERS.sub("", value) for name, value in found.items()}
        return {LABEL_PREFIX + name: value for name, value in cleaned.items() if _LABEL_VALUE.match(value)}


def parse_inventory(text: str, minimum_disk_gb: int) -> Inventory:
    """The inventory of a step's output, with eligibility as the service computes it.

    minimum_disk_gb: what a disk must have for the host as it is now. Raises ServiceError 400 where it is no inventory.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, f"failed to decode inventory: {error}") from error
    if not isinstance(document, dict):
        raise ServiceError(400, "failed to decode inventory: it is no object")
    try:
        document["interfaces"] = [
            nic for nic in document.get("interfaces") or [] if nic.get("type", "") in STORED_NIC_TYPES
        ]
        _check_types(document)
        for disk in document.get("disks") or []:
            if not disk.get("id"):
                disk["id"] = disk.get("by_id") or disk.get("by_path") or disk.get("path") or ""
            reasons = not_eligible_reasons(disk, minimum_disk_gb)
            disk["installation_eligibility"] = {"eligible": not reasons, "not_eligible_reasons": reasons or None}
        return Inventory(document)
    except (AttributeError, TypeError, ValueError) as error:
        raise ServiceError(400, f"failed to decode inventory: {error}") from error


def _check_types(document: Mapping[str, Any]) -> None:
    """Raise TypeError for values of other types than upstream's: they are used later, where nobody can be told."""
    for name in ("interfaces", "disks", "gpus", "routes"):
        entries = document.get(name) or []
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise TypeError(f"{name} is no list of objects")
    for nic in document.get("interfaces") or []:
        addresses = [*(nic.get("ipv4_addresses") or ()), *(nic.get("ipv6_addresses") or ())]
        if not all(isinstance(text, str) for text in (nic.get("name", ""), nic.get("mac_address", ""), *addresses)):
            raise TypeError("a name or an address of an interface is no text")
    cpu = _mapping(document, "cpu")
    if not isinstance(cpu.get("flags") or [], list) or not isinstance(cpu.get("frequency") or 0, int | float):
        raise TypeError("cpu has a frequency that is no number, or flags that are no list")


def not_eligible_reasons(disk: Mapping[str, Any], minimum_disk_gb: int) -> list[str]:
    """Why nothing can be installed on a disk; the agent's own reasons are kept, ours are computed anew."""
    own = (disk.get("installation_eligibility") or {}).get("not_eligible_reasons") or []
    reasons = [reason for reason in own if not reason.startswith(("Disk is too small", "Drive type is"))]
    size_gb = int(disk.get("size_bytes") or 0) // 10**9
    if size_gb < minimum_disk_gb:
        reasons.append(f"Disk is too small (disk only has {size_gb} GB, but {minimum_disk_gb} GB are required)")
    drive_type = disk.get("drive_type")
    if drive_type not in ELIGIBLE_DRIVE_TYPES:
        reasons.append(f"Drive type is {drive_type}, it must be one of {', '.join(ELIGIBLE_DRIVE_TYPES)}.")
    return reasons


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _picked(source: Mapping[str, Any], names: Mapping[str, str]) -> Object:
    """The fields of `source` under other names; absent ones are left out, as Go's omitempty does."""
    return {
        target: source[name] for name, target in names.items() if source.get(name) not in (None, "", 0, False, [], {})
    }


def _nic_addresses(nic: Mapping[str, Any]) -> Object:
    addresses = [*(nic.get("ipv4_addresses") or ()), *(nic.get("ipv6_addresses") or ())]
    return {
        "ip_addresses": [address.partition("/")[0] for address in addresses],
        "mac": nic.get("mac_address", ""),
        "name": nic.get("name", ""),
    }


_NIC = {
    "name": "name",
    "mac_address": "macAddress",
    "mtu": "mtu",
    "speed_mbps": "speedMbps",
    "has_carrier": "hasCarrier",
    "vendor": "vendor",
    "product": "product",
    "biosdevname": "biosDevName",
    "client_id": "clientID",
}
_DISK = {
    "name": "name",
    "path": "path",
    "by_path": "byPath",
    "by_id": "byID",
    "drive_type": "driveType",
    "vendor": "vendor",
    "model": "model",
    "serial": "serial",
    "wwn": "wwn",
    "hctl": "hctl",
    "size_bytes": "sizeBytes",
    "bootable": "bootable",
    "smart": "smart",
}
_GPU = {"address": "address", "device_id": "deviceID", "name": "name", "vendor": "vendor", "vendor_id": "vendorID"}


def _agent_status(document: Mapping[str, Any]) -> Object:
    cpu, boot = _mapping(document, "cpu"), _mapping(document, "boot")
    status = _picked(document, {"hostname": "hostname", "bmc_address": "bmcAddress", "bmc_v6address": "bmcV6Address"})
    status["memory"] = _picked(
        _mapping(document, "memory"), {"physical_bytes": "physicalBytes", "usable_bytes": "usableBytes"}
    )
    status["cpu"] = _picked(
        cpu, {"count": "count", "flags": "flags", "model_name": "modelName", "architecture": "architecture"}
    )
    if cpu.get("frequency"):
        status["cpu"]["clockMegahertz"] = int(cpu["frequency"])
    status["interfaces"] = [
        {
            **_picked(nic, _NIC),
            "flags": nic.get("flags") or [],
            "ipV4Addresses": nic.get("ipv4_addresses") or [],
            "ipV6Addresses": nic.get("ipv6_addresses") or [],
        }
        for nic in document.get("interfaces") or ()
    ]
    status["disks"] = [_disk_status(disk) for disk in document.get("disks") or ()]
    status["boot"] = _picked(
        boot,
        {"current_boot_mode": "currentBootMode", "pxe_interface": "pxeInterface", "device_type": "deviceType"},
    )
    status["systemVendor"] = _picked(
        _mapping(document, "system_vendor"),
        {
            "manufacturer": "manufacturer",
            "product_name": "productName",
            "serial_number": "serialNumber",
            "virtual": "virtual",
        },
    )
    if document.get("gpus"):
        status["gpus"] = [_picked(gpu, _GPU) for gpu in document["gpus"]]
    return status


def _disk_status(disk: Mapping[str, Any]) -> Object:
    eligibility = _mapping(disk, "installation_eligibility")
    shown = {"id": disk["id"], **_picked(disk, _DISK)}
    shown["installationEligibility"] = {
        **({"eligible": True} if eligibility.get("eligible") else {}),
        "notEligibleReasons": eligibility.get("not_eligible_reasons") or [],
    }
    duration = _mapping(disk, "io_perf").get("sync_duration")
    if duration:
        shown["ioPerf"] = {"syncDurationMilliseconds": duration}
    return shown
