"""Opens a lab with the machines and the time that were asked for, and closes it whatever happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labsim.errors import LabError, LabsimError
from labsim.lab.hub_choice import KIND, OUR_OWN, HubChoice
from labsim.lab.interruption import uninterrupted
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.names import Addresses
from labsim.lab.sizes import Sizes
from labsim.model.scenario import LabSpec

if TYPE_CHECKING:
    from labsim.lab.serving import Serving


class OpenLab:
    """A lab and what keeps it alive outside its world. As a context it is closed at the end, whatever happens."""

    def __init__(
        self, lab: Lab, closers: list[Callable[[], None]] | None = None, serving: Serving | None = None
    ) -> None:
        self.lab = lab
        self.serving = serving
        self.hub_url = "" if serving is None else serving.url
        self.write_hub_kubeconfig: Callable[[Path], None] | None = None  # of a hub that is a cluster
        self._closers = closers or []

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

    def close(self) -> None:
        """Remove everything that was made, in reverse order; the first error is raised at the end."""
        errors: list[Exception] = []
        for close in [*reversed(self._closers), self.lab.remove]:
            try:
                close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


def open_lab(
    spec: LabSpec,
    *,
    name: str,
    folder: Path,
    ledger: Path,
    machines: str,
    sizes: Sizes,
    seed: str,
    speed: float,
    connect: str = "",
    keep: bool = False,
    history: IO[bytes] | None = None,
    history_contents: bool = True,
    talk: Callable[[str], None] = lambda text: None,
    hub: HubChoice = OUR_OWN,
) -> OpenLab:
    """A lab whose world is put together, with nothing made yet. Simulated machines run in virtual time unless a speed
    is given; libvirt machines, and labs on a cluster, always in paced time. connect: the hypervisor's URI ("": the
    user's own session). keep: `keep_open` will follow, so what the lab publishes must be reachable from this host.
    Components that somebody else runs need real time: it is paced then, whatever the machines."""
    spec, hub = hub.of(spec)
    if hub.hub != OUR_OWN.hub:
        return open_on_cluster(
            spec,
            hub=hub,
            machines=machines,
            name=name,
            folder=folder,
            ledger=ledger,
            sizes=sizes,
            seed=seed,
            speed=speed,
            history=history,
            talk=talk,
            connect=connect,
        )
    if machines == "libvirt":
        from labsim.lab.virtual_machines import open_libvirt_lab

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
            connect=connect,
        )
    if machines != "simulated":
        raise LabError(f"unknown machines {machines!r}", hint="simulated or libvirt")
    if speed or hub.external:
        from labsim.lab.virtual_machines import DEFAULT_EXTERNAL_SPEED, open_paced_lab

        return open_paced_lab(
            spec,
            name=name,
            folder=folder,
            sizes=sizes,
            seed=seed,
            speed=speed or DEFAULT_EXTERNAL_SPEED,
            history=history,
        )
    options = LabOptions(
        name=name,
        folder=folder,
        seed=seed,
        sizes=sizes,
        history=history,
        history_contents=history_contents,
    )
    if keep:
        from labsim.lab.serving import LOOPBACK, loopback_port_is_free

        options = dataclasses.replace(options, addresses=Addresses(hub_ip=LOOPBACK), port_is_free=loopback_port_is_free)
    return OpenLab(Lab(spec, options))


def open_on_cluster(spec: LabSpec, *, hub: HubChoice, **options: Any) -> OpenLab:
    """A lab on the cluster that was chosen; `options` are those of `open_plain_lab`."""
    if hub.hub == KIND:
        from labsim.lab.kind import open_kind_lab

        return open_kind_lab(spec, hub=hub, **options)
    from labsim.lab.plain import open_plain_lab

    return open_plain_lab(spec, hub=hub, **options)


def keep_open(opened: OpenLab, speed: float) -> Serving:
    """Let a lab go on in paced time, with its hub and hosted clusters on real sockets, where it is not so already."""
    if opened.serving is None:
        from labsim.lab.serving import Serving
        from labsim.world.pace import RealPace

        world = opened.lab.world
        serving = Serving()
        opened.add(serving)
        world.pace = RealPace(world.now(), speed)
        serving.attach(opened.lab)
    assert opened.serving is not None
    return opened.serving
