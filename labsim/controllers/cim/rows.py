"""The rows of the service's database. Times are in-world epoch seconds; 0 means never."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labsim.controllers.cim.inventory import Inventory

AUTO_ASSIGN = "auto-assign"
KIND_HOST = "Host"
KIND_DAY2 = "AddToExistingClusterHost"
ADD_HOSTS_CLUSTER = "AddHostsCluster"

Validation = tuple[str, str, str]  # id, status, message
Validations = dict[str, tuple[Validation, ...]]  # by category, each sorted by id


class Host:
    """One host of one InfraEnv. `agent_namespace` is where its Agent lives."""

    __slots__ = (
        "agent_namespace",
        "agent_version",
        "api_vip",
        "approved",
        "bootstrap",
        "checked_in_at_s",
        "cluster_id",
        "connectivity",
        "created_at_s",
        "events_sent_at_s",
        "id",
        "ignition_headers",
        "ignition_overrides",
        "ignition_token",
        "infra_env_id",
        "installation_disk_id",
        "installation_disk_path",
        "installer_args",
        "inventory",
        "inventory_digest",
        "kind",
        "logs_collected_at_s",
        "logs_state",
        "machine_config_pool",
        "media_connected",
        "node_labels",
        "ntp_sources",
        "pointer_ignition",
        "polls",
        "progress_info",
        "registered_at_s",
        "requested_hostname",
        "resolutions",
        "role",
        "stage",
        "stage_started_at_s",
        "stage_updated_at_s",
        "status",
        "status_info",
        "status_updated_at_s",
        "suggested_role",
        "timestamp_s",
        "trigger_s",
        "updated_at_s",
        "validations",
        "validations_document",
        "validations_text",
    )

    def __init__(self, host_id: str, infra_env_id: str, agent_namespace: str, now_s: float) -> None:
        self.id = host_id
        self.infra_env_id = infra_env_id
        self.agent_namespace = agent_namespace
        self.cluster_id = ""
        self.kind = KIND_HOST
        self.status = ""
        self.status_info = ""
        self.status_updated_at_s = now_s
        self.trigger_s = now_s
        self.created_at_s = now_s
        self.updated_at_s = now_s
        self.registered_at_s = now_s
        self.checked_in_at_s = now_s
        self.timestamp_s = 0
        self.agent_version = ""
        self.inventory: Inventory | None = None
        self.inventory_digest = b""  # of the step's output that the inventory comes from
        self.media_connected = True
        self.role = AUTO_ASSIGN
        self.suggested_role = ""
        self.bootstrap = False
        self.stage = ""
        self.progress_info = ""
        self.stage_started_at_s = 0.0
        self.stage_updated_at_s = 0.0
        self.ntp_sources: tuple[tuple[str, str], ...] = ()
        self.requested_hostname = ""
        self.approved = False
        self.installer_args = ""
        self.ignition_overrides = ""
        self.machine_config_pool = ""
        self.ignition_token = ""
        self.ignition_headers: Mapping[str, str] = {}
        self.node_labels: Mapping[str, str] = {}
        self.installation_disk_id = ""
        self.installation_disk_path = ""
        self.connectivity = b""  # the digest of the last reply
        self.api_vip: ApiVip | None = None
        self.resolutions: Mapping[str, tuple[str, ...]] | None = None
        self.logs_state = ""
        self.logs_collected_at_s = 0.0
        self.pointer_ignition: bytes = b""
        self.validations: Validations | None = None
        self.validations_document: dict[str, list[dict[str, str]]] = {}  # shared: not to be changed
        self.validations_text = ""
        self.polls = 0
        self.events_sent_at_s: dict[str, float] = {}

    @property
    def key(self) -> tuple[str, str]:
        return self.infra_env_id, self.id

    @property
    def hostname(self) -> str:
        """The name that the host has or will have; "" while it is not known."""
        return self.requested_hostname or (self.inventory.hostname if self.inventory else "")

    @property
    def display_name(self) -> str:
        """How events call the host."""
        return self.hostname or self.id

    @property
    def effective_role(self) -> str:
        return self.suggested_role if self.role == AUTO_ASSIGN and self.suggested_role else self.role


# A host's clock may be this much behind the service's, or ahead of it (host-lifecycle 2.6).
SERVICE_AHEAD_LIMIT_S = 20 * 60
HOST_AHEAD_LIMIT_S = 60 * 60


def clock_state(timestamp_s: int, checked_in_at_s: float) -> str:
    """What a poll's `timestamp` says about the host's clock: pending, success or failure."""
    if not timestamp_s:
        return "pending"
    ahead_s = timestamp_s - checked_in_at_s
    return "success" if -SERVICE_AHEAD_LIMIT_S <= ahead_s <= HOST_AHEAD_LIMIT_S else "failure"


class ApiVip:
    """What the last api-vip-connectivity-check of a host said."""

    __slots__ = ("error", "filtered_ignition", "is_success", "url")

    def __init__(self, is_success: bool, url: str, error: str, filtered_ignition: str) -> None:
        self.is_success = is_success
        self.url = url
        self.error = error
        self.filtered_ignition = filtered_ignition

    def same(self, other: ApiVip | None) -> bool:
        return other is not None and (self.is_success, self.url, self.error, self.filtered_ignition) == (
            other.is_success,
            other.url,
            other.error,
            other.filtered_ignition,
        )


class InfraEnv:
    """One InfraEnv: what its discovery image holds."""

    __slots__ = (
        "additional_ntp_sources",
        "additional_trust_bundle",
        "cluster_id",
        "cpu_architecture",
        "download_url",
        "events_token",
        "generated_at_s",
        "host_ids",
        "id",
        "ignition_override",
        "image_token",
        "image_type",
        "images_made",
        "ipxe_script_type",
        "kernel_arguments",
        "name",
        "namespace",
        "ntp_sources",
        "openshift_version",
        "proxy",
        "pull_secret",
        "ssh_key",
        "static_network",
        "updated_at_s",
    )

    def __init__(self, infra_env_id: str, namespace: str, name: str, now_s: float) -> None:
        self.id = infra_env_id
        self.namespace = namespace
        self.name = name
        self.cluster_id = ""
        self.openshift_version = ""
        self.cpu_architecture = "x86_64"
        self.image_type = "minimal-iso"
        self.pull_secret = ""
        self.ssh_key = ""
        self.proxy: Mapping[str, str] = {}
        self.ntp_sources = ""
        self.additional_ntp_sources = ""
        self.ignition_override = ""
        self.kernel_arguments: tuple[str, ...] = ()
        self.additional_trust_bundle = ""
        self.static_network: tuple[Mapping[str, Any], ...] = ()
        self.ipxe_script_type = "DiscoveryImageAlways"
        self.images_made = 0
        self.image_token = ""
        self.events_token = ""
        self.download_url = ""
        self.generated_at_s = now_s
        self.updated_at_s = now_s
        self.host_ids: dict[str, None] = {}


class Cluster:
    """One cluster that hosts are added to. `namespace` and `name` are its ClusterDeployment's."""

    __slots__ = (
        "base_domain",
        "by_status",
        "cluster_name",
        "events_token",
        "host_keys",
        "hostnames",
        "id",
        "ignition_answers",
        "ignition_endpoint_ca",
        "ignition_endpoint_url",
        "imported_at_s",
        "kind",
        "name",
        "namespace",
        "pull_secret",
        "reachable",
        "status",
        "status_info",
        "trigger_s",
        "user_managed_networking",
    )

    def __init__(self, cluster_id: str, namespace: str, name: str, now_s: float) -> None:
        self.id = cluster_id
        self.namespace = namespace
        self.name = name
        self.cluster_name = name
        self.base_domain = ""
        self.kind = ADD_HOSTS_CLUSTER
        self.status = "adding-hosts"
        self.status_info = "cluster is adding hosts to existing OCP cluster"
        self.pull_secret = ""
        self.ignition_endpoint_url = ""
        self.ignition_endpoint_ca = ""
        self.user_managed_networking = False
        self.imported_at_s = now_s
        self.trigger_s = now_s
        self.events_token = ""
        self.host_keys: dict[tuple[str, str], None] = {}
        self.by_status: dict[str, set[tuple[str, str]]] = {}
        self.hostnames: dict[str, set[tuple[str, str]]] = {}
        # The decision of the filtered ignition that a host fetched last: None before any success.
        self.ignition_answers: bool | None = None
        # Hosts past discovery and not disconnected, whom the others check their connectivity to: the part of each in
        # the arguments of that step.
        self.reachable: dict[str, str] = {}

    @property
    def domains(self) -> tuple[str, str, str]:
        """The names of the API, the internal API and an application."""
        suffix = f"{self.cluster_name}.{self.base_domain}"
        return f"api.{suffix}", f"api-int.{suffix}", f"console-openshift-console.apps.{suffix}"
