"""What a hypervisor knows of a machine, for whoever asks what went wrong: definition, addresses, QEMU's own log."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labsim.machines.libvirt.connection import Connection

LOG_BYTES_MAX = 1 << 20


def domain_evidence(connection: Connection, domain: Any) -> dict[str, bytes]:
    """Files by name. What the hypervisor does not tell is left out, or said in the file's place."""
    libvirt = connection.libvirt
    found: dict[str, bytes] = {}

    def note(name: str, read: Callable[[], bytes]) -> None:
        try:
            found[name] = read()
        except (libvirt.libvirtError, OSError) as error:
            found[name] = f"cannot be read: {error}\n".encode()

    note("domain.xml", lambda: domain.XMLDesc(0).encode())
    note("state.json", lambda: _document(dict(zip(("state", "reason"), domain.state(), strict=True))))
    if domain.isActive():
        note("leases.json", lambda: _document(_addresses(libvirt, domain)))
    log = qemu_log(domain.name(), is_session=urlsplit(domain.connect().getURI()).path == "/session")
    if log.exists():
        note("qemu.log", lambda: log.read_bytes()[-LOG_BYTES_MAX:])
    return found


def _addresses(libvirt: Any, domain: Any) -> Any:
    """By card: what DHCP of libvirt's networks has given, and what this host has heard of."""
    found = {}
    sources = {
        "lease": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        "arp": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
    }
    for name, source in sources.items():
        try:
            found[name] = domain.interfaceAddresses(source)
        except libvirt.libvirtError as error:  # a card in user mode has its address from QEMU, which keeps no lease
            found[name] = str(error)
    return found


def qemu_log(domain: str, *, is_session: bool) -> Path:
    """Where libvirt keeps what QEMU said, with the times of its starts and ends."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") if is_session else Path("/var/log")
    return cache / "libvirt" / "qemu" / ("log" if is_session else "") / f"{domain}.log"


def _document(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n"
