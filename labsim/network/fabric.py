"""Who answers where: endpoints of the simulated world by host and port, and what keeps a machine from reaching them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from labsim.network.zone import Zone, canonical

DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Something that answers at `host:port`.

    `serve` is opaque to the fabric (the world knows what it is); `service` and `owner` say whose it is; `ca_pem` is
    what vouches for its certificate ("" for plain HTTP or where nobody checks); the PEMs serve it on a real socket.
    """

    host: str
    port: int
    service: str
    owner: str
    serve: Any
    ca_pem: str = ""
    certificate_pem: str = ""
    key_pem: str = ""


class Fabric:
    """The endpoints of one world, looked up by host and port as they were published; `zone` has the addresses that its
    machines get for names."""

    def __init__(self) -> None:
        self.zone = Zone()
        self._endpoints: dict[tuple[str, int], Endpoint] = {}
        self._blocked: dict[str, set[str | int]] = {}
        self.on_publish: list[Callable[[Endpoint], None]] = []
        self.on_withdraw: list[Callable[[Endpoint], None]] = []

    def publish(self, endpoint: Endpoint) -> None:
        """Let the endpoint answer; one that stood at the same place is replaced."""
        key = (endpoint.host, endpoint.port)
        known = self._endpoints.get(key)
        if known == endpoint:
            return
        self._endpoints[key] = endpoint
        for listener in self.on_publish:
            listener(endpoint)

    def withdraw(self, owner: str, service: str = "") -> None:
        """Remove every endpoint of an owner, or only those of one service."""
        for key, endpoint in list(self._endpoints.items()):
            if endpoint.owner == owner and service in ("", endpoint.service):
                del self._endpoints[key]
                for listener in self.on_withdraw:
                    listener(endpoint)

    def find(self, url_or_host: str, scheme: str = "https") -> Endpoint | None:
        """The endpoint of a URL, or of `host[:port]` under a scheme."""
        return self._endpoints.get(_place(url_or_host, scheme))

    def endpoints(self) -> list[Endpoint]:
        return [self._endpoints[key] for key in sorted(self._endpoints)]

    def block(self, client: str, place: str | int) -> None:
        """Keep a client from a service, from a port of any host, or from the addresses of a name."""
        self._blocked.setdefault(client, set()).add(_blocked_as(place))

    def unblock(self, client: str, place: str | int) -> None:
        self._blocked.get(client, set()).discard(_blocked_as(place))

    def is_blocked(self, client: str, endpoint: Endpoint) -> bool:
        blocked = self._blocked.get(client)
        if not blocked:
            return False
        return endpoint.service in blocked or endpoint.port in blocked

    def resolve(self, client: str, name: str) -> tuple[str, ...]:
        """The addresses of a name, as the zone has them for this client; empty where there are none for it."""
        blocked = self._blocked.get(client)
        if blocked and canonical(name) in blocked:
            return ()
        return self.zone.resolve(name)


def _blocked_as(place: str | int) -> str | int:
    return place if isinstance(place, int) else canonical(place)


@functools.lru_cache(maxsize=4096)
def _place(url_or_host: str, scheme: str) -> tuple[str, int]:
    """Host and port of a URL, or of `host[:port]` under a scheme."""
    location = url_or_host
    if "://" in url_or_host:
        parts = urlsplit(url_or_host)
        scheme, location = parts.scheme, parts.netloc
    return split_host_port(location, DEFAULT_PORTS.get(scheme, 443))


def split_host_port(location: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port` as host and port."""
    if location.startswith("["):
        host, _, rest = location[1:].partition("]")
        return host, int(rest[1:]) if rest.startswith(":") and rest[1:].isdigit() else default_port
    host, colon, port = location.rpartition(":")
    if colon and port.isdigit():
        return host, int(port)
    return location, default_port
