"""The Agent's conditions, row by row of the fact sheet's table."""

from __future__ import annotations

import pytest
from cim_lab import Service

from labsim.controllers.cim.conditions import conditions_of, conditions_without_host, spec_synced
from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.patching import with_condition

F, T, U = "False", "True", "Unknown"
PASSING = (T, "ValidationsPassing")
TABLE = {
    "discovering-unbound": ((F, "AgentNotReady"), PASSING, (F, "InstallationNotStarted"), (F, "Unbound")),
    "disconnected-unbound": ((F, "AgentNotReady"), PASSING, (F, "InstallationNotStarted"), (F, "Unbound")),
    "insufficient-unbound": (
        (F, "AgentNotReady"), (F, "ValidationsFailing"), (F, "InstallationNotStarted"), (F, "Unbound")),
    "known-unbound": ((F, "AgentIsNotApproved"), PASSING, (F, "InstallationNotStarted"), (F, "Unbound")),
    "disabled-unbound": ((U, "UnknownStatus"), PASSING, (U, "UnknownStatus"), (F, "Unbound")),
    "binding": ((F, "Binding"), (F, "Binding"), (F, "Binding"), (F, "Binding")),
    "discovering": ((F, "AgentNotReady"), PASSING, (F, "InstallationNotStarted"), (T, "Bound")),
    "disconnected": ((F, "AgentNotReady"), PASSING, (F, "InstallationNotStarted"), (T, "Bound")),
    "insufficient": ((F, "AgentNotReady"), (F, "ValidationsFailing"), (F, "InstallationNotStarted"), (T, "Bound")),
    "pending-for-input": (
        (F, "AgentNotReady"), (F, "ValidationsUserPending"), (F, "InstallationNotStarted"), (T, "Bound")),
    "known": ((F, "AgentIsNotApproved"), PASSING, (F, "InstallationNotStarted"), (T, "Bound")),
    "installing": ((T, "AgentAlreadyInstalling"), PASSING, (F, "InstallationInProgress"), (T, "Bound")),
    "installing-in-progress": ((T, "AgentAlreadyInstalling"), PASSING, (F, "InstallationInProgress"), (T, "Bound")),
    "installing-pending-user-action": (
        (T, "AgentAlreadyInstalling"), PASSING, (F, "InstallationInProgress"), (T, "Bound")),
    "added-to-existing-cluster": (
        (T, "AgentInstallationStopped"), PASSING, (T, "InstallationCompleted"), (T, "Bound")),
    "error": ((T, "AgentInstallationStopped"), PASSING, (F, "InstallationFailed"), (T, "Bound")),
    "unbinding": ((F, "Unbinding"), (F, "Unbinding"), (F, "Unbinding"), (F, "Unbinding")),
    "unbinding-pending-user-action": (
        (F, "Unbinding"), (F, "Unbinding"), (F, "Unbinding"), (F, "UnbindingPendingUserAction")),
    "reclaiming": ((U, "UnknownStatus"), PASSING, (U, "UnknownStatus"), (T, "Bound")),
    "reclaiming-rebooting": ((U, "UnknownStatus"), PASSING, (U, "UnknownStatus"), (T, "Bound")),
    "cancelled": ((U, "UnknownStatus"), PASSING, (U, "UnknownStatus"), (T, "Bound")),
    "preparing-failed": ((U, "UnknownStatus"), PASSING, (U, "UnknownStatus"), (T, "Bound")),
}  # fmt: skip


@pytest.mark.parametrize("status", TABLE)
def test_a_row_of_the_table(status: str) -> None:
    host = Service().host()
    host.status = status
    host.validations = {"network": (("connected", "success", "Host is connected"),)}
    found = conditions_of(host, None)
    shown = tuple(found[kind][:2] for kind in ("RequirementsMet", "Validated", "Installed", "Bound"))
    assert shown == TABLE[status]
    disconnected = status in ("disconnected", "disconnected-unbound")
    assert found["Connected"][1] == ("AgentIsDisconnected" if disconnected else "AgentIsConnected")


def test_before_any_validation_nothing_is_known() -> None:
    host = Service().host()
    assert conditions_of(host, None)["Validated"] == (
        U, "ValidationsUnknown", "The agent's validations have not yet been calculated",
    )  # fmt: skip


def test_an_approved_known_agent_is_ready() -> None:
    host = Service().host()
    host.status, host.approved = "known-unbound", True
    assert conditions_of(host, None)["RequirementsMet"] == (
        T, "AgentIsReady", "The agent is ready to begin the installation",
    )  # fmt: skip


def test_failing_validations_list_all_that_did_not_succeed() -> None:
    host = Service().host()
    host.status = "insufficient"
    host.validations = {"hardware": (("a", "failure", "m1"), ("b", "success", "no"), ("c", "pending", "m2")),
                        "network": (("d", "disabled", "no"), ("e", "error", "m3"))}  # fmt: skip
    assert conditions_of(host, None)["Validated"][2] == "The agent's validations are failing: m1,m2,m3"


def test_the_state_s_text_ends_the_installed_message() -> None:
    host = Service().host()
    host.status, host.status_info = "added-to-existing-cluster", "Done"
    assert conditions_of(host, None)["Installed"][2] == "The installation has completed: Done"


def test_input_and_backend_errors_differ() -> None:
    assert spec_synced(ServiceError(409, "no"))[1:] == (
        "InputError", "The Spec could not be synced due to an input error: no",
    )  # fmt: skip
    assert spec_synced(UntypedError("no"))[1:] == (
        "BackendError", "The Spec could not be synced due to backend error: no",
    )  # fmt: skip
    assert conditions_without_host(UntypedError("no"))["Bound"] == (U, "NotAvailable", "Information not available")


def test_a_transition_time_moves_with_the_status_only() -> None:
    first = with_condition([], "Bound", "True", "Bound", "a", 0.0)
    assert first[0]["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    same = with_condition(first, "Bound", "True", "Bound", "a", 60.0)
    assert same is first
    told = with_condition(first, "Bound", "True", "Other", "b", 60.0)
    assert (told[0]["reason"], told[0]["lastTransitionTime"]) == ("Other", "1970-01-01T00:00:00Z")
    moved = with_condition(told, "Bound", "False", "Unbound", "c", 120.0)
    assert moved[0]["lastTransitionTime"] == "1970-01-01T00:02:00Z"
    probed = with_condition(first, "Bound", "True", "Bound", "new", 60.0, probe_time=True)
    assert probed[0]["lastTransitionTime"] == probed[0]["lastProbeTime"] == "1970-01-01T00:01:00Z"
