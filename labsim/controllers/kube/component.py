"""kube-controller-manager's part of this flow as a component of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.kube.claims import claim_protection
from labsim.controllers.kube.garbage import HOSTED_KINDS, HUB_KINDS, GarbageCollector
from labsim.controllers.kube.load_balancers import LoadBalancers
from labsim.controllers.kube.namespaces import Namespaces
from labsim.controllers.runtime.effects import Controller, Handler, Key
from labsim.model.kinds import EVENT


class KubeControllers:
    """Garbage collection on the hub and in hosted clusters, the end of namespaces and of volume claims.

    `on_hub` of False leaves the hub to the controllers that run there. load_balancers: the addresses for Services
    of that type: not kube-controller-manager's business, but on our own hub nobody else would hand them out.
    """

    name = "kubeControllers"

    def __init__(self, *, on_hub: bool = True, load_balancers: Sequence[str] = ()) -> None:
        hosted = GarbageCollector(HOSTED_KINDS, hosted=True).controller()
        self._controllers: tuple[Controller, ...] = (hosted,)
        if on_hub:
            collector = GarbageCollector(HUB_KINDS).controller()
            namespaces = Namespaces((*HUB_KINDS, EVENT)).controller()
            balancers = LoadBalancers(load_balancers).controller()
            self._controllers = (collector, hosted, namespaces, claim_protection(), balancers)

    def controllers(self) -> Sequence[Controller]:
        return self._controllers

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()
