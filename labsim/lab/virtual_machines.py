"""Opens a lab in paced time: with virtual machines under libvirt, or with simulated ones that people look at."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from labsim.edge_time import real_s
from labsim.errors import UsageError, system_errors
from labsim.hub.client import OutsideHub
from labsim.lab.folder import cache_root
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.lab_request import LabRequest
from labsim.lab.names import Addresses
from labsim.lab.opening import OpenLab
from labsim.lab.serving import USER_MODE_HOST, Serving, hosts_of, loopback_addresses
from labsim.machines.driver import USER_NETWORK, MachineDriver
from labsim.machines.libvirt.session import SESSION_URI
from labsim.model.scenario import LabSpec
from labsim.world.pace import RealPace

if TYPE_CHECKING:
    from labsim.machines.libvirt.networks import LabNetwork

DEFAULT_VM_SPEED = 15.0
DEFAULT_EXTERNAL_SPEED = 20.0  # a real controller's poll of 5 s takes 100 s in the lab, within every scenario's limits


def open_with_machines(spec: LabSpec, request: LabRequest, outside: OutsideHub | None = None) -> OpenLab:
    """A lab in paced time with the machines that are asked for. outside: a cluster that is the hub."""
    if request.machines == "libvirt":
        return open_libvirt_lab(spec, request, outside)
    return open_paced_lab(spec, request, outside)


def open_libvirt_lab(spec: LabSpec, request: LabRequest, outside: OutsideHub | None = None) -> OpenLab:
    """A lab of virtual machines. The hypervisor is asked first, then the base ISO is built (or found in the cache),
    and there must be room for the disks: what cannot work is refused before anything is made."""
    from labsim.discovery.bootable import bootable_base_image
    from labsim.discovery.efi import require_efi_loader
    from labsim.discovery.iso_cache import own_file
    from labsim.lab.lab_network import NetworkPlace, addresses_in, make_network
    from labsim.lab.ledger import Ledger
    from labsim.machines.libvirt.driver import LibvirtDriver, lab_mark
    from labsim.machines.libvirt.preflight import Needs, check_hypervisor, check_room

    uri = request.connect or SESSION_URI
    _check_network(spec, uri)
    firmware = {group.firmware for group in spec.machines}
    secure = "uefi-secure" in firmware
    needs = Needs(uefi=bool(firmware - {"bios"}), secure_boot=secure, tpm=any(group.tpm for group in spec.machines))
    check_hypervisor(uri, needs)
    if needs.uefi:
        require_efi_loader(signed=secure)
    request.talk("preparing the bootable base image")
    built = bootable_base_image(cache_root(), needs=_drivers_needed(spec)).path
    check_room(request.folder, built, sum(group.count for group in spec.machines))
    base_iso = request.folder / built.name
    with system_errors(f"writing {base_iso}"):
        request.folder.mkdir(parents=True, exist_ok=True)
        own_file(built, base_iso)  # the cache may be pruned while the lab lives
    journal = Ledger(request.ledger)
    request = request.at_speed(DEFAULT_VM_SPEED)

    mark = lab_mark(request.name, request.folder)
    networks: list[LabNetwork] = []

    def make_driver(lab: Lab) -> MachineDriver:
        network = networks[0] if networks else None
        return LibvirtDriver(
            lab=request.name, folder=request.folder, journal=journal, uri=uri, network=network, talk=request.talk
        )

    def for_machines(options: LabOptions, serving: Serving) -> LabOptions:
        """Virtual machines see this host by another address, and are told how time passes, also while this is away."""
        began_s = options.began_s
        start_s = began_s + (real_s() - began_s) * request.speed
        if spec.network.mode == "user":
            addresses = Addresses(
                hub_ip=USER_MODE_HOST,
                service_port=serving.port,
                load_balancers=(USER_MODE_HOST,),
                name_server=(USER_MODE_HOST, serving.name_server.port),
            )
        else:
            place = NetworkPlace(mark=mark, folder=request.folder, uri=uri)
            networks.append(make_network(spec, place, journal, serving))
            addresses = addresses_in(networks[0].spec, serving)
        return dataclasses.replace(
            options,
            addresses=addresses,
            network=networks[0].spec.name if networks else USER_NETWORK,
            base_iso=base_iso,
            driver=make_driver,
            pace=RealPace(start_s, request.speed),
            start_s=start_s,
            pace_file=json.dumps({"real_epoch_s": began_s, "world_epoch_s": began_s, "speed": request.speed}),
            identity=mark,
        )

    try:
        opened = open_paced_lab(spec, request, outside, adapt=for_machines)
    except BaseException:
        for network in networks:
            if network.is_new:
                network.remove()
        raise
    for network in networks:
        opened.after_lab(network.remove)
    return opened


def _check_network(spec: LabSpec, uri: str) -> None:
    """Refuse what this hypervisor cannot have, before anything is made."""
    if spec.network.mode == "user":
        if spec.dns.stack != "IPv4":
            raise UsageError(
                f"machines in user mode networking have IPv4 only, and lab.dns.stack is {spec.dns.stack}",
                hint="leave lab.dns.stack out, choose lab.network.mode nat, or take simulated machines",
            )
    elif uri.partition("?")[0].endswith("/session"):
        raise UsageError(
            f"a session's hypervisor makes no networks, and lab.network.mode is {spec.network.mode}",
            hint="--connect qemu:///system (needs the rights of its users), or leave lab.network out",
        )


def open_paced_lab(
    spec: LabSpec,
    request: LabRequest,
    outside: OutsideHub | None = None,
    *,
    adapt: Callable[[LabOptions, Serving], LabOptions] = lambda options, serving: options,
) -> OpenLab:
    """A lab whose hub is on a real socket, in real time multiplied by the speed that is asked for. adapt: what the
    machines need otherwise."""
    state = request.state
    kept = None if state is None else state.kept
    serving = Serving(request.port, hosts_of(spec.dns.stack), kept=None if state is None else state.serving)
    try:
        began_s = real_s() if state is None else state.began_s
        start_s = began_s if kept is None else kept.now_s
        options = dataclasses.replace(
            LabOptions.of(request),
            pace=RealPace(start_s, request.speed),
            start_s=start_s,
            began_s=began_s,
            durability=None if state is None else state.durability(serving.identity(), began_s),
            kept=kept,
            addresses=loopback_addresses(serving),
            port_is_free=serving.node_ports.hold,
            ca_pem=serving.authority.ca_pem,
            hub=outside,
        )
        lab = Lab(spec, adapt(options, serving))
        serving.attach(lab)
    except BaseException:
        serving.close()
        raise
    return OpenLab(lab, [serving.close], serving)


def _drivers_needed(spec: LabSpec) -> tuple[str, ...]:
    """Drivers that not every kernel has, without which a guest of this lab would not see one of its drives."""
    buses = {bus for group in spec.machines for bus in (group.cd, *(disk.bus for disk in group.all_disks()))}
    return ("ahci",) if "sata" in buses else ()
