"""Runs every validation that applies to a host."""

from __future__ import annotations

import functools
from collections.abc import Callable

from labsim.controllers.cim.rows import Validation, Validations
from labsim.controllers.cim.validations import hardware, network
from labsim.controllers.cim.validations.context import SUCCESS, Outcome, ValidationContext

Check = Callable[[ValidationContext], Outcome | None]

_POOL_HARDWARE: tuple[tuple[str, Check], ...] = (
    ("has-inventory", hardware.has_inventory),
    ("inventory-not-partially-truncated", hardware.inventory_not_partially_truncated),
    ("inventory-not-fully-truncated", hardware.inventory_not_fully_truncated),
    ("has-min-cpu-cores", hardware.has_min_cpu_cores),
    ("has-min-memory", hardware.has_min_memory),
    ("has-min-valid-disks", hardware.has_min_valid_disks),
    ("hostname-valid", hardware.hostname_valid),
    ("has-cpu-cores-for-role", hardware.has_cpu_cores_for_role),
    ("has-memory-for-role", hardware.has_memory_for_role),
    ("sufficient-installation-disk-speed", hardware.installation_disk_speed),
    ("compatible-agent", hardware.compatible_agent),
    ("no-skip-installation-disk", hardware.no_skip_installation_disk),
    ("no-skip-missing-disk", hardware.no_skip_missing_disk),
)
_BOUND_HARDWARE: tuple[tuple[str, Check], ...] = (
    *_POOL_HARDWARE,
    ("hostname-unique", hardware.hostname_unique),
    ("compatible-with-cluster-platform", hardware.compatible_with_cluster_platform),
)
_POOL_NETWORK: tuple[tuple[str, Check], ...] = (
    ("connected", network.connected),
    ("media-connected", network.media_connected),
    ("has-default-route", network.has_default_route),
    ("ntp-synced", network.ntp_synced),
    ("time-synced-between-host-and-service", network.time_synced_with_service),
    ("container-images-available", network.container_images),
    ("valid-platform-network-settings", network.platform_network_settings),
)
_BOUND_NETWORK: tuple[tuple[str, Check], ...] = (
    *_POOL_NETWORK,
    ("machine-cidr-defined", network.machine_cidr_defined),
    ("belongs-to-machine-cidr", network.belongs_to_machine_cidr),
    ("belongs-to-majority-group", network.belongs_to_majority_group),
    ("mtu-valid", network.belongs_to_majority_group),
    ("sufficient-network-latency-requirement-for-role", network.network_latency),
    ("sufficient-packet-loss-requirement-for-role", network.packet_loss),
    ("ignition-downloadable", network.ignition_downloadable),
    ("api-domain-name-resolved-correctly", network.domain_name_resolved(0, "API load balancer")),
    ("api-int-domain-name-resolved-correctly", network.domain_name_resolved(1, "internal API load balancer")),
    ("apps-domain-name-resolved-correctly", network.domain_name_resolved(2, "application ingress")),
    ("dns-wildcard-not-configured", network.dns_wildcard),
    ("non-overlapping-subnets", network.non_overlapping_subnets),
    ("no-ip-collisions-in-network", network.no_ip_collisions),
)
# Operators that the service knows by their validations; none of them is enabled on a cluster that was imported.
OPERATORS = {
    "amd-gpu": "AMD GPU",
    "authorino": "Authorino",
    "cnv": "cnv",
    "fence-agents-remediation": "Fence Agents Remediation",
    "kmm": "Kernel Module Management",
    "kube-descheduler": "Kube Descheduler",
    "lso": "lso",
    "lvm": "lvm",
    "mce": "mce",
    "mtv": "mtv",
    "nmstate": "nmstate",
    "node-feature-discovery": "Node Feature Discovery",
    "node-healthcheck": "Node Health Check",
    "node-maintenance": "Node Maintenance",
    "numa-resources": "Numa Resources",
    "nvidia-gpu": "NVIDIA GPU",
    "oadp": "OADP",
    "odf": "odf",
    "openshift-ai": "OpenShift AI",
    "osc": "osc",
    "pipelines": "Pipelines",
    "self-node-remediation": "Self Node Remediation",
    "serverless": "Serverless",
    "servicemesh": "Service Mesh",
}
_OPERATORS: tuple[Validation, ...] = tuple(
    sorted((f"{name}-requirements-satisfied", SUCCESS, f"{shown} is disabled") for name, shown in OPERATORS.items())
)


def evaluate(context: ValidationContext) -> Validations:
    """The validations of a host by category, each category sorted by id. Those that do not apply are not listed."""
    if context.is_bound:
        return {
            "hardware": _run(_BOUND_HARDWARE, context),
            "network": _run(_BOUND_NETWORK, context),
            "operators": _OPERATORS,
        }
    return {"hardware": _run(_POOL_HARDWARE, context), "network": _run(_POOL_NETWORK, context)}


def _run(checks: tuple[tuple[str, Check], ...], context: ValidationContext) -> tuple[Validation, ...]:
    found: list[Validation] = []
    for name, check in checks:
        outcome = check(context)
        if outcome is not None:
            found.append((name, *outcome))
    found.sort()
    return tuple(found)


def as_document(validations: Validations) -> dict[str, list[dict[str, str]]]:
    """The shape of `validations_info` and of the Agent's `.status.validationsInfo`. Shared: not to be changed."""
    return {category: [_entry(*entry) for entry in entries] for category, entries in validations.items()}


@functools.lru_cache(maxsize=1024)
def _entry(name: str, status: str, message: str) -> dict[str, str]:
    """One validation of a document. Most are the same for all hosts."""
    return {"id": name, "status": status, "message": message}
