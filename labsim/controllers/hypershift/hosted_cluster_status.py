"""Status and conditions of a HostedCluster (fact sheet, sections 1.3 and 1.4)."""

from __future__ import annotations

from typing import Any

from labsim.controllers.hypershift.components import is_available
from labsim.controllers.hypershift.desired import Condition, write_status
from labsim.controllers.hypershift.kubeconfigs import url_host
from labsim.controllers.hypershift.publishing import endpoint_of, strategy_of
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import Program, now
from labsim.model.kinds import HOSTED_CLUSTER
from labsim.model.objects import Object, condition_of, dig, name_of, namespace_of, timestamp

AS_EXPECTED = "AsExpected"
# Copied from the HostedControlPlane as they stand.
_MIRRORED = (
    "InfrastructureReady",
    "EtcdAvailable",
    "KubeAPIServerAvailable",
    "ExternalDNSReachable",
    "ValidHostedControlPlaneConfiguration",
    "ValidReleaseInfo",
    "Degraded",
    "DataPlaneConnectionAvailable",
    "ControlPlaneConnectionAvailable",
)
_FROM_CLUSTER_VERSION = (
    "ClusterVersionSucceeding",
    "ClusterVersionProgressing",
    "ClusterVersionReleaseAccepted",
    "ClusterVersionUpgradeable",
    "ClusterVersionAvailable",
)
NOT_FOUND = Condition("Unknown", "StatusUnknown", "The hosted control plane is not found")


def accepted(problem: str, reason: str, text: str) -> dict[str, Condition | None]:
    """The conditions about what was asked for: configuration, release, credentials."""
    valid = Condition("True", AS_EXPECTED, "Configuration passes validation")
    release = Condition("True", AS_EXPECTED, "Release image is valid")
    return {
        "ValidConfiguration": Condition("False", "InvalidConfiguration", problem) if problem else valid,
        "SupportedHostedCluster": Condition(
            "True", AS_EXPECTED, "HostedCluster is supported by operator configuration"
        ),
        "ValidProxyConfiguration": Condition("True", AS_EXPECTED, "No proxy CA bundle configured"),
        "ValidReleaseImage": Condition("False", reason, text) if reason else release,
        "PlatformCredentialsFound": Condition("True", AS_EXPECTED, "Required platform credentials are found"),
    }


def ignition_available(deployment: Object | None) -> Condition:
    if deployment is None:
        return Condition("False", "NotFound", "Ignition server deployment not found")
    if not is_available(deployment):
        return Condition("False", "WaitingForAvailable", "Ignition server deployment is not yet available")
    return Condition("True", AS_EXPECTED, "Ignition server deployment is available")


def write(
    cluster: Object,
    hcp: Object | None,
    settings: HyperShiftSettings,
    conditions: dict[str, Condition | None],
    fields: dict[str, Any],
) -> Program[Object | None]:
    """Bring a HostedCluster's status up to date from its control plane's (None where there is none yet)."""
    blocked = _blocked_by(conditions)
    for kind in (*_MIRRORED, *_FROM_CLUSTER_VERSION):
        conditions[kind] = _mirrored(hcp, kind)
    conditions["Progressing"] = _progressing(cluster, blocked)
    conditions["Available"] = _available(hcp, blocked)
    moment_s = yield from now()
    fields["version"] = _version(cluster, hcp, settings, timestamp(moment_s))
    endpoint = dig(hcp, "status", "controlPlaneEndpoint")
    if endpoint:
        fields["controlPlaneEndpoint"] = endpoint
    fields["payloadArch"] = "Multi" if "multi" in str(dig(cluster, "spec", "release", "image")) else "AMD64"
    return (
        yield from write_status(
            HOSTED_CLUSTER, namespace_of(cluster), name_of(cluster), conditions=conditions, fields=fields
        )
    )


def _mirrored(hcp: Object | None, kind: str) -> Condition:
    entry = None if hcp is None else condition_of(hcp, kind)
    if entry is not None:
        return Condition(entry["status"], entry.get("reason", ""), entry.get("message", ""))
    if kind in _FROM_CLUSTER_VERSION:
        return Condition("Unknown", "StatusUnknown", "Condition not found in the CVO.")
    if hcp is None or kind == "Degraded":
        return NOT_FOUND
    return Condition("Unknown", "StatusUnknown", "Condition not found in the HCP")


def _blocked_by(conditions: dict[str, Condition | None]) -> str:
    for kind in ("ValidConfiguration", "ValidReleaseImage", "SupportedHostedCluster"):
        entry = conditions.get(kind)
        if entry is not None and entry.status == "False":
            return f"{kind} condition is false: {entry.message}"
    return ""


def _progressing(cluster: Object, blocked: str) -> Condition:
    if blocked:
        return Condition("False", "Blocked", blocked)
    wanted = dig(cluster, "spec", "release", "image")
    if dig(cluster, "status", "version", "desired", "image") == wanted:
        return Condition("False", AS_EXPECTED, "HostedCluster is at expected version")
    return Condition("True", "Progressing", "HostedCluster is deploying, upgrading, or reconfiguring")


def _available(hcp: Object | None, blocked: str) -> Condition:
    entry = None if hcp is None else condition_of(hcp, "Available")
    if entry is None:
        return Condition("False", "WaitingForAvailable", blocked or "Waiting for hosted control plane to be healthy")
    return Condition(entry["status"], entry.get("reason", ""), entry.get("message", ""))


def _version(cluster: Object, hcp: Object | None, settings: HyperShiftSettings, moment: str) -> Object:
    """The history as the cluster's own ClusterVersion tells it; before that, one Partial entry."""
    image = str(dig(cluster, "spec", "release", "image"))
    from_guest: Object | None = dig(hcp, "status", "versionStatus")
    if from_guest:
        return from_guest
    present: Object | None = dig(cluster, "status", "version")
    if present and dig(present, "desired", "image") == image:
        return present
    entry = {
        "state": "Partial",
        "startedTime": moment,
        "version": "",
        "image": image,
        "verified": False,
        "completionTime": None,
    }
    history = [entry, *dig(present, "history", default=[])]
    return {
        "desired": {"image": image, "version": settings.version_of(image) or ""},
        "history": history,
        "observedGeneration": cluster["metadata"].get("generation", 1),
    }


def oauth_callback(cluster: Object, service: Object | None, routes_domain: str) -> str:
    """Where identity providers send users back to, "" before the OAuth server has an address."""
    strategy = strategy_of(cluster, "OAuthServer")
    found = None if service is None else endpoint_of(service, strategy, routes_domain)
    if found is None:
        return ""
    return f"https://{url_host(found.host)}:{found.port}/oauth2callback/[identity-provider-name]"
