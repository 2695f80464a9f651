"""Opens a lab with the machines and the time that were asked for, and closes it whatever happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from labsim.errors import LabError, LabsimError
from labsim.hub.embedded.held_ports import HeldPorts
from labsim.lab.hub_choice import KIND, OUR_OWN
from labsim.lab.interruption import uninterrupted
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.lab_request import LabRequest
from labsim.model.scenario import LabSpec

if TYPE_CHECKING:
    from labsim.lab.serving import Serving

MACHINES = ("simulated", "libvirt")


class OpenLab:
    """A lab and what keeps it alive outside its world. As a context it is closed at the end, whatever happens."""

    def __init__(
        self,
        lab: Lab,
        closers: list[Callable[[], None]] | None = None,
        serving: Serving | None = None,
        node_ports: HeldPorts | None = None,
    ) -> None:
        self.lab = lab
        self.serving = serving
        self.node_ports = node_ports  # of a lab that will be served
        self.hub_url = "" if serving is None else serving.url
        self.write_hub_kubeconfig: Callable[[Path], None] | None = None  # of a hub that is a cluster
        self.stays = False  # closing leaves what was made, for a later process of the lab
        self.is_left = False  # somebody has asked for that
        self._closers = closers or []
        self._after_lab: list[Callable[[], None]] = []

    @property
    def is_kept(self) -> bool:
        """Whether the lab's state is on a disk, so that a later process can go on with it."""
        return self.lab.world.durability is not None

    def write_kubeconfig(self, path: Path) -> None:
        """Write how to reach the lab's hub. Raises LabError where nothing outside the process can."""
        if self.write_hub_kubeconfig is not None:
            self.write_hub_kubeconfig(path)
        elif self.serving is not None:
            self.serving.write_kubeconfig(path)
        else:
            raise LabError("this lab has no hub to look at", hint="give a --speed above 0")

    def __enter__(self) -> OpenLab:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close. An error that is on its way already is the one that a person should see."""
        with uninterrupted():
            try:
                self.close()
            except LabsimError as left:
                if error is None:
                    raise
                if isinstance(error, LabsimError) and left.message != error.message:
                    error.hint += f"\n  and the lab could not be removed: {left.message}; {left.hint}"

    def add(self, serving: Serving) -> None:
        """Serve this lab, until it is closed."""
        self.serving = serving
        self.hub_url = serving.url
        self._closers.append(serving.close)

    def at_last(self, close: Callable[[], None]) -> None:
        """Add something to close when everything else is closed."""
        self._closers.insert(0, close)

    def after_lab(self, close: Callable[[], None]) -> None:
        """Add something to remove when the machines are gone."""
        self._after_lab.append(close)

    def close(self) -> None:
        """Remove everything that was made, in reverse order; the first error is raised at the end."""
        errors: list[Exception] = []
        removing = [self.lab.leave] if self.stays else [self.lab.remove, *self._after_lab]
        for close in [*reversed(self._closers), *removing]:
            try:
                close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


def open_lab(spec: LabSpec, request: LabRequest, *, keep: bool = False) -> OpenLab:
    """A lab whose world is put together, with nothing made yet. Simulated machines run in virtual time unless a speed
    is given; libvirt machines, and labs on a cluster, always in paced time. keep: `keep_open` will follow, so what the
    lab publishes must be reachable from this host. Components that somebody else runs need real time: it is paced
    then, whatever the machines."""
    if request.machines not in MACHINES:
        raise LabError(f"unknown machines {request.machines!r}", hint=" or ".join(MACHINES))
    spec, hub = request.hub.of(spec)
    request = dataclasses.replace(request, hub=hub)
    if hub.hub != OUR_OWN.hub:
        return open_on_cluster(spec, request)
    if request.machines != "simulated" or request.speed or hub.external:
        from labsim.lab.virtual_machines import DEFAULT_EXTERNAL_SPEED, open_with_machines

        paced = request.at_speed(DEFAULT_EXTERNAL_SPEED) if request.machines == "simulated" else request
        return open_with_machines(spec, paced)
    options = LabOptions.of(request)
    if keep:
        from labsim.lab.serving import hosts_of, loopback_addresses

        node_ports = HeldPorts(hosts_of(spec.dns.stack))
        options = dataclasses.replace(options, addresses=loopback_addresses(), port_is_free=node_ports.hold)
        return OpenLab(Lab(spec, options), [node_ports.close], node_ports=node_ports)
    return OpenLab(Lab(spec, options))


def open_on_cluster(spec: LabSpec, request: LabRequest) -> OpenLab:
    """A lab on the cluster that was chosen."""
    if request.hub.hub == KIND:
        from labsim.lab.kind import open_kind_lab

        return open_kind_lab(spec, request)
    from labsim.lab.plain import open_plain_lab

    return open_plain_lab(spec, request)


def keep_open(opened: OpenLab, speed: float) -> Serving:
    """Let a lab go on in paced time, with its hub and hosted clusters on real sockets, where it is not so already."""
    if opened.serving is None:
        from labsim.lab.serving import Serving, hosts_of
        from labsim.world.pace import RealPace

        world = opened.lab.world
        serving = Serving(hosts=hosts_of(opened.lab.spec.dns.stack), node_ports=opened.node_ports)
        opened.add(serving)
        world.pace = RealPace(world.now(), speed)
        serving.attach(opened.lab)
    assert opened.serving is not None
    return opened.serving
