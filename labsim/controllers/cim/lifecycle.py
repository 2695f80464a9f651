"""What happens to hosts: registration, binding, unbinding, installing, progress, refresh.

Every function works on the database alone; whoever calls yields `database.wakes()` afterwards.
Sources: host-lifecycle 1, 2.2, 3.6, 6.
"""

from __future__ import annotations

from typing import Any

import orjson

from labsim.controllers.cim import events
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.host_states import (
    DONE_STAGE,
    FAILED_STAGE,
    INSTALLING,
    NO_RULE,
    REBOOTING,
    RECLAIMING,
    STATUS_INFO,
    UNSCANNED,
    WORKER_STAGES,
    Event,
    Reset,
    Rule,
    find_rule,
    is_rebooting_or_later,
    wrong_boot_info,
)
from labsim.controllers.cim.pointer_ignition import pointer_ignition
from labsim.controllers.cim.refresh import Outcome, RefreshFacts, refresh
from labsim.controllers.cim.rows import (
    ADD_HOSTS_CLUSTER,
    AUTO_ASSIGN,
    KIND_DAY2,
    KIND_HOST,
    Cluster,
    Host,
    InfraEnv,
    Validations,
)
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.cim.validations import as_document, evaluate
from labsim.controllers.cim.validations.context import FAILURE, SUCCESS, ValidationContext

CLUSTER_STATES_FOR_BINDING = ("insufficient", "ready", "pending-for-input", "adding-hosts")
UPGRADE_EVENT_INTERVAL_S = 3600.0

_SET_A: dict[str, Any] = {
    "stage": "",
    "progress_info": "",
    "stage_started_at_s": 0.0,
    "stage_updated_at_s": 0.0,
    "inventory": None,
    "bootstrap": False,
}
_LOGS: dict[str, Any] = {"logs_state": "", "logs_collected_at_s": 0.0}
_SET_B: dict[str, Any] = {
    **_SET_A,
    **_LOGS,
    "cluster_id": "",
    "kind": KIND_HOST,
    "role": AUTO_ASSIGN,
    "suggested_role": "",
    "machine_config_pool": "",
    "connectivity": b"",
    "api_vip": None,
    "resolutions": None,
    "installation_disk_id": "",
    "installation_disk_path": "",
    "pointer_ignition": b"",
}


class HostLifecycle:
    """The service's host operations on its database."""

    def __init__(self, database: Database, settings: CimSettings) -> None:
        self.database = database
        self.settings = settings

    # -- registration --------------------------------------------------

    def register(self, infra_env: InfraEnv, host_id: str, agent_version: str, now_s: float) -> Host:
        """A discovery image has started on a machine. Raises ServiceError where the host may not register now."""
        host = self.database.hosts.get((infra_env.id, host_id))
        if host is None:
            return self._register_new(infra_env, host_id, agent_version, now_s)
        cluster_id = infra_env.cluster_id or host.cluster_id
        try:
            rule = self._rule(host, Event.REGISTER)
            if rule.refused:
                raise ServiceError(rule.refused_code, rule.refused.format(disk=self._disk_path(host)))
        except ServiceError as error:
            message = f"Failed to register host {host_id}: {error.message}"
            self.database.host_event(host, "host_registration_failed", "error", message, now_s)
            raise ServiceError(400 if error.code == 500 else error.code, error.message) from error
        fields: dict[str, Any] = {"registered_at_s": now_s, "cluster_id": cluster_id}
        if rule.reset is Reset.REGISTER:
            fields.update(_SET_A, **_LOGS)
            fields.update(agent_version=agent_version, ntp_sources=(), kind=self._kind_in(cluster_id))
        info = wrong_boot_info(*self._disk_words(host)) if rule.wrong_boot else rule.info
        target = rule.target
        if target == "discovering-unbound" and cluster_id:
            target = "discovering"
        self.database.update_host(host, now_s, **fields)
        if rule.reset is Reset.REGISTER:
            host.inventory_digest = b""
        if target:
            self.database.move_host(host, target, info or STATUS_INFO.get(target, ""), now_s)
        return host

    def _register_new(self, infra_env: InfraEnv, host_id: str, agent_version: str, now_s: float) -> Host:
        host = Host(host_id, infra_env.id, infra_env.namespace, now_s)
        host.agent_version = agent_version
        host.cluster_id = infra_env.cluster_id
        host.kind = self._kind_in(infra_env.cluster_id)
        host.status = "discovering" if infra_env.cluster_id else "discovering-unbound"
        host.status_info = STATUS_INFO[host.status]
        self.database.add_host(host)
        self.database.bump(host, now_s)
        self.database.on_host_input(host)
        message = f"Host {host.display_name}: Successfully registered"
        self.database.host_event(host, "host_registration_succeeded", "info", message, now_s)
        return host

    def upgrade_started(self, host: Host, now_s: float) -> None:
        """The agent was told to run another image; said at most once an hour."""
        if now_s - host.events_sent_at_s.get("upgrade_agent_started", float("-inf")) < UPGRADE_EVENT_INTERVAL_S:
            return
        host.events_sent_at_s["upgrade_agent_started"] = now_s
        message = (
            f"Host {host.display_name}: Agent has been instructed to download image "
            f"'{self.settings.agent_image}' and restart"
        )
        self.database.host_event(host, "upgrade_agent_started", "info", message, now_s)

    def deregister(self, host: Host, now_s: float) -> None:
        message = f"Host {host.display_name} deregistered"
        self.database.host_event(host, "host_deregistered", "info", message, now_s)
        self.database.drop_host(host)

    def _kind_in(self, cluster_id: str) -> str:
        cluster = self.database.clusters.get(cluster_id)
        return KIND_DAY2 if cluster is not None and cluster.kind == ADD_HOSTS_CLUSTER else KIND_HOST

    def _disk_words(self, host: Host) -> tuple[str, str, str, str]:
        disk = host.inventory.disk(host.installation_disk_id) if host.inventory else None
        if disk is None:
            return "", "", "", host.installation_disk_id
        document = disk.document
        return str(document.get("model") or ""), str(document.get("serial") or ""), disk.name, disk.id

    def _disk_path(self, host: Host) -> str:
        disk = host.inventory.disk(host.installation_disk_id) if host.inventory else None
        return host.installation_disk_path or (disk.path if disk else host.installation_disk_id)

    # -- transitions --------------------------------------------------

    def _rule(self, host: Host, event: Event) -> Rule:
        rule = find_rule(event, host.status, stage=host.stage, is_day2=host.kind == KIND_DAY2)
        if rule is None:
            raise UntypedError(NO_RULE)
        return rule

    def transition(self, host: Host, event: Event, now_s: float) -> None:
        """Carry out an event by its rule. Raises UntypedError(NO_RULE) where there is none."""
        rule = self._rule(host, event)
        if rule.reset is Reset.UNBIND:
            # The event of leaving still belongs to the cluster that is left.
            self.database.wake_host(host)
            self.database.update_host(host, now_s, **_SET_B)
            host.inventory_digest = b""
        elif rule.reset is Reset.BIND:
            self.database.update_host(host, now_s, **_SET_A)
            host.inventory_digest = b""
        if rule.target:
            self.database.move_host(host, rule.target, rule.info or STATUS_INFO.get(rule.target, ""), now_s)

    def bind(self, host: Host, cluster: Cluster, now_s: float) -> None:
        """Late binding, as the Agent controller asks for it. Raises ServiceError (host-lifecycle 1.3)."""
        if host.cluster_id:
            raise ServiceError(409, f"Host {host.id} is already bound to cluster {host.cluster_id}")
        if cluster.status not in CLUSTER_STATES_FOR_BINDING:
            states = " ".join(CLUSTER_STATES_FOR_BINDING)
            raise ServiceError(409, f"Host can register only in one of the following states: [{states}]")
        self._rule(host, Event.BIND)
        self.database.update_host(host, now_s, cluster_id=cluster.id)
        self.transition(host, Event.BIND, now_s)

    def unbind(self, host: Host, now_s: float, *, reclaim: bool) -> None:
        """Take the host out of its cluster. Raises ServiceError where the state machine has no rule."""
        infra_env = self.database.infra_envs.get(host.infra_env_id)
        if infra_env is not None and infra_env.cluster_id:
            raise ServiceError(
                409,
                f"Cannot unbind Host {host.id}. InfraEnv {infra_env.id} is bound to Cluster {infra_env.cluster_id}",
            )
        self.transition(host, Event.RECLAIM if reclaim else Event.UNBIND, now_s)

    def media_disconnected(self, host: Host, now_s: float) -> None:
        """A step reply with exit code 256: the full ISO cannot be read any more."""
        self.database.update_host(host, now_s, media_connected=False)
        if find_rule(Event.MEDIA_DISCONNECT, host.status) is None:
            return
        before = host.status
        self.transition(host, Event.MEDIA_DISCONNECT, now_s)
        if host.status != before:
            self.database.host_event(host, "host_media_disconnected", "error", host.status_info, now_s)

    # -- installing --------------------------------------------------

    def install(self, host: Host, cluster: Cluster, now_s: float) -> None:
        """Start the day-2 installation of a known host."""
        self.database.update_host(host, now_s, role="worker" if host.role == AUTO_ASSIGN else host.role)
        self.refresh(host, now_s)
        self._rule(host, Event.INSTALL)
        self.database.update_host(host, now_s, pointer_ignition=pointer_ignition(host, cluster))
        message = f"Host {host.display_name} starting installation as a worker node"
        self.database.host_event(host, "host_installation_started", "info", message, now_s)
        self.transition(host, Event.INSTALL, now_s)
        disk = host.inventory.disk(host.installation_disk_id) if host.inventory else None
        if disk is not None and disk.bootable:
            message = f"{host.display_name}: Performing quick format of disk {disk.name}({disk.id})"
            self.database.host_event(host, "quick_disk_format_performed", "info", message, now_s)

    def progress(self, host: Host, stage: str, info: str, now_s: float) -> None:
        """A stage that the installer, or the Agent controller, reports (host-lifecycle 3.6)."""
        if stage == host.stage and info == host.progress_info:
            return
        if stage == FAILED_STAGE:
            self._fail(host, info, now_s)
            return
        fields: dict[str, Any] = {"progress_info": info, "stage_updated_at_s": now_s}
        if stage != host.stage:
            self._check_stage(host, stage)
            fields.update(stage=stage, stage_started_at_s=now_s)
            target = "installing-in-progress"
            if stage == DONE_STAGE:
                target = "added-to-existing-cluster"
            elif stage == REBOOTING and host.status == "installing-pending-user-action":
                raise UntypedError(NO_RULE)
            self.database.update_host(host, now_s, **fields)
            self.database.move_host(host, target, stage, now_s)
        else:
            self.database.update_host(host, now_s, **fields)
        self.database.bump(host, now_s)
        message = events.progress_updated(host.display_name, stage, info)
        self.database.host_event(host, "host_install_progress_updated", "info", message, now_s)

    def _fail(self, host: Host, info: str, now_s: float) -> None:
        if host.status not in INSTALLING:
            raise ServiceError(409, f"Can't set progress Failed to host in status {host.status}")
        self.database.update_host(host, now_s, progress_info=info)
        self.database.move_host(host, "error", f"Failed - {info}", now_s)

    def _check_stage(self, host: Host, stage: str) -> None:
        if host.status not in INSTALLING:
            raise ServiceError(409, f"Can't set progress {stage} to host in status {host.status}")
        if stage not in WORKER_STAGES:
            raise ServiceError(
                409, f"Stages {stage} isn't available for host role {host.role} bootstrap {str(host.bootstrap).lower()}"
            )
        if host.stage and WORKER_STAGES.index(stage) < WORKER_STAGES.index(host.stage):
            raise ServiceError(409, f'Can\'t assign lower stage "{stage}" after host has been in stage "{host.stage}"')

    # -- refresh --------------------------------------------------

    def is_connected(self, host: Host, now_s: float) -> bool:
        if is_rebooting_or_later(host.stage):
            return True
        return now_s - host.checked_in_at_s <= self.settings.timeouts.max_disconnection_s

    def refresh(self, host: Host, now_s: float) -> None:
        """Validate a host and move it where the rules say: what each monitor pass does.

        A host that is reclaimed is not validated: what it reported belonged to the cluster that it leaves.
        """
        if host.status in UNSCANNED:
            return
        if host.status in RECLAIMING:
            self._move(host, refresh(self._facts(host, {}, True, now_s), self.settings.timeouts), now_s)
            return
        cluster = self.database.clusters.get(host.cluster_id)
        if cluster is not None and host.role == AUTO_ASSIGN and not host.suggested_role and host.inventory:
            self.database.update_host(host, now_s, suggested_role="worker")
            message = f"Host {host.display_name}: calculated role is worker"
            self.database.host_event(host, "host_role_updated", "info", message, now_s)
        connected = self.is_connected(host, now_s)
        validations = evaluate(
            ValidationContext(
                host=host,
                infra_env=self.database.infra_envs.get(host.infra_env_id),
                cluster=cluster,
                connected=connected,
                settings=self.settings,
                agent_is_compatible=host.agent_version in ("", self.settings.agent_image),
            )
        )
        self._store_validations(host, validations, now_s)
        self._move(host, refresh(self._facts(host, validations, connected, now_s), self.settings.timeouts), now_s)

    def _move(self, host: Host, outcome: Outcome | None, now_s: float) -> None:
        if outcome is not None and outcome != Outcome(host.status, host.status_info):
            self.database.move_host(host, outcome.status, outcome.info, now_s)

    def _facts(self, host: Host, validations: Validations, connected: bool, now_s: float) -> RefreshFacts:
        _, _, name, disk_id = self._disk_words(host)
        return RefreshFacts(
            status=host.status,
            connected=connected,
            media_connected=host.media_connected,
            has_inventory=host.inventory is not None,
            validations=validations,
            stage=host.stage,
            status_age_s=now_s - host.status_updated_at_s,
            stage_age_s=now_s - host.stage_updated_at_s,
            check_in_age_s=now_s - host.checked_in_at_s,
            is_day2=host.kind == KIND_DAY2,
            disk_label=f"({name}, {disk_id})",
        )

    def _store_validations(self, host: Host, validations: Validations, now_s: float) -> None:
        before = host.validations
        if before == validations:
            return
        document = as_document(validations)
        host.validations_document = document
        text = orjson.dumps(document).decode()
        self.database.update_host(host, now_s, validations=validations, validations_text=text)
        if before is None:
            self.database.wake_host(host)
            return
        known = {entry[0]: entry[1] for entries in before.values() for entry in entries}
        changed = False
        for entries in validations.values():
            for name, status, _ in entries:
                earlier = known.get(name)
                if earlier == status:
                    continue
                changed = True
                if earlier is not None:
                    self._validation_event(host, name, earlier, status, now_s)
        if changed:
            self.database.wake_host(host)

    def _validation_event(self, host: Host, name: str, earlier: str, status: str, now_s: float) -> None:
        if status == FAILURE:
            text = "that used to succeed is now failing" if earlier == SUCCESS else "failed"
            message = f"Host {host.display_name}: validation '{name}' {text}"
            self.database.host_event(host, "host_validation_failed", "warning", message, now_s)
        elif status == SUCCESS and earlier == FAILURE:
            message = f"Host {host.display_name}: validation '{name}' is now fixed"
            self.database.host_event(host, "host_validation_fixed", "info", message, now_s)
