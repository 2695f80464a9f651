"""What a refresh makes of a host: pool rules, pre-install rules, time-outs while installing.

Pure: everything comes in through `RefreshFacts`. Sources: host-lifecycle 2.3, 2.4, 2.5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from labsim.controllers.cim.host_states import (
    MEDIA_LOST,
    POOL,
    PRE_INSTALL,
    RECLAIMING,
    STATUS_INFO,
    go_duration,
    is_rebooting_or_later,
)
from labsim.controllers.cim.rows import Validation, Validations
from labsim.controllers.cim.settings import Timeouts

POOL_GATE = frozenset(
    {
        "has-min-valid-disks",
        "has-min-cpu-cores",
        "has-min-memory",
        "hostname-valid",
        "inventory-not-fully-truncated",
    }
)
DAY2_HARDWARE_GATE = frozenset(
    {
        "has-min-valid-disks",
        "has-min-cpu-cores",
        "has-min-memory",
        "compatible-with-cluster-platform",
        "disk-encryption-requirements-satisfied",
    }
)
# Every validation blocks a day-2 host unless it stands here (column "day-2" of host-lifecycle 2.6).
DAY2_NOT_BLOCKING = frozenset(
    {"mtu-valid", "ntp-synced", "container-images-available", "inventory-not-partially-truncated"}
)
_SLOW_STAGES = ("Writing image to disk", "Copying registry data to disk")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RefreshFacts:
    """What the rules look at. Ages are in seconds."""

    status: str
    connected: bool
    media_connected: bool
    has_inventory: bool
    validations: Validations
    stage: str
    status_age_s: float
    stage_age_s: float
    check_in_age_s: float
    is_day2: bool
    disk_label: str  # `(<name>, <disk id>)` of the installation disk


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    status: str
    info: str


def refresh(facts: RefreshFacts, timeouts: Timeouts) -> Outcome | None:
    """Where the host goes, or stays with this info; None where no rule looks at its state."""
    if facts.status in POOL:
        return _pool(facts)
    if facts.status in PRE_INSTALL:
        return _pre_install(facts)
    if facts.status in ("installing", "installing-in-progress"):
        return _installing(facts, timeouts)
    if facts.status in RECLAIMING and facts.status_age_s > timeouts.reclaim_s:
        return _standard("unbinding-pending-user-action")
    return None


def _standard(status: str) -> Outcome:
    return Outcome(status, STATUS_INFO[status])


def _pool(facts: RefreshFacts) -> Outcome | None:
    if not facts.connected:
        return _standard("disconnected-unbound")
    if not facts.media_connected:
        return Outcome("disconnected-unbound", MEDIA_LOST)
    if not facts.has_inventory:
        # insufficient- and known-unbound without inventory have no rule of their own and stay.
        if facts.status in ("disconnected-unbound", "discovering-unbound"):
            return _standard("discovering-unbound")
        return None
    if _passes(facts.validations, POOL_GATE):
        return _standard("known-unbound")
    return Outcome("insufficient-unbound", _hardware_info(facts.validations))


def _pre_install(facts: RefreshFacts) -> Outcome:
    if not facts.connected:
        return _standard("disconnected")
    if not facts.media_connected:
        return Outcome("disconnected", MEDIA_LOST)
    if not facts.has_inventory:
        return _standard("discovering")
    if not _passes(facts.validations, DAY2_HARDWARE_GATE):
        return Outcome("insufficient", _hardware_info(facts.validations))
    if any(entry[1] not in ("success", "disabled") and entry[0] not in DAY2_NOT_BLOCKING for entry in _all(facts)):
        failing = failing_messages(facts.validations)
        return Outcome("insufficient", f"Host cannot be installed due to following failing validation(s): {failing}")
    return _standard("known")


def _installing(facts: RefreshFacts, timeouts: Timeouts) -> Outcome | None:
    if facts.status == "installing" and facts.status_age_s > timeouts.installing_s:
        return Outcome("error", "Host failed to install due to timeout while starting installation")
    if not is_rebooting_or_later(facts.stage) and facts.check_in_age_s > timeouts.max_disconnection_s:
        return Outcome(
            "error", "Host failed to install due to timeout while connecting to host during the installation phase."
        )
    limit_s = timeouts.of_stage(facts.stage)
    if facts.status != "installing-in-progress" or not facts.stage or facts.stage_age_s <= limit_s:
        return None
    if facts.stage == "Rebooting":
        return Outcome(
            "installing-pending-user-action",
            "Host timed out when pulling the configuration files. Verify in the host console that the host boots "
            f"from the OpenShift installation disk {facts.disk_label} and has network access to the cluster API. "
            "The installation will resume after the host successfully boots and can access the cluster API",
        )
    limit = go_duration(limit_s)
    if facts.stage in _SLOW_STAGES:
        return Outcome(
            "error",
            f"Host failed to install because its installation stage {facts.stage} did not sufficiently progress in "
            f"the last {limit}.",
        )
    return Outcome(
        "error",
        f"Host failed to install because its installation stage {facts.stage} took longer than expected {limit}",
    )


def _all(facts: RefreshFacts) -> Iterable[Validation]:
    for entries in facts.validations.values():
        yield from entries


def _passes(validations: Validations, gate: frozenset[str]) -> bool:
    """Every listed validation of the gate succeeds; one that is not listed does not stand in the way."""
    return all(entry[1] == "success" for entries in validations.values() for entry in entries if entry[0] in gate)


def failing_messages(validations: Validations) -> str:
    """$FAILING_VALIDATIONS: the messages of all that failed, sorted."""
    return " ; ".join(
        sorted(entry[2] for entries in validations.values() for entry in entries if entry[1] == "failure")
    )


def _hardware_info(validations: Validations) -> str:
    return f"Host does not meet the minimum hardware requirements: {failing_messages(validations)}"


def next_deadline_s(
    status: str,
    *,
    stage: str,
    seen_disconnected: bool,
    checked_in_at_s: float,
    status_updated_at_s: float,
    stage_updated_at_s: float,
    timeouts: Timeouts,
) -> float | None:
    """The time after which a refresh may come out differently although nothing was reported; None for never.

    seen_disconnected: the last refresh found the host disconnected already, so only a report brings it back.
    """
    if status in RECLAIMING:
        return status_updated_at_s + timeouts.reclaim_s
    deadlines: list[float] = []
    if not seen_disconnected and not is_rebooting_or_later(stage):
        deadlines.append(checked_in_at_s + timeouts.max_disconnection_s)
    if status == "installing":
        deadlines.append(status_updated_at_s + timeouts.installing_s)
    if status == "installing-in-progress" and stage:
        deadlines.append(stage_updated_at_s + timeouts.of_stage(stage))
    return min(deadlines, default=None)
