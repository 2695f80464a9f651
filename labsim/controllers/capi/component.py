"""Cluster API's core as a component of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.capi import cluster
from labsim.controllers.capi.health_check import MachineHealthChecks
from labsim.controllers.capi.machine import Machines
from labsim.controllers.capi.machine_deployment import MachineDeployments
from labsim.controllers.capi.machine_set import MachineSets
from labsim.controllers.runtime.effects import Controller, Handler, Key
from labsim.entropy import Entropy


class Capi:
    """The Cluster API controllers, for the Clusters of every hosted cluster."""

    name = "capi"

    def __init__(self, entropy: Entropy, life: str = "") -> None:
        """life: tells the names that this process makes from those of one before it; "" where there was none."""
        own = entropy.child("capi")
        self._controllers = (
            cluster.controller(),
            MachineDeployments(own).controller(),
            MachineSets(own.child(life) if life else own).controller(),
            Machines().controller(),
            MachineHealthChecks().controller(),
        )

    def controllers(self) -> Sequence[Controller]:
        return self._controllers

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()
