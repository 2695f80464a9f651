"""kube-controller-manager's part of this flow as a component of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.kube.garbage import HOSTED_KINDS, HUB_KINDS, GarbageCollector
from labsim.controllers.kube.namespaces import Namespaces
from labsim.controllers.runtime.effects import Controller, Handler, Key
from labsim.model.kinds import EVENT


class KubeControllers:
    """Garbage collection on the hub and in hosted clusters, and the end of namespaces."""

    name = "kubeControllers"

    def __init__(self) -> None:
        self._controllers = (
            GarbageCollector(HUB_KINDS).controller(),
            GarbageCollector(HOSTED_KINDS, hosted=True).controller(),
            Namespaces((*HUB_KINDS, EVENT)).controller(),
        )

    def controllers(self) -> Sequence[Controller]:
        return self._controllers

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()
