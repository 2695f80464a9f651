"""Ports that are handed out before somebody listens at them: held on this host, so that no other lab gets them too."""

from __future__ import annotations

import socket
from collections.abc import Sequence


class HeldPorts:
    """Ports at all of the given addresses, from `hold` until somebody listens there (`give`) or all are let go."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = tuple(hosts)
        self._held: dict[tuple[str, int], socket.socket] = {}

    def hold(self, port: int) -> bool:
        """Whether the port is this lab's now: it was free at each address, or is held already."""
        if all((host, port) in self._held for host in self._hosts):
            return True
        sockets: dict[tuple[str, int], socket.socket] = {}
        for host in self._hosts:
            # No SO_REUSEADDR: two sockets that both have it can be bound to one port while neither listens.
            bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            try:
                bound.bind((host, port))
            except OSError:
                for taken in (bound, *sockets.values()):
                    taken.close()
                return False
            sockets[host, port] = bound
        self._held.update(sockets)
        return True

    def give(self, host: str, port: int) -> socket.socket | None:
        """The bound socket of a held port, for whoever listens; None for a port that is not held."""
        return self._held.pop((host, port), None)

    def close(self) -> None:
        while self._held:
            self._held.popitem()[1].close()
