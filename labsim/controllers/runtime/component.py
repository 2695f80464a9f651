"""What every simulated component is: control loops, HTTP services, and keys to wake when it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from labsim.controllers.runtime.effects import Controller, Handler, Key


class Component(Protocol):
    """A component that a world can run, or leave out because the real one runs in its place."""

    name: str  # as in `hub.components`: cim, capi, agentProvider, hypershift, import, kubeControllers

    def controllers(self) -> Sequence[Controller]: ...

    def services(self) -> Mapping[str, Handler]:
        """HTTP services by name: "assisted-service", "assisted-image-service", "ignition-server", ..."""
        ...

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        """(controller name, key) pairs to wake at the start, for loops that nothing else wakes (a monitor)."""
        ...
