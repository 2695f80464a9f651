"""Validations of the category `network`."""

from __future__ import annotations

import base64
import functools
import ipaddress
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import orjson

from labsim.controllers.cim.host_states import MEDIA_LOST
from labsim.controllers.cim.kubeconfig_text import servers_of
from labsim.controllers.cim.rows import SERVICE_AHEAD_LIMIT_S, clock_state
from labsim.controllers.cim.validations.context import (
    ERROR,
    FAILURE,
    PENDING,
    SUCCESS,
    Outcome,
    ValidationContext,
)
from labsim.controllers.cim.validations.hardware import MISSING_INVENTORY
from labsim.model.objects import timestamp

# Files of a filtered Ignition that mean: the nodes resolve the cluster's names by themselves.
OWN_DNS_FILES = ("/etc/kubernetes/manifests/coredns.yaml", "/etc/kubernetes/manifests/keepalived.yaml")
KUBECONFIG_FILE = "/etc/kubernetes/kubeconfig"


def connected(context: ValidationContext) -> Outcome:
    return (SUCCESS, "Host is connected") if context.connected else (FAILURE, "Host is disconnected")


def media_connected(context: ValidationContext) -> Outcome:
    return (SUCCESS, "Media device is connected") if context.host.media_connected else (FAILURE, MEDIA_LOST)


def machine_cidr_defined(_context: ValidationContext) -> Outcome:
    return SUCCESS, "No machine network CIDR validation needed: Day2 cluster"


def belongs_to_machine_cidr(context: ValidationContext) -> Outcome:
    return MISSING_INVENTORY if context.host.inventory is None else machine_cidr_defined(context)


def belongs_to_majority_group(_context: ValidationContext) -> Outcome:
    return SUCCESS, "Day2 host is not required to be connected to other hosts in the cluster"


def network_latency(_context: ValidationContext) -> Outcome:
    return SUCCESS, "Network latency requirement has been satisfied."


def packet_loss(_context: ValidationContext) -> Outcome:
    return SUCCESS, "Packet loss requirement has been satisfied."


def ignition_downloadable(context: ValidationContext) -> Outcome:
    answer = context.host.api_vip
    if answer is None or context.host.inventory is None:
        return PENDING, "Ignition is not yet available, pending API connectivity"
    if answer.is_success:
        return SUCCESS, "Ignition is downloadable"
    return FAILURE, (
        f"This host has failed to download the ignition file from {answer.url} with the following error: "
        f"{answer.error}. Please ensure the host can reach this URL"
    )


def has_default_route(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return PENDING, "Missing default routing information."
    if inventory.has_default_route:
        return SUCCESS, "Host has been configured with at least one default route."
    return FAILURE, "Host has not yet been configured with a default route."


def domain_name_resolved(index: int, what: str) -> Callable[[ValidationContext], Outcome]:
    """The validation of one of the cluster's three names; `what` says whose address it is."""

    def validate(context: ValidationContext) -> Outcome:
        host, cluster = context.host, context.cluster
        if cluster is None or not cluster.base_domain:
            return ERROR, "Unexpected status ValidationError"
        domain = cluster.domains[index]
        passed = SUCCESS, f"Domain name resolution for the {domain} domain was successful or not required"
        if cluster.ignition_answers is None:
            return PENDING, (
                f"DNS validation for the {domain} domain cannot be completed at the moment. "
                "This could be due to other validations"
            )
        if cluster.ignition_answers:
            return passed
        if host.resolutions is None:
            return ERROR, f"Error while evaluating DNS resolution on this host for the {domain} domain"
        found = host.resolutions.get(domain, ())
        own = host.inventory.addresses() if host.inventory else []
        if found and not any(address in own for address in found):
            return passed
        return FAILURE, (
            f"Couldn't resolve domain name {domain} on the host. To continue installation, create the necessary DNS "
            f"entries to resolve this domain name to your cluster's {what} IP address"
        )

    return validate


def dns_wildcard(_context: ValidationContext) -> Outcome:
    return SUCCESS, "DNS wildcard check is not required for day2"


def ntp_synced(context: ValidationContext) -> Outcome | None:
    if any(state == "synced" for _, state in context.host.ntp_sources):
        return SUCCESS, "Host NTP is synced"
    infra_env = context.infra_env
    has_sources = infra_env is not None and (infra_env.ntp_sources or infra_env.additional_ntp_sources)
    if not context.is_bound and not has_sources:
        return None
    return FAILURE, "Host couldn't synchronize with any NTP server"


def time_synced_with_service(context: ValidationContext) -> Outcome:
    host = context.host
    state = clock_state(host.timestamp_s, host.checked_in_at_s)
    if state == "pending":
        return PENDING, "Missing host time, can't determine synchronization between host and service"
    if state == "success":
        return SUCCESS, "Host clock is synchronized with service"
    behind = host.timestamp_s < host.checked_in_at_s - SERVICE_AHEAD_LIMIT_S
    relation = (
        "service time is ahead of host's at least for 20 minutes"
        if behind
        else ("host time is ahead of service's at least for an hour")
    )
    return FAILURE, (
        f"Host clock is not synchronized, {relation}, please configure an NTP server via DHCP. "
        f"Service time: {timestamp(host.checked_in_at_s)}"
    )


def container_images(_context: ValidationContext) -> Outcome:
    return SUCCESS, "All required container images were either pulled successfully or no attempt was made to pull them"


def platform_network_settings(context: ValidationContext) -> Outcome:
    inventory = context.host.inventory
    if inventory is None:
        return MISSING_INVENTORY
    product = str(inventory.vendor.get("product_name") or "")
    if product == "OpenStack Compute":
        return FAILURE, (f"Platform {product} is allowed only for Single Node OpenShift or user-managed networking")
    return SUCCESS, f"Platform {product} is allowed"


def non_overlapping_subnets(context: ValidationContext) -> Outcome:
    if context.host.inventory is None:
        return MISSING_INVENTORY
    return SUCCESS, "Host subnets are not overlapping"


def no_ip_collisions(context: ValidationContext) -> Outcome:
    return SUCCESS, f"Skipping validation for day 2 host {context.host.id}"


@functools.lru_cache(maxsize=16)
def passes_without_dns(filtered_ignition: str) -> bool:
    """Whether the cluster's own Ignition makes its names known to the nodes, so that no DNS entries are needed."""
    try:
        files = orjson.loads(filtered_ignition)["storage"]["files"]
        paths = {entry["path"]: entry for entry in files}
    except (ValueError, KeyError, TypeError):
        return False
    if any(path in paths for path in OWN_DNS_FILES):
        return True
    source = ((paths.get(KUBECONFIG_FILE) or {}).get("contents") or {}).get("source") or ""
    return _single_server_is_literal(_decoded(source))


def _decoded(source: str) -> str:
    """The text of a data URL."""
    head, comma, data = source.partition(",")
    if not comma:
        return ""
    if head.endswith(";base64"):
        try:
            return base64.b64decode(data).decode(errors="replace")
        except ValueError:
            return ""
    return unquote(data)


def _single_server_is_literal(kubeconfig: str) -> bool:
    servers = servers_of(kubeconfig)
    if len(servers) != 1:
        return False
    host = urlsplit(servers[0]).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
