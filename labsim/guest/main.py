"""The program on a booted machine, from its Ignition to the agent or the kubelet."""

from __future__ import annotations

from labsim.guest.effects import Boot, Log, Task
from labsim.guest.settings import UPSTREAM_PACE, GuestSettings


def run(boot: Boot, settings: GuestSettings = UPSTREAM_PACE) -> Task[None]:
    """The whole life of one boot. Never returns while a unit that it knows runs."""
    yield Log(f"started from {boot.source}", settings.__class__.__name__)
