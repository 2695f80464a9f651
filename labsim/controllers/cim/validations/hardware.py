"""Validations of the category `hardware`."""

from __future__ import annotations

import re

from labsim.controllers.cim.validations.context import (
    ERROR,
    FAILURE,
    PENDING,
    SUCCESS,
    Outcome,
    ValidationContext,
)

MIB = 2**20
GIB = 2**30
MEMORY_TOLERANCE_MIB = 100
MISSING_INVENTORY: Outcome = (PENDING, "Missing inventory")
HOSTNAME_PATTERN = "^[a-z0-9][a-z0-9-]{0,62}(?:[.][a-z0-9-]{1,63})*$"
MAX_HOSTNAME_LENGTH = 63
FORBIDDEN_HOSTNAMES = (
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
)
_HOSTNAME = re.compile(HOSTNAME_PATTERN)


def gib(size_bytes: int) -> str:
    """A memory size as the messages show it: `7.66 GiB`, or MiB below one GiB."""
    if size_bytes >= GIB:
        return f"{size_bytes / GIB:.2f} GiB"
    return f"{size_bytes // MIB} MiB"


def hostname_problem(hostname: str) -> str | None:
    """Why a hostname cannot be had, in the service's words; None where it can."""
    if hostname in FORBIDDEN_HOSTNAMES:
        return f"The host name {hostname} is forbidden"
    if len(hostname) > MAX_HOSTNAME_LENGTH or not _HOSTNAME.match(hostname):
        return f"Hostname {hostname} is forbidden, hostname should match pattern {HOSTNAME_PATTERN}"
    return None


def has_inventory(context: ValidationContext) -> Outcome:
    if context.host.inventory is None:
        return FAILURE, "Inventory has not been received for the host"
    return SUCCESS, "Valid inventory exists for the host"


def inventory_not_partially_truncated(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    if inventory.truncation == "partial":
        return FAILURE, "Inventory is partially truncated"
    return SUCCESS, "Inventory is not truncated"


def inventory_not_fully_truncated(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    if inventory.truncation == "full":
        return FAILURE, "Inventory is fully truncated"
    return SUCCESS, "Inventory is not truncated"


def has_min_cpu_cores(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    needed = context.settings.minimums.any_cpu_cores
    if inventory.cpu_count >= needed:
        return SUCCESS, "Sufficient CPU cores"
    return FAILURE, (
        "The host is not eligible to participate in Openshift Cluster because the minimum required CPU cores for any "
        f"role is {needed}, found only {inventory.cpu_count}"
    )


def has_min_memory(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    needed_mib = context.settings.minimums.any_memory_mib
    tolerance_mib = MEMORY_TOLERANCE_MIB
    if inventory.memory_method == "meminfo":
        # The kernel's own figure misses what the firmware keeps for itself.
        tolerance_mib += needed_mib * 2 // 100
    if inventory.physical_bytes >= (needed_mib - tolerance_mib) * MIB:
        return SUCCESS, "Sufficient minimum RAM"
    return FAILURE, (
        "The host is not eligible to participate in Openshift Cluster because the minimum required RAM for any role "
        f"is {gib(needed_mib * MIB)}, found only {gib(inventory.physical_bytes)}"
    )


def has_min_valid_disks(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    if not inventory.disks:
        return ERROR, "Failed to detected disks"
    if any(disk.eligible for disk in inventory.disks):
        return SUCCESS, "Sufficient disk capacity"
    return FAILURE, "No eligible disks were found, please check specific disks to see why they are not eligible"


def has_cpu_cores_for_role(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    role = context.host.effective_role
    needed = context.settings.minimums.role(role).cpu_cores
    if inventory.cpu_count >= needed:
        return SUCCESS, f"Sufficient CPU cores for role {role}"
    return FAILURE, f"Require at least {needed} CPU cores for {role} role, found only {inventory.cpu_count}"


def has_memory_for_role(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    role = context.host.effective_role
    needed_mib = context.settings.minimums.role(role).memory_mib
    if inventory.physical_bytes >= (needed_mib - MEMORY_TOLERANCE_MIB) * MIB:
        return SUCCESS, f"Sufficient RAM for role {role}"
    return FAILURE, (
        f"Require at least {gib(needed_mib * MIB)} RAM for {role} role, found only {gib(inventory.physical_bytes)}"
    )


def hostname_valid(context: ValidationContext) -> Outcome:
    host = context.host
    if host.inventory is None:
        return FAILURE, "Missing inventory"
    problem = hostname_problem(host.hostname)
    return (FAILURE, problem) if problem else (SUCCESS, f"Hostname {host.hostname} is allowed")


def hostname_unique(context: ValidationContext) -> Outcome:
    host, cluster = context.host, context.cluster
    if host.inventory is None or cluster is None:
        return MISSING_INVENTORY
    if len(cluster.hostnames.get(host.hostname, ())) > 1:
        return FAILURE, f"Hostname {host.hostname} is not unique in cluster"
    return SUCCESS, f"Hostname {host.hostname} is unique in cluster"


def installation_disk_speed(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    if not context.host.installation_disk_id:
        return ERROR, "Validation error"
    return SUCCESS, "Speed of installation disk has not yet been measured"


def compatible_with_cluster_platform(context: ValidationContext) -> Outcome:
    if context.host.inventory is None:
        return MISSING_INVENTORY
    return SUCCESS, "Host is compatible with cluster platform baremetal"


def compatible_agent(context: ValidationContext) -> Outcome:
    if context.agent_is_compatible:
        return SUCCESS, "Host agent is compatible with the service"
    return FAILURE, (
        "This host's agent is in the process of being upgraded to a compatible version. This might take a few minutes"
    )


def no_skip_installation_disk(_context: ValidationContext) -> Outcome:
    return SUCCESS, "No request to skip formatting of the installation disk"


def no_skip_missing_disk(_context: ValidationContext) -> Outcome:
    return SUCCESS, "All disks that have skipped formatting are present in the host inventory"
