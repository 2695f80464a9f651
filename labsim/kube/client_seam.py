"""What may stand between an API server's HTTP surface and its clients: whoever records them, or brings faults to them.

A request is answered whole before the next one begins, so what stands here knows from `asked` whose request it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from labsim.kube.gate import Gate
from labsim.kube.routes import Route
from labsim.kube.users import User
from labsim.model.http import Request, Response
from labsim.model.kinds import Kind

if TYPE_CHECKING:
    from labsim.kube.watch import WatchStream

Carry = Callable[[Request], Response]  # answers a request, or raises ApiError
MakeGate = Callable[[Callable[[bytes], None]], Gate[bytes]]  # in front of what takes the lines of a watch


@dataclasses.dataclass(frozen=True, slots=True)
class WatchTerms:
    """How a watch is served.

    as_of: the revision of the cache that it is served from, which has heard of nothing later yet and which the log
    still reaches; None for an up-to-date one. expired: the revision that it wants to go on from is said to be gone,
    whatever the log holds. gate: what its events go through from the first one on, which holds back what is later
    than `as_of`.
    """

    as_of: int | None = None
    expired: bool = False
    gate: MakeGate | None = None


USUAL = WatchTerms()


class ClientSeam(Protocol):
    """All calls are made on the world's thread."""

    def asked(self, request: Request, user: User) -> None:
        """A request has come, and this is who makes it."""
        ...

    def serve(self, request: Request, route: Route, kind: Kind, carry: Carry) -> Response:
        """Answer an authorized request about a resource, by `carry` in the end."""
        ...

    def cached_at(self) -> int | None:
        """The revision of the cache that answers a read which takes one as old as there is; None: up to date."""
        ...

    def watch_terms(self, since: int) -> WatchTerms:
        """How to serve a watch that goes on from a revision; 0: that begins with what is there."""
        ...

    def opened(self, stream: WatchStream) -> None:
        """A watch has begun."""
        ...
