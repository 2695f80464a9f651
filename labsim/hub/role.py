"""The rights that a lab hands out for its hub."""

from __future__ import annotations

import enum


class Role(enum.StrEnum):
    """Whose kubeconfig it is. Agents have tokens of CIM, which open nothing of the Kubernetes API."""

    ADMINISTRATOR = "administrator"
    READER = "reader"  # reads everything but Secrets, writes nothing
