"""The checks of a NodePool that need no writing (fact sheet, section 2.1)."""

from __future__ import annotations

from labsim.controllers.hypershift.desired import Condition
from labsim.controllers.hypershift.settings import minor_of
from labsim.model.objects import Object, condition_of, dig

Conditions = dict[str, Condition | None]

_ARCHITECTURES = ("amd64", "arm64", "ppc64le")
MAX_SKEW = 3  # minor versions that nodes may be behind their control plane


def scaling_conditions(pool: Object) -> Conditions:
    scaling = dig(pool, "spec", "autoScaling")
    if scaling:
        text = f"Maximum nodes: {scaling['max']}, Minimum nodes: {scaling['min']}"
        enabled = Condition("True", "AsExpected", text)
    else:
        enabled = Condition("False", "AsExpected")
    return {"AutoscalingEnabled": enabled, "UpdateManagementEnabled": Condition("True", "AsExpected")}


def ignition_problem(cluster: Object, ca: Object | None) -> Condition | None:
    """Why nodes cannot fetch their Ignition yet; None when they can."""
    if not dig(cluster, "status", "ignitionEndpoint"):
        return Condition("False", "IgnitionEndpointMissing", "Ignition endpoint not available, waiting")
    if ca is None:
        return Condition("False", "IgnitionCACertMissing", "still waiting for ignition CA cert Secret to exist")
    if not dig(ca, "data", "tls.crt"):
        return Condition("False", "IgnitionCACertMissing", "CA Secret is missing tls.crt key")
    return None


def architecture_condition(pool: Object) -> Conditions:
    arch = str(dig(pool, "spec", "arch", default="amd64"))
    text = f"CPU arch {arch} is not supported for platform: Agent, use 'amd64' instead"
    valid = Condition("True", "AsExpected")
    return {"ValidArchPlatform": valid if arch in _ARCHITECTURES else Condition("False", "InvalidArchPlatform", text)}


def skew_condition(cluster: Object, version: str) -> Condition:
    """Nodes are never newer than their control plane and at most three minor versions older."""
    history = dig(cluster, "status", "version", "history", default=[])
    plane = next((entry.get("version") for entry in history if entry.get("version")), "")
    plane = plane or str(dig(cluster, "status", "version", "desired", "version", default=""))
    if not plane:
        text = "HostedCluster version is not available yet, waiting for version information"
        return Condition("Unknown", "ValidationFailed", text)
    skew = minor_of(plane) - minor_of(version)
    if skew < 0:
        text = f"NodePool version {version} cannot be higher than the HostedCluster version {plane}"
        return Condition("False", "UnsupportedSkew", text)
    if skew > MAX_SKEW:
        text = f"NodePool minor version {version} is less than the minimum supported for HostedCluster version {plane}"
        return Condition("False", "UnsupportedSkew", text)
    return Condition("True", "AsExpected", "Release image version is valid")


def machine_set_ready(machines: Object) -> Condition:
    """Ready as the MachineSet or MachineDeployment says it; where it says nothing, from its counts."""
    entry = condition_of(machines, "Ready") or condition_of(machines, "Available")
    if entry is not None:
        return Condition(entry["status"], entry.get("reason") or "AsExpected", entry.get("message", ""))
    wanted = int(dig(machines, "spec", "replicas", default=0))
    available = int(dig(machines, "status", "availableReplicas", default=0))
    if available >= wanted:
        return Condition("True", "AsExpected")
    text = f"Minimum availability requires {wanted} replicas, current {available} available"
    return Condition("False", "WaitingForAvailableMachines", text)
