"""What a simulated machine's guest finds in /sys and /proc, from the machine's specification."""

from __future__ import annotations

from labsim.guest.fake_system import DiskFacts, MachineFacts
from labsim.machines.driver import MachineSpec


def machine_facts(spec: MachineSpec, address: str, addressed: frozenset[str]) -> MachineFacts:
    """`address` is the first card's, with its prefix; `addressed` are the MACs of the cards that have one: DHCP is
    asked when the system starts, so a card that is plugged in later has none."""
    return MachineFacts(
        uuid=spec.product_uuid or spec.uuid,
        board_serial=spec.board_serial,
        cd_bus=spec.cd_bus or "sata",
        arch=spec.arch,
        uefi=spec.firmware != "bios" or spec.arch == "aarch64",
        secure_boot=spec.firmware == "uefi-secure",
        tpm=spec.tpm,
        hostname=spec.name,
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        disks=tuple(
            DiskFacts(
                name=disk.name,
                size_bytes=disk.size_bytes,
                rotational=disk.rotational,
                serial=disk.serial,
                bus=disk.bus,
                wwn=disk.wwn,
            )
            for disk in spec.disks
        ),
        nics=tuple(
            (f"enp{index + 1}s0", nic.mac, *(_address_of_card(address, index) if nic.mac in addressed else ("", "")))
            for index, nic in enumerate(spec.nics)
        ),
    )


def gateway_of(address: str) -> str:
    """The first address of a machine's network, which is its name server as well."""
    return address.split("/")[0].rsplit(".", 1)[0] + ".1"


def _address_of_card(address: str, index: int) -> tuple[str, str]:
    """(address, gateway). Cards beside the first are in networks of their own, without a way out."""
    if index == 0:
        return address, gateway_of(address)
    return f"10.{index}.{address.split('.', 2)[2]}", ""
