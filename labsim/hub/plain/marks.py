"""The marks that say whose something on a shared cluster is.

One label key per lab, so that what two labs share (a definition, the AgentServiceConfig) carries both marks and goes
with the last of them.
"""

from __future__ import annotations

from labsim.edge_time import os_random
from labsim.model.objects import Object

PREFIX = "lab.labsim.dev/"
NAME_CHARACTERS = 48  # of a label key's 63, the rest is the random part


def new_lab_id(name: str) -> str:
    """A lab's identity on a cluster that others use too; from the operating system, so that no two are the same."""
    return f"{name[:NAME_CHARACTERS].rstrip('-.')}-{os_random(4).hex()}"


def label_of(lab_id: str) -> str:
    return PREFIX + lab_id


def labs_of(obj: Object) -> set[str]:
    """The labs whose marks an object carries."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    return {key.removeprefix(PREFIX) for key in labels if key.startswith(PREFIX)}


def marked(obj: Object, lab_id: str) -> Object:
    """The object with a lab's mark; what it shares with the original must not be changed."""
    metadata = obj.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), label_of(lab_id): ""}
    return {**obj, "metadata": {**metadata, "labels": labels}}
