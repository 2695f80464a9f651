"""The conditions of an Agent, by the state of its host (cim-resources 3.4). Pure."""

from __future__ import annotations

from labsim.controllers.cim.errors import ServiceError
from labsim.controllers.cim.patching import Condition
from labsim.controllers.cim.rows import Host, Validations

AGENT_IS_READY = "The agent is ready to begin the installation"
AGENT_NOT_READY = "The agent is not ready to begin the installation"
UNBOUND_MESSAGE = "The agent is not bound to any cluster deployment"
BOUND_MESSAGE = "The agent is bound to a cluster deployment"
BINDING_MESSAGE = "The agent is currently binding to a cluster deployment"
UNBINDING_MESSAGE = "The agent is currently unbinding from a cluster deployment"
NOT_AVAILABLE: Condition = ("Unknown", "NotAvailable", "Information not available")

_POOL = ("discovering-unbound", "disconnected-unbound", "insufficient-unbound", "known-unbound", "disabled-unbound")
_NOT_READY = (
    "discovering-unbound",
    "disconnected-unbound",
    "insufficient-unbound",
    "discovering",
    "disconnected",
    "insufficient",
    "pending-for-input",
)
_READY = ("known-unbound", "known")
_INSTALLING = (
    "preparing-for-installation",
    "preparing-successful",
    "installing",
    "installing-in-progress",
    "installing-pending-user-action",
)
_INSTALLED = ("installed", "added-to-existing-cluster")
_UNBINDING = ("unbinding", "unbinding-pending-user-action")


def spec_synced(error: ServiceError | None) -> Condition:
    if error is None:
        return "True", "SyncOK", "The Spec has been successfully applied"
    if error.is_input_error:
        return "False", "InputError", f"The Spec could not be synced due to an input error: {error.message}"
    return "False", "BackendError", f"The Spec could not be synced due to backend error: {error.message}"


def connected(status: str) -> Condition:
    if status in ("disconnected", "disconnected-unbound"):
        message = "The agent has not contacted the installation service in some time, user action should be taken"
        return "False", "AgentIsDisconnected", message
    return "True", "AgentIsConnected", "The agent's connection to the installation service is unimpaired"


def requirements_met(status: str, *, approved: bool) -> Condition:
    if status in _READY:
        if approved:
            return "True", "AgentIsReady", AGENT_IS_READY
        return "False", "AgentIsNotApproved", "The agent is not approved"
    if status in _NOT_READY:
        return "False", "AgentNotReady", AGENT_NOT_READY
    if status in _INSTALLING:
        return "True", "AgentAlreadyInstalling", "Installation already started and is in progress"
    if status in _INSTALLED or status == "error":
        return "True", "AgentInstallationStopped", "The agent installation stopped"
    return _moving(status) or _unknown_status(status)


def validated(status: str, validations: Validations | None) -> Condition:
    moving = _moving(status)
    if moving is not None:
        return moving
    if status in ("insufficient", "insufficient-unbound"):
        return "False", "ValidationsFailing", f"The agent's validations are failing: {_failing(validations)}"
    if status == "pending-for-input":
        message = f"The agent's validations are pending for user: {_failing(validations)}"
        return "False", "ValidationsUserPending", message
    if validations is None:
        return "Unknown", "ValidationsUnknown", "The agent's validations have not yet been calculated"
    return "True", "ValidationsPassing", "The agent's validations are passing"


def installed(status: str, state_info: str) -> Condition:
    if status in _POOL[:4] or status in ("discovering", "disconnected", "insufficient", "pending-for-input", "known"):
        return "False", "InstallationNotStarted", "The installation has not yet started"
    if status in _INSTALLING:
        return "False", "InstallationInProgress", f"The installation is in progress: {state_info}"
    if status in _INSTALLED:
        return "True", "InstallationCompleted", f"The installation has completed: {state_info}"
    if status == "error":
        return "False", "InstallationFailed", f"The installation has failed: {state_info}"
    return _moving(status) or _unknown_status(status)


def bound(status: str) -> Condition:
    if status in _POOL:
        return "False", "Unbound", UNBOUND_MESSAGE
    if status == "unbinding-pending-user-action":
        message = "The agent is currently unbinding; Pending host reboot from infraenv image"
        return "False", "UnbindingPendingUserAction", message
    # reclaiming and reclaiming-rebooting fall in the default branch: the agent still counts as bound.
    return _moving(status) or ("True", "Bound", BOUND_MESSAGE)


def conditions_of(host: Host, error: ServiceError | None) -> dict[str, Condition]:
    """All six, by type, in upstream's order."""
    return {
        "SpecSynced": spec_synced(error),
        "Connected": connected(host.status),
        "RequirementsMet": requirements_met(host.status, approved=host.approved),
        "Validated": validated(host.status, host.validations),
        "Installed": installed(host.status, host.status_info),
        "Bound": bound(host.status),
    }


def conditions_without_host(error: ServiceError) -> dict[str, Condition]:
    """There is no host behind the Agent."""
    others = ("Connected", "RequirementsMet", "Validated", "Installed", "Bound")
    return {"SpecSynced": spec_synced(error), **dict.fromkeys(others, NOT_AVAILABLE)}


def _moving(status: str) -> Condition | None:
    if status == "binding":
        return "False", "Binding", BINDING_MESSAGE
    if status in _UNBINDING:
        return "False", "Unbinding", UNBINDING_MESSAGE
    return None


def _unknown_status(status: str) -> Condition:
    return "Unknown", "UnknownStatus", f"The installation status is currently not recognized: {status}"


def _failing(validations: Validations | None) -> str:
    """All messages whose status is not success or disabled. Upstream's order is random; ours is by category and id."""
    return ",".join(
        entry[2]
        for entries in (validations or {}).values()
        for entry in entries
        if entry[1] not in ("success", "disabled")
    )
