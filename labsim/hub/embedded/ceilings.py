"""How many connections and streams an edge holds open at once: more are answered with 429, which clients try again.

kube-apiserver has no such ceiling of its own; it would run out of file descriptors, as we would. Like Go's programs
this one raises its soft limit first. Streams (watches) get three quarters, so that ordinary requests go on.
"""

from __future__ import annotations

import resource

from labsim.model.http import Response

CONNECTIONS_MAX = 10_000
OTHER_FILES = 256  # descriptors for all that is no connection: logs, disks, consoles, sockets of guests
_AT_LEAST = 16
_FILES = resource.RLIMIT_NOFILE
# As kube-apiserver words it where too many requests are in flight.
TOO_MANY = "Too many requests, please try again later.\n"


def connections_max() -> int:
    """How many connections this process can hold."""
    wanted = CONNECTIONS_MAX + OTHER_FILES
    soft, hard = (wanted if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(_FILES))
    possible = min(wanted, hard)
    if soft < possible:
        resource.setrlimit(_FILES, (possible, resource.getrlimit(_FILES)[1]))
    return min(CONNECTIONS_MAX, max(_AT_LEAST, possible - OTHER_FILES))


def streams_max(connections: int) -> int:
    """How many of the connections may be streams that stay open."""
    return connections * 3 // 4


def too_many() -> Response:
    """The answer to what is one too many."""
    headers = {"content-type": "text/plain; charset=utf-8", "retry-after": "1", "x-content-type-options": "nosniff"}
    return Response(status=429, headers=headers, body=TOO_MANY.encode())
