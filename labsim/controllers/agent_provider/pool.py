"""Agents that can be claimed, and in which order they are tried.

Upstream takes the first that fits in the order of an informer's map: arbitrary, not by name or age. Here the order
comes from the seed. Every Agent has a place on a ring, every claim starts somewhere on it; so one more Agent, or one
less, does not change the order of the others.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from labsim.controllers.agent_provider.names import AGENT_MACHINE_LABEL
from labsim.entropy import Entropy
from labsim.model.objects import Object, condition_status, dig, labels_of, name_of, namespace_of

_WANTED = (("Bound", "False"), ("Connected", "True"), ("Validated", "True"))


def is_claimable(agent: Object) -> bool:
    """Approved, not bound, connected and validated; a condition that is missing is not met."""
    if not dig(agent, "spec", "approved"):
        return False
    return all(condition_status(agent, kind) == status for kind, status in _WANTED)


def is_free(agent: Object) -> bool:
    """Claimable, and no AgentMachine's label on it."""
    return AGENT_MACHINE_LABEL not in labels_of(agent) and is_claimable(agent)


class AgentPool:
    """The free Agents of every namespace, kept up to date by the Agents' watch."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy.child("agent-order")
        self._rings: dict[str, list[tuple[bytes, str]]] = {}
        self._places: dict[tuple[str, str], bytes] = {}  # of free Agents only

    def observe(self, before: Object | None, after: Object | None) -> None:
        present = after if after is not None else before
        assert present is not None
        key = (namespace_of(present), name_of(present))
        free = after is not None and is_free(after)
        place = self._places.get(key)
        if free and place is None:
            place = self._entropy.bytes(f"agent/{key[0]}/{key[1]}", 8)
            self._places[key] = place
            bisect.insort(self._rings.setdefault(key[0], []), (place, key[1]))
        elif not free and place is not None:
            del self._places[key]
            ring = self._rings[key[0]]
            del ring[bisect.bisect_left(ring, (place, key[1]))]

    def count(self, namespace: str) -> int:
        return len(self._rings.get(namespace, ()))

    def candidates(self, namespace: str, claim: str) -> Iterator[str]:
        """Names of the free Agents of a namespace, in the order in which this claim tries them."""
        ring = self._rings.get(namespace)
        if not ring:
            return
        start = bisect.bisect_left(ring, (self._entropy.bytes(f"claim/{claim}", 8), ""))
        names = [name for _, name in ring]  # the ring may change while a claim waits for its answer
        yield from names[start:]
        yield from names[:start]
