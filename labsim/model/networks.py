"""A lab's network and names as a person describes them."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, field_validator, model_validator

from labsim.model.scenario_parts import Part

SMALLEST_PREFIX = 28  # room for a gateway and a dozen machines


class DnsSpec(Part):
    """The lab's DNS: records are made for each hosted cluster, as the product documentation asks."""

    stack: Literal["IPv4", "IPv6", "dual"] = "IPv4"
    """The families of the records of hosted clusters."""
    missing: list[str] = Field(default_factory=list)
    """Records that somebody forgot: `api.example.krnl.es`, `*.apps.example.krnl.es`."""


class NetworkSpec(Part):
    """What libvirt machines are connected to. Simulated machines have a network of their own."""

    mode: Literal["user", "nat", "isolated", "bridge"] = "user"
    """`user` needs no root; `nat` and `isolated` make a network for the lab; `bridge` takes one of this host's."""
    bridge: str = Field(default="", max_length=15)
    """With `bridge`: the host's bridge, which has an address, DHCP and DNS of its own."""
    subnet: str = ""
    """With `nat` and `isolated`: an IPv4 subnet; one that is free on this host by default."""

    @field_validator("subnet")
    @classmethod
    def _is_subnet(cls, text: str) -> str:
        if not text:
            return text
        network = ipaddress.IPv4Network(text)
        if network.prefixlen > SMALLEST_PREFIX:
            raise ValueError(f"{text} is too small: /{SMALLEST_PREFIX} or larger")
        return text

    @model_validator(mode="after")
    def _fits_mode(self) -> NetworkSpec:
        if (self.mode == "bridge") != bool(self.bridge):
            raise ValueError("mode bridge and a bridge's name go together")
        if self.subnet and self.mode not in ("nat", "isolated"):
            raise ValueError(f"a subnet goes with nat and isolated, not with {self.mode}")
        return self
