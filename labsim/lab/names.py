"""The fixed names and addresses of a lab's own world."""

from __future__ import annotations

import dataclasses

HUB_DOMAIN = "labsim.internal"
SERVICE_NAME = f"assisted-service.{HUB_DOMAIN}"
IMAGE_SERVICE_NAME = f"assisted-image-service.{HUB_DOMAIN}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the machines of a lab find its hub.

    hub_ip: the literal that machines reach the hub's host by; hosted clusters publish it too.
    service_port: the port of CIM's two services (443 where nothing listens really).
    """

    hub_ip: str
    service_port: int = 443

    @property
    def service_url(self) -> str:
        return f"https://{SERVICE_NAME}{self._suffix}"

    @property
    def image_service_url(self) -> str:
        return f"https://{IMAGE_SERVICE_NAME}{self._suffix}"

    @property
    def hosts_entry(self) -> str:
        """The line of /etc/hosts that lets a machine find the hub's names."""
        return f"{self.hub_ip} {SERVICE_NAME} {IMAGE_SERVICE_NAME}\n"

    @property
    def _suffix(self) -> str:
        return "" if self.service_port == 443 else f":{self.service_port}"


# In virtual time nothing listens: the machines' own network has the hub at its gateway, as libvirt's default does.
VIRTUAL = Addresses(hub_ip="192.168.122.1")
