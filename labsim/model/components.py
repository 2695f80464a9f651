"""The components of a hub: which labsim plays, and which somebody else runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# As in a scenario file (`hub.components`), and as a flag of a command names them.
COMPONENT_FLAGS = {
    "cim": "cim",
    "capi": "capi",
    "agentProvider": "agent-provider",
    "hypershift": "hypershift",
    "import": "import",
    "kubeControllers": "kube-controllers",
}


def component_named(word: str) -> str:
    """The component's name in a scenario file, from that name or from its flag. Raises ValueError with advice."""
    for name, flag in COMPONENT_FLAGS.items():
        if word in (name, flag):
            return name
    near = difflib.get_close_matches(word, COMPONENT_FLAGS.values(), 1, 0.5)
    raise ValueError(f"did you mean {near[0]}?" if near else "known: " + ", ".join(COMPONENT_FLAGS.values()))


def components_named(words: Iterable[str]) -> tuple[str, ...]:
    """As `component_named`, for several words; each may hold several names with commas between them."""
    return tuple(component_named(part) for word in words for part in word.split(",") if part)
