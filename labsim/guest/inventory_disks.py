"""The disks of a machine, out of /sys/block and, where udev runs, its database.

A system without udev (a small initramfs) has no /dev/disk links: their names are then derived from the device's place
in /sys, by udev's own rules, so that the same machine has the same disk ids either way.
"""

from __future__ import annotations

import re
from typing import Any

from labsim.guest.effects import ListDir, ReadFile, ReadLink, Task, read_text

SECTOR_BYTES = 512
SKIPPED = ("loop", "ram", "zram", "fd", "dm-", "md", "nbd", "mtdblock")
PCI_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")
NO_MEDIUM_SECTORS = 0x1FFFFF  # what an empty optical drive says of its size


def read_disks(*, from_cd: bool) -> Task[list[dict[str, Any]]]:
    """All disks and optical drives, disks first; `from_cd` where the machine was booted from a CD."""
    mounted = yield from _iso_mounts()
    disks: list[dict[str, Any]] = []
    for name in (yield from _block_names()):
        disk = yield from _read_disk(name)
        optical = disk["drive_type"] == "ODD"
        if disk["path"] in mounted or (from_cd and optical and disk["size_bytes"]):
            disk["is_installation_media"] = True
        disk["installation_eligibility"] = {"eligible": True, "not_eligible_reasons": None}
        disks.append({key: value for key, value in disk.items() if value not in ("", False)})
    disks.sort(key=lambda disk: (disk["drive_type"] == "ODD", disk["name"]))
    return disks


def device_path(device: str) -> Task[str]:
    """/dev/<name> of a disk that is named by its path or by one of its ids; as given where no disk matches."""
    if device.startswith("/dev/") and not device.startswith("/dev/disk/"):
        return device
    for name in (yield from _block_names()):
        disk = yield from _read_disk(name)
        if device in (disk["id"], disk["by_path"], disk["by_id"], name):
            return str(disk["path"])
    return device


def _block_names() -> Task[list[str]]:
    try:
        names: tuple[str, ...] = yield ListDir("/sys/block")
    except OSError:
        return []
    return [name for name in names if not name.startswith(SKIPPED)]


def _iso_mounts() -> Task[set[str]]:
    """Devices that an ISO 9660 file system is mounted from."""
    text = yield from read_text("/proc/mounts", "")
    rows = [line.split() for line in text.splitlines()]
    return {row[0] for row in rows if len(row) > 2 and row[2] == "iso9660"}


def _read_disk(name: str) -> Task[dict[str, Any]]:
    root = f"/sys/block/{name}"
    udev = yield from _udev_properties(root)
    place = yield from _link(root)
    optical = name.startswith("sr")
    sectors = yield from _number(f"{root}/size")
    size_bytes = 0 if optical and sectors == NO_MEDIUM_SECTORS else sectors * SECTOR_BYTES
    place_id = udev.get("ID_PATH") or path_id(place)
    by_path = f"/dev/disk/by-path/{place_id}" if place_id else ""
    wwn = udev.get("ID_WWN_WITH_EXTENSION") or udev.get("ID_WWN") or (yield from _wwn(root))
    by_id = ""
    if wwn.startswith(("0x", "eui.")):  # the links that upstream's agent knows
        by_id = f"/dev/disk/by-id/{'nvme' if wwn.startswith('eui.') else 'wwn'}-{wwn}"
    vendor = yield from read_text(f"{root}/device/vendor", "")
    model = yield from read_text(f"{root}/device/model", "")
    path = f"/dev/{name}"
    return {
        "id": by_id or by_path or path,
        "name": name,
        "path": path,
        "by_path": by_path,
        "by_id": by_id,
        "hctl": _hctl((yield from _link(f"{root}/device"))),
        "drive_type": (yield from _drive_type(name)),
        "vendor": vendor,
        "model": udev.get("ID_MODEL") or "_".join(model.split()),
        "serial": udev.get("ID_SERIAL_SHORT") or (yield from _serial(root)),
        "wwn": wwn,
        "size_bytes": size_bytes,
        "removable": (yield from _number(f"{root}/removable")) == 1,
    }


def _drive_type(name: str) -> Task[str]:
    if name.startswith("sr"):
        return "ODD"
    rotational = yield from _number(f"/sys/block/{name}/queue/rotational")
    return "HDD" if rotational else "SSD"


def _serial(root: str) -> Task[str]:
    """The serial number: an attribute of virtio and NVMe disks, a vital product page of SCSI ones."""
    for attribute in ("serial", "device/serial"):
        serial = yield from read_text(f"{root}/{attribute}", "")
        if serial:
            return serial
    try:
        page: bytes = yield ReadFile(f"{root}/device/vpd_pg80")
    except OSError:
        return ""
    return page[4:].decode(errors="replace").strip("\0 ")


def _wwn(root: str) -> Task[str]:
    """The world wide name as udev writes it, out of what the kernel knows: an NVMe namespace's, or a SCSI device's."""
    namespace = yield from read_text(f"{root}/wwid", "")
    if namespace:
        return namespace
    device = yield from read_text(f"{root}/device/wwid", "")
    return f"0x{device.removeprefix('naa.')}" if device.startswith("naa.") else ""


def _udev_properties(root: str) -> Task[dict[str, str]]:
    """What udev knows of a block device; nothing where udev does not run."""
    number = yield from read_text(f"{root}/dev", "")
    if not number:
        return {}
    text = yield from read_text(f"/run/udev/data/b{number}", "")
    pairs = (line[2:].partition("=") for line in text.splitlines() if line.startswith("E:"))
    return {key: value for key, _, value in pairs}


def _link(path: str) -> Task[str]:
    try:
        target: str = yield ReadLink(path)
    except OSError:
        return ""
    return target


def _number(path: str) -> Task[int]:
    text = yield from read_text(path, "0")
    return int(text) if text.isdigit() else 0


def _hctl(device_link: str) -> str:
    """Host:Channel:Target:Lun, which is the name of a SCSI device in /sys."""
    name = device_link.rsplit("/", 1)[-1]
    return name if re.fullmatch(r"\d+:\d+:\d+:\d+", name) else ""


def path_id(place: str) -> str:
    """udev's persistent path of a block device whose /sys/block link points to `place`; "" where it has none."""
    parts = place.split("/")
    addresses = [part for part in parts if PCI_ADDRESS.fullmatch(part)]
    if not addresses:
        return ""
    base = f"pci-{addresses[-1]}"
    names = {part.rstrip("0123456789"): part for part in parts}
    hctl = next((part for part in parts if re.fullmatch(r"\d+:\d+:\d+:\d+", part)), "")
    if "ata" in names:
        port = names["ata"].removeprefix("ata")
        return f"{base}-ata-{port}"
    if "nvme" in names and parts[-1].startswith("nvme"):
        return f"{base}-nvme-{parts[-1].partition('n')[2].partition('n')[2] or '1'}"
    if "usb" in names and hctl:
        interface = next((part for part in reversed(parts) if re.fullmatch(r"\d+-[\d.]+:\d+\.\d+", part)), "")
        return f"{base}-usb-0:{interface.partition('-')[2]}-scsi-0:0:0:{hctl.rsplit(':', 1)[-1]}"
    if hctl:
        return f"{base}-scsi-0:{hctl.partition(':')[2]}"
    return base
