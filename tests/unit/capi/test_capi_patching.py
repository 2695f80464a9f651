"""What a controller may change is a copy: the stored object stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from labsim.controllers.capi.patching import editable


@pytest.mark.parametrize(
    "stored",
    [
        {"metadata": {}, "spec": {}, "status": {}},
        {"metadata": {"labels": {"a": "b"}, "finalizers": ["x"]}, "spec": {"a": {}}, "status": {"conditions": []}},
        {"metadata": {"name": "x"}},
    ],
)
def test_changing_the_copy_leaves_the_stored_object_alone(stored: dict[str, Any]) -> None:
    """Found by `labsim check`: an AgentMachine's empty spec was the stored one, and its providerID no write."""
    before = copy.deepcopy(stored)
    changed = editable(stored)
    for part in ("metadata", "spec", "status"):
        changed.setdefault(part, {})["new"] = "value"
    changed["metadata"].setdefault("labels", {})["new"] = "value"
    changed["metadata"].setdefault("finalizers", []).append("new")
    changed["status"].setdefault("conditions", []).append({"type": "new"})
    assert stored == before
