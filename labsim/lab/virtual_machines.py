"""Opens a lab in paced time: with virtual machines under libvirt, or with simulated ones that people look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO

from labsim.edge_time import real_s
from labsim.hub.client import OutsideHub
from labsim.lab.folder import cache_root
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.names import Addresses
from labsim.lab.opening import OpenLab
from labsim.lab.serving import LOOPBACK, USER_MODE_HOST, Serving, loopback_port_is_free
from labsim.lab.sizes import Sizes
from labsim.machines.driver import MachineDriver
from labsim.machines.libvirt.session import SESSION_URI
from labsim.model.scenario import LabSpec
from labsim.world.pace import RealPace

DEFAULT_VM_SPEED = 15.0
DEFAULT_EXTERNAL_SPEED = 20.0  # a real controller's poll of 5 s takes 100 s in the lab, within every scenario's limits


def open_with_machines(
    machines: str,
    spec: LabSpec,
    *,
    name: str,
    folder: Path,
    ledger: Path,
    sizes: Sizes,
    seed: str,
    speed: float,
    history: IO[bytes] | None = None,
    talk: Callable[[str], None] = lambda text: None,
    connect: str = "",
    port: int = 0,
    hub: OutsideHub | None = None,
) -> OpenLab:
    """A lab in paced time with `simulated` or `libvirt` machines."""
    if machines == "libvirt":
        return open_libvirt_lab(
            spec,
            name=name,
            folder=folder,
            ledger=ledger,
            sizes=sizes,
            seed=seed,
            speed=speed,
            history=history,
            talk=talk,
            port=port,
            connect=connect,
            hub=hub,
        )
    return open_paced_lab(
        spec, name=name, folder=folder, sizes=sizes, seed=seed, speed=speed, history=history, port=port, hub=hub
    )


def open_libvirt_lab(
    spec: LabSpec,
    *,
    name: str,
    folder: Path,
    ledger: Path,
    sizes: Sizes,
    seed: str,
    speed: float,
    history: IO[bytes] | None,
    talk: Callable[[str], None],
    port: int = 0,
    connect: str = "",
    hub: OutsideHub | None = None,
) -> OpenLab:
    """A lab of virtual machines. The hypervisor is asked first, then the base ISO is built (or found in the cache),
    and there must be room for the disks: what cannot work is refused before anything is made."""
    from labsim.discovery.bootable import bootable_base_image
    from labsim.lab.ledger import Ledger
    from labsim.machines.libvirt.driver import LibvirtDriver, lab_mark
    from labsim.machines.libvirt.preflight import check_hypervisor, check_room

    uri = connect or SESSION_URI
    check_hypervisor(uri)
    talk("preparing the bootable base image")
    base_iso = bootable_base_image(cache_root()).path
    check_room(folder, base_iso, sum(group.count for group in spec.machines))
    driver_ledger = Ledger(ledger)

    def make_driver(lab: Lab) -> MachineDriver:
        return LibvirtDriver(lab=name, folder=folder, journal=driver_ledger, uri=uri, talk=talk)

    return open_paced_lab(
        spec,
        name=name,
        folder=folder,
        sizes=sizes,
        seed=seed,
        speed=speed or DEFAULT_VM_SPEED,
        history=history,
        hub_ip=USER_MODE_HOST,
        base_iso=base_iso,
        driver=make_driver,
        port=port,
        hub=hub,
        identity=lab_mark(name, folder),
    )


def open_paced_lab(
    spec: LabSpec,
    *,
    name: str,
    folder: Path,
    sizes: Sizes,
    seed: str,
    speed: float,
    history: IO[bytes] | None = None,
    hub_ip: str = LOOPBACK,
    base_iso: Path | None = None,
    driver: Callable[[Lab], MachineDriver] | None = None,
    port: int = 0,
    hub: OutsideHub | None = None,
    identity: str = "",
) -> OpenLab:
    """A lab whose hub is on a real socket, in real time multiplied by `speed`."""
    serving = Serving(port)
    try:
        start_s = real_s()
        pace_file = json.dumps({"real_epoch_s": start_s, "world_epoch_s": start_s, "speed": speed})
        lab = Lab(
            spec,
            LabOptions(
                name=name,
                folder=folder,
                seed=seed,
                sizes=sizes,
                pace=RealPace(start_s, speed),
                start_s=start_s,
                addresses=Addresses(hub_ip=hub_ip, service_port=serving.port),
                history=history,
                port_is_free=loopback_port_is_free,
                base_iso=base_iso,
                ca_pem=serving.authority.ca_pem,
                pace_file=pace_file if driver is not None else "",
                driver=driver,
                hub=hub,
                identity=identity,
            ),
        )
        serving.attach(lab)
    except BaseException:
        serving.close()
        raise
    return OpenLab(lab, [serving.close], serving)
