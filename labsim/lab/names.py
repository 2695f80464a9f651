"""The fixed names and addresses of a lab's own world."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

from labsim.network.zone import Record

HUB_DOMAIN = "labsim.internal"
SERVICE_NAME = f"assisted-service.{HUB_DOMAIN}"
IMAGE_SERVICE_NAME = f"assisted-image-service.{HUB_DOMAIN}"
HUB_NAME = f"hub.{HUB_DOMAIN}"
ROUTES_DOMAIN = f"apps.{HUB_NAME}"  # below it the hub's router answers
HUB_NAMES = (HUB_NAME, SERVICE_NAME, IMAGE_SERVICE_NAME, f"*.{ROUTES_DOMAIN}")

Stack = Literal["IPv4", "IPv6", "dual"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the machines of a lab find its hub.

    hub_ip, hub_ip6: the literals that machines reach the hub's node by; hub_ip6 is "" where there is no way over IPv6.
    service_port: the port of CIM's two services (443 where nothing listens really). apps: where the routers of hosted
    clusters are thought to be, which `*.apps` leads to; the hub's node by default. load_balancers: the pool of
    addresses for Services of that type. name_server: what the machines are told to ask for names, where their network
    has no name server that knows the lab's.
    """

    hub_ip: str
    hub_ip6: str = ""
    service_port: int = 443
    apps: tuple[str, ...] = ()
    load_balancers: tuple[str, ...] = ()
    name_server: tuple[str, int] | None = None

    @property
    def service_url(self) -> str:
        return f"https://{SERVICE_NAME}{self._suffix}"

    @property
    def image_service_url(self) -> str:
        return f"https://{IMAGE_SERVICE_NAME}{self._suffix}"

    def hosts_entry(self, stack: Stack) -> str:
        """The lines of /etc/hosts that let a machine find the hub's names."""
        return "".join(f"{address} {SERVICE_NAME} {IMAGE_SERVICE_NAME}\n" for address in self.of_hub(stack))

    @property
    def all_of_hub(self) -> frozenset[str]:
        """Every address at which something of the hub may answer."""
        return frozenset(filter(None, (self.hub_ip, self.hub_ip6, *self.load_balancers)))

    def of_hub(self, stack: Stack) -> tuple[str, ...]:
        """The addresses of the hub's node in the families of a stack."""
        return of_stack(filter(None, (self.hub_ip, self.hub_ip6)), stack)

    def of_apps(self, stack: Stack) -> tuple[str, ...]:
        """The addresses of the hosted clusters' routers in the families of a stack."""
        return of_stack(self.apps, stack) or self.of_hub(stack)

    def hub_records(self, stack: Stack) -> tuple[Record, ...]:
        """The records of the hub itself, which every machine needs before any hosted cluster is there."""
        return tuple(Record(name, address) for name in HUB_NAMES for address in self.of_hub(stack))

    @property
    def _suffix(self) -> str:
        return "" if self.service_port == 443 else f":{self.service_port}"


def of_stack(addresses: Iterable[str], stack: Stack) -> tuple[str, ...]:
    """Those of the families of a stack."""
    return tuple(entry for entry in addresses if stack == "dual" or (":" in entry) == (stack == "IPv6"))


# In virtual time nothing listens: the machines' own network has the hub at its gateway, as libvirt's default does.
VIRTUAL = Addresses(
    hub_ip="192.168.122.1",
    hub_ip6="2620:52:0:1306::1",
    apps=("192.168.121.220", "2620:52:0:1306::10"),  # a load balancer: no machine may have what *.apps leads to
    load_balancers=tuple(f"192.168.121.{number}" for number in range(200, 220)),
)
