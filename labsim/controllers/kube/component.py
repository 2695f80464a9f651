"""kube-controller-manager's part of this flow as a component of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.kube.claims import claim_protection
from labsim.controllers.kube.garbage import HOSTED_KINDS, HUB_KINDS, GarbageCollector
from labsim.controllers.kube.namespaces import Namespaces
from labsim.controllers.runtime.effects import Controller, Handler, Key
from labsim.model.kinds import EVENT


class KubeControllers:
    """Garbage collection on the hub and in hosted clusters, the end of namespaces and of volume claims.

    `on_hub` of False leaves the hub to the controllers that run there.
    """

    name = "kubeControllers"

    def __init__(self, *, on_hub: bool = True) -> None:
        hosted = GarbageCollector(HOSTED_KINDS, hosted=True).controller()
        self._controllers: tuple[Controller, ...] = (hosted,)
        if on_hub:
            collector = GarbageCollector(HUB_KINDS).controller()
            self._controllers = (collector, hosted, Namespaces((*HUB_KINDS, EVENT)).controller(), claim_protection())

    def controllers(self) -> Sequence[Controller]:
        return self._controllers

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()
