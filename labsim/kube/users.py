"""Who makes a request of the API server."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """An authenticated user: name, uid, groups and what else is said about it, as authentication found them."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


ADMIN = User("system:admin", "", ("system:masters", "system:authenticated"))
VIEWERS = "labsim:viewers"  # the group of those who may read everything but Secrets, and write nothing
READER = User("labsim:reader", "", (VIEWERS, "system:authenticated"))
