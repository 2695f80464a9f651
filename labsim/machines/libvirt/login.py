"""Where the SSH server of a machine is reached from this host.

In user mode QEMU itself forwards a loopback port: it is asked to when somebody wants it, chooses the port, and the
forward goes with its process, so nothing is left to remove. In a network the machine has an address of its own.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from labsim.errors import LabError

SSH_PORT = 22
LOOPBACK = "127.0.0.1"
_FORWARD = re.compile(rf"TCP\[HOST_FORWARD\]\s+\d+\s+{re.escape(LOOPBACK)}\s+(\d+)\s+\S+\s+{SSH_PORT}\s")
NETWORK_DEVICE = "hostnet0"  # libvirt's name of the first card's network in QEMU


def ssh_address(libvirt: Any, domain: Any) -> tuple[str, int]:
    """Host and port for a machine that is on, by its first card. Raises LabError where this host knows no address."""
    card = ET.fromstring(domain.XMLDesc()).find("./devices/interface")  # noqa: S314 - from the user's own hypervisor
    if card is None or card.get("type") == "user":
        return LOOPBACK, forwarded_port(domain)
    mac = card.find("mac")
    wanted = "" if mac is None else mac.get("address", "").lower()
    for source in (libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP):
        for found in domain.interfaceAddresses(source).values():
            for address in found["addrs"] or () if found["hwaddr"].lower() == wanted else ():
                if address["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4:
                    return str(address["addr"]), SSH_PORT
    raise LabError(
        f"this host knows no address of the machine's card {wanted}", hint="labsim console shows whether it is up"
    )


def forwarded_port(domain: Any) -> int:
    """The loopback port that leads to the machine's SSH port, made where there is none. The machine must be on."""
    port = _port_in(_monitor(domain, "info usernet"))
    if port is None:
        said = _monitor(domain, f"hostfwd_add {NETWORK_DEVICE} tcp:{LOOPBACK}:0-:{SSH_PORT}")
        port = _port_in(_monitor(domain, "info usernet"))
        if port is None:
            raise LabError(
                f"QEMU does not forward a port to the machine: {said.strip() or 'no reason is given'}",
                hint="only a first network card in user mode has a login",
            )
    return port


def _port_in(table: str) -> int | None:
    found = _FORWARD.search(table)
    return None if found is None else int(found[1])


def _monitor(domain: Any, line: str) -> str:
    import libvirt_qemu

    return str(libvirt_qemu.qemuMonitorCommand(domain, line, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP))
