"""What a lab that stays open is made with."""

from __future__ import annotations

import dataclasses

from labsim.lab.hub_choice import OUR_OWN, HubChoice


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UpChoice:
    """port: of its hub, 0 for any that is free; connect: the hypervisor's URI, "" for the user's own session."""

    machines: str
    profile: str
    seed: str
    speed: float
    port: int = 0
    connect: str = ""
    hub: HubChoice = OUR_OWN
