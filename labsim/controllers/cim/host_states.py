"""The host state machine's transitions as data, and the pure function that walks them.

Sources: host-lifecycle 1.2, 1.3, 1.5, 1.6. The first rule whose event, source state and condition match wins.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

POOL = ("discovering-unbound", "known-unbound", "insufficient-unbound", "disconnected-unbound")
PRE_INSTALL = ("discovering", "known", "insufficient", "disconnected", "pending-for-input")
PREPARING = ("preparing-for-installation", "preparing-successful", "preparing-failed")
INSTALLING = ("installing", "installing-in-progress", "installing-pending-user-action")
RECLAIMING = ("reclaiming", "reclaiming-rebooting")
RESETTING = ("resetting", "resetting-pending-user-action")
# While the host is in one of these, its Node stays on the spoke and its Agent's deprovision info stays.
UNBINDING = ("unbinding", "unbinding-pending-user-action", *RECLAIMING)
# States that the monitor never looks at, or whose refresh rule does nothing.
UNSCANNED = ("binding", "unbinding", "unbinding-pending-user-action")

WORKER_STAGES = (
    "Starting installation",
    "Installing",
    "Writing image to disk",
    "Waiting for control plane",
    "Rebooting",
    "Waiting for ignition",
    "Configuring",
    "Joined",
    "Done",
)
REBOOTING = "Rebooting"
DONE_STAGE = "Done"
FAILED_STAGE = "Failed"

WAITING_FOR_DETAILS = "Waiting for host to send hardware details"
STATUS_INFO: Mapping[str, str] = {
    "discovering-unbound": WAITING_FOR_DETAILS,
    "discovering": WAITING_FOR_DETAILS,
    "known-unbound": "Host is ready to be bound to a cluster",
    "disconnected-unbound": "Host has stopped communicating with the installation service",
    "disconnected": "Host has stopped communicating with the installation service",
    "binding": "Host is waiting to be bound to the cluster",
    "known": "Host is ready to be installed",
    "installing": "Installation is in progress",
    "unbinding": "Host is waiting to be unbound from the cluster",
    "unbinding-pending-user-action": "Host is waiting to be unbound from the cluster",
    "reclaiming": "Host is waiting to be unbound from the cluster",
    "reclaiming-rebooting": "Host is rebooting into the discovery image",
    "resetting-pending-user-action": (
        "Host requires booting into the discovery image to complete resetting the installation"
    ),
}
MEDIA_LOST = (
    "Unable to read from the discovery media. It was either disconnected or poor network conditions prevented it "
    "from being read. Try using the minimal ISO option and be sure to keep the media connected until the "
    "installation is completed"
)
RESTARTED = "The host unexpectedly restarted during the installation"
COMMAND_FAILED = "installation command failed"
NO_RULE = "no condition found to run transition"


class Event(enum.Enum):
    """What can move a host, except the monitor's refresh (see `refresh`)."""

    REGISTER = "RegisterHost"
    BIND = "BindHost"
    INSTALL = "InstallHost"
    INSTALLATION_FAILED = "HostInstallationFailed"
    MEDIA_DISCONNECT = "MediaDisconnect"
    RESET = "ResettingPendingUserAction"
    UNBIND = "UnbindHost"
    RECLAIM = "ReclaimHost"
    RECLAIM_DOWNLOADED = "RebootingForReclaim"
    RECLAIM_FAILED = "ReclaimHostFailed"


class When(enum.Enum):
    """A rule's condition on the host."""

    ALWAYS = ""
    AT_REBOOTING = "stage is Rebooting"
    BEFORE_REBOOTING = "stage is not Rebooting"
    AT_DONE = "stage is Done"
    WRONG_BOOT = "stage is Rebooting or Done"
    DAY2 = "the host is added to an existing cluster"


class Reset(enum.Enum):
    """Which fields a transition clears (host-lifecycle 1.4)."""

    NONE = ""
    BIND = "set A"
    REGISTER = "set A and what a new registration brings"
    UNBIND = "set B"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One transition. `target` of "" stays where it is; `refused` is a message that ends the event with an error."""

    event: Event
    sources: tuple[str, ...]
    target: str = ""
    when: When = When.ALWAYS
    info: str = ""
    reset: Reset = Reset.NONE
    wrong_boot: bool = False  # status_info names the disk that should have been booted
    refused: str = ""
    refused_code: int = 500


_ALL_PREPARING_AND_INSTALLING = (*PREPARING, *INSTALLING)

RULES: tuple[Rule, ...] = (
    # Registration of an existing row; bound rules come first.
    Rule(
        Event.REGISTER, ("binding", *PRE_INSTALL, "resetting-pending-user-action"), "discovering", reset=Reset.REGISTER
    ),
    Rule(Event.REGISTER, ("preparing-for-installation", "preparing-successful"), "known"),
    Rule(Event.REGISTER, ("installing",), "error", info=RESTARTED),
    Rule(Event.REGISTER, ("installing-in-progress",), "error", When.BEFORE_REBOOTING, info=RESTARTED),
    Rule(
        Event.REGISTER,
        ("installing-in-progress",),
        "installing-pending-user-action",
        When.AT_REBOOTING,
        wrong_boot=True,
    ),
    Rule(
        Event.REGISTER,
        ("added-to-existing-cluster",),
        "installing-pending-user-action",
        When.AT_DONE,
        wrong_boot=True,
    ),
    # The inner error is a 403, which the API turns into a 400.
    Rule(
        Event.REGISTER,
        ("installing-pending-user-action",),
        "",
        When.WRONG_BOOT,
        refused="Host is required to be booted from disk {disk}",
        refused_code=400,
    ),
    Rule(
        Event.REGISTER,
        ("installed",),
        "",
        refused="Cannot register host while the cluster is being installed",
        refused_code=409,
    ),
    Rule(Event.REGISTER, ("error",), ""),
    Rule(
        Event.REGISTER,
        (*POOL, "unbinding", "unbinding-pending-user-action", "reclaiming-rebooting"),
        "discovering-unbound",
        reset=Reset.REGISTER,
    ),
    Rule(Event.BIND, ("known-unbound",), "binding", reset=Reset.BIND),
    Rule(Event.INSTALL, ("known",), "installing", When.DAY2),
    Rule(Event.INSTALLATION_FAILED, ("installing", "installing-in-progress"), "error", info=COMMAND_FAILED),
    Rule(Event.MEDIA_DISCONNECT, (*POOL, "unbinding"), "disconnected-unbound", info=MEDIA_LOST),
    Rule(Event.MEDIA_DISCONNECT, (*PRE_INSTALL, "binding"), "disconnected", info=MEDIA_LOST),
    Rule(Event.MEDIA_DISCONNECT, (*_ALL_PREPARING_AND_INSTALLING, "error"), "error", info=MEDIA_LOST),
    Rule(
        Event.RESET,
        (*PRE_INSTALL, *_ALL_PREPARING_AND_INSTALLING, "installed", "added-to-existing-cluster", "error", "cancelled"),
        "resetting-pending-user-action",
    ),
    Rule(Event.UNBIND, PRE_INSTALL, "unbinding", reset=Reset.UNBIND),
    Rule(
        Event.UNBIND,
        (*_ALL_PREPARING_AND_INSTALLING, "installed", "added-to-existing-cluster", "error", "cancelled"),
        "unbinding-pending-user-action",
        reset=Reset.UNBIND,
    ),
    Rule(Event.RECLAIM, ("installed", "added-to-existing-cluster"), "reclaiming", reset=Reset.UNBIND),
    Rule(Event.RECLAIM, PRE_INSTALL, "unbinding", reset=Reset.UNBIND),
    Rule(Event.RECLAIM, ("error", "cancelled"), "unbinding-pending-user-action", reset=Reset.UNBIND),
    Rule(Event.RECLAIM_DOWNLOADED, ("reclaiming",), "reclaiming-rebooting"),
    Rule(Event.RECLAIM_FAILED, RECLAIMING, "unbinding-pending-user-action"),
)


def _index() -> Mapping[tuple[Event, str], tuple[Rule, ...]]:
    found: dict[tuple[Event, str], list[Rule]] = {}
    for rule in RULES:
        for source in rule.sources:
            found.setdefault((rule.event, source), []).append(rule)
    return {key: tuple(rules) for key, rules in found.items()}


_BY_SOURCE = _index()


def _holds(when: When, stage: str, is_day2: bool) -> bool:
    match when:
        case When.ALWAYS:
            return True
        case When.AT_REBOOTING:
            return stage == REBOOTING
        case When.BEFORE_REBOOTING:
            return stage != REBOOTING
        case When.AT_DONE:
            return stage == DONE_STAGE
        case When.WRONG_BOOT:
            return stage in (REBOOTING, DONE_STAGE)
        case When.DAY2:
            return is_day2


def find_rule(event: Event, status: str, *, stage: str = "", is_day2: bool = False) -> Rule | None:
    """The rule that an event takes from a state; None where the state machine has none (see NO_RULE)."""
    for rule in _BY_SOURCE.get((event, status), ()):
        if _holds(rule.when, stage, is_day2):
            return rule
    return None


def wrong_boot_info(model: str, serial: str, name: str, disk_id: str) -> str:
    """The status_info of a host that should have booted from its disk."""
    words = [word for word in (model, serial, f"({name}, {disk_id})") if word]
    return (
        "Expected the host to boot from disk, but it booted the installation image - "
        f"please reboot and fix boot order to boot from disk {' '.join(words)}"
    )


def is_rebooting_or_later(stage: str) -> bool:
    return stage in WORKER_STAGES and WORKER_STAGES.index(stage) >= WORKER_STAGES.index(REBOOTING)


def go_duration(seconds: float) -> str:
    """A duration as Go prints it: 40m0s, 1h0m0s, 24h0m0s."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
