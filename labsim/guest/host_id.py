"""The host id, which becomes the Agent's name. Source: host-lifecycle 1.7."""

from __future__ import annotations

import hashlib
import re

from labsim.guest.effects import ListDir, Task, read_text

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NO_SERIALS = frozenset(
    {
        "",
        "unknown",
        "none",
        "(none)",
        "-",
        "unspecified base board serial number",
        "unspecified system serial number",
        "default string",
        "not specified",
        "pca_number.acc",
    }
)
NO_UUIDS = frozenset({"unknown", "00000000-0000-0000-0000-000000000000", "03000200-0400-0500-0006-000700080009"})
LAST_RESORT = "deaddead-dead-dead-dead-deaddeaddead"


def _digest(text: str) -> str:
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def host_id(board_serial: str, product_uuid: str, macs: list[str]) -> str:
    """The id of a host with these DMI values and MAC addresses."""
    if board_serial.lower() not in NO_SERIALS:
        return _digest(board_serial)
    uuid = product_uuid.lower()
    if UUID.fullmatch(uuid) and uuid not in NO_UUIDS:
        return uuid
    return _digest(min(macs)) if macs else LAST_RESORT


def read_host_id() -> Task[str]:
    board_serial = yield from read_text("/sys/class/dmi/id/board_serial", "")
    product_uuid = yield from read_text("/sys/class/dmi/id/product_uuid", "")
    macs: list[str] = []
    try:
        names: tuple[str, ...] = yield ListDir("/sys/class/net")
    except OSError:
        names = ()
    for name in names:
        mac = yield from read_text(f"/sys/class/net/{name}/address", "")
        if mac and mac != "00:00:00:00:00:00":
            macs.append(mac)
    return host_id(board_serial, product_uuid, macs)
