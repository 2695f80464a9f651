"""What a simulated machine sends: through the lab's model of the network to whatever answers there, or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.guest.effects import ConnectionFailed, HttpAnswer
from labsim.guest.effects import Http as GuestHttp
from labsim.lab.followed_stream import FollowedStream
from labsim.model.http import Response, request_for_url
from labsim.world.world import World


class MachineTraffic:
    """Carries requests of simulated machines. `addresses_of_hub` are those at which something of the hub answers."""

    def __init__(self, world: World, addresses_of_hub: frozenset[str]) -> None:
        self._world = world
        self._addresses_of_hub = addresses_of_hub

    def carry(self, machine: str, effect: GuestHttp, addresses: tuple[str, ...], done: Callable[[Any], None]) -> None:
        """One request, to a host whose name the machine has resolved to these addresses."""
        headers = effect.headers
        if effect.client_cert_pem:
            headers = {**headers, "x-remote-cert-pem": effect.client_cert_pem}
        request = request_for_url(effect.method, effect.url, headers=headers, body=effect.body, client=machine)
        fabric = self._world.fabric
        endpoint = fabric.find(request.host, request.scheme)
        if endpoint is None or endpoint.serve == "none" or fabric.is_blocked(machine, endpoint):
            done(ConnectionFailed(f"dial tcp {request.host}: connect: connection refused"))
            return
        if not self._addresses_of_hub.intersection(addresses) and endpoint.host not in addresses:
            done(ConnectionFailed(f"dial tcp {addresses[0]}:{endpoint.port}: connect: no route to host"))
            return
        if endpoint.ca_pem and not effect.insecure and endpoint.ca_pem.strip() not in effect.ca_pem:
            done(ConnectionFailed("x509: certificate signed by unknown authority"))
            return

        def answered(value: Any, error: BaseException | None) -> None:
            if error is not None:
                done(HttpAnswer(500, {}, b""))
                return
            if effect.follow and value.stream is not None:
                rest = FollowedStream(value.stream, lambda: fabric.is_blocked(machine, endpoint), self._world.queue)
                done(HttpAnswer(value.status, value.headers, b"", rest))
                return
            done(HttpAnswer(value.status, value.headers, _body_of(value)))

        self._world.answer(endpoint, request, answered)


def _body_of(response: Response) -> bytes:
    """A whole body; of a watch, what it begins with."""
    if response.stream is None:
        return response.body
    parts = []
    while (chunk := response.stream.read()) is not None:
        if chunk == b"":
            response.stream.close()
            break
        parts.append(chunk)
    return b"".join(parts)
