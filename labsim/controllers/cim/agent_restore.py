"""A host row that was lost, made again from what its Agent still carries (cim-resources 3.7)."""

from __future__ import annotations

from labsim.controllers.cim.agent_creation import INFRA_ENV_LABEL
from labsim.controllers.cim.agent_status import STATE_PREFIX
from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.inventory import parse_inventory
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.rows import AUTO_ASSIGN, Host
from labsim.model.objects import Object, annotations_of, dig, labels_of, name_of, namespace_of


def restore_host(lifecycle: HostLifecycle, agent: Object, now_s: float) -> Host:
    """The host of an Agent whose row is gone. Raises ServiceError where its InfraEnv or cluster is gone too."""
    database = lifecycle.database
    infra_env_name = labels_of(agent).get(INFRA_ENV_LABEL)
    if not infra_env_name:
        raise UntypedError("Missing InfraEnv name label")
    infra_env = database.infra_env_of(namespace_of(agent), infra_env_name)
    if infra_env is None:
        raise UntypedError("record not found")
    host = Host(name_of(agent), infra_env.id, namespace_of(agent), now_s)
    reference = dig(agent, "spec", "clusterDeploymentName")
    if reference:
        cluster = database.cluster_of(reference.get("namespace", ""), reference.get("name", ""))
        if cluster is None:
            raise UntypedError("record not found")
        host.cluster_id = cluster.id
    kept = annotations_of(agent)
    host.status = kept.get(STATE_PREFIX + "state") or ("known" if host.cluster_id else "known-unbound")
    host.status_info = dig(agent, "status", "debugInfo", "stateInfo", default="")
    host.role = kept.get(STATE_PREFIX + "role") or AUTO_ASSIGN
    host.stage = kept.get(STATE_PREFIX + "current-stage", "")
    host.approved = bool(dig(agent, "spec", "approved", default=False))
    text = kept.get(STATE_PREFIX + "inventory", "")
    if text:
        minimums = lifecycle.settings.minimums
        disk_gb = minimums.worker.disk_gb if host.cluster_id else minimums.pool_disk_gb
        try:
            host.inventory = parse_inventory(text, disk_gb)
        except ServiceError:
            host.inventory = None
        if host.inventory is not None and host.inventory.eligible_disks:
            disk = host.inventory.eligible_disks[0]
            host.installation_disk_id, host.installation_disk_path = disk.id, disk.path
    database.add_host(host)
    database.bump(host, now_s)
    database.on_host_input(host)
    return host
