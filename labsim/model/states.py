"""The names of upstream's host states, as they stand in an Agent's `.status.debugInfo.state`."""

from __future__ import annotations

# Source: assisted-service host states; day-1 only states are listed too, since a real hub may show them.
POOL_STATES = (
    "discovering-unbound",
    "known-unbound",
    "disconnected-unbound",
    "insufficient-unbound",
    "disabled-unbound",
)
UNBINDING_STATES = ("unbinding", "unbinding-pending-user-action", "reclaiming", "reclaiming-rebooting")
BOUND_STATES = (
    "binding",
    "discovering",
    "known",
    "disconnected",
    "insufficient",
    "pending-for-input",
    "preparing-for-installation",
    "preparing-successful",
    "preparing-failed",
    "installing",
    "installing-in-progress",
    "installing-pending-user-action",
    "installed",
    "added-to-existing-cluster",
    "error",
    "cancelled",
    "resetting",
    "resetting-pending-user-action",
    "disabled",
)
AGENT_STATES = POOL_STATES + UNBINDING_STATES + BOUND_STATES
INSTALLING_STATES = ("installing", "installing-in-progress", "installing-pending-user-action")
WAITS_FOR_USER = "unbinding-pending-user-action"
