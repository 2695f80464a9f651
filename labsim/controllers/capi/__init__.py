"""Cluster API's core controllers: Cluster, MachineDeployment, MachineSet, Machine and MachineHealthCheck."""

from __future__ import annotations

from labsim.controllers.capi.component import Capi

__all__ = ["Capi"]
