"""CIM's own store: InfraEnvs, clusters, hosts and events, with the indexes that its programs read.

Rows are changed through `Database` alone: it counts changes, tells the history, keeps the indexes, and collects whom
a change wakes. Whoever changed something yields `wakes()` afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from labsim.controllers.cim.events import Event, status_severity, status_updated
from labsim.controllers.cim.rows import Cluster, Host, InfraEnv, clock_state
from labsim.controllers.runtime.effects import Enqueue, Key, Program
from labsim.entropy import Entropy

HostKey = tuple[str, str]  # InfraEnv id, host id
Row = InfraEnv | Cluster | Host | Event

STATUS_INFO_LIMIT = 2040
# Bound hosts in these states are nobody's neighbours yet.
PRE_CONNECTIVITY = ("binding", "discovering", "disconnected")
# A poll that comes later than this after the last may end a disconnection; upstream's limit is 180 s.
LATE_S = 60.0
# Changes of these can change the result of a refresh; a check-in alone only moves a deadline.
REFRESH_FIELDS = frozenset(
    {
        "api_vip",
        "cluster_id",
        "installation_disk_id",
        "inventory",
        "media_connected",
        "ntp_sources",
        "requested_hostname",
        "resolutions",
        "role",
        "stage",
        "stage_updated_at_s",
        "status",
        "status_info",
        "suggested_role",
    }
)


class Database:
    """One service's rows. `on_change` hears which row has changed, and whether it is gone."""

    def __init__(self, entropy: Entropy) -> None:
        self.entropy = entropy.child("database")
        self.infra_envs: dict[str, InfraEnv] = {}
        self.clusters: dict[str, Cluster] = {}
        self.hosts: dict[HostKey, Host] = {}
        self.on_change: Callable[[Row, bool], None] | None = None
        # The monitor's: a host whose refresh may come out differently now, or later than before.
        self.on_host_input: Callable[[Host], None] = lambda host: None
        self.on_trigger: Callable[[Host], None] = lambda host: None
        self._infra_env_ids: dict[tuple[str, str], str] = {}
        self._cluster_ids: dict[tuple[str, str], str] = {}
        self._agents: dict[tuple[str, str], Host] = {}
        self._same_id: dict[str, dict[HostKey, Host]] = {}
        self._events: dict[tuple[str, str], list[Event]] = {}
        self._wakes: dict[tuple[str, Key], None] = {}
        self._made: dict[str, int] = {}
        self._life = ""

    # -- waking controllers --------------------------------------------------

    def wake(self, controller: str, namespace: str, name: str) -> None:
        self._wakes[controller, Key(namespace, name)] = None

    def wake_host(self, host: Host) -> None:
        """A host event: its Agent is looked at, and the ClusterDeployment of a bound one."""
        self._wakes["agent", Key(host.agent_namespace, host.id)] = None
        cluster = self.clusters.get(host.cluster_id)
        if cluster is not None:
            self._wakes["cluster-deployment", Key(cluster.namespace, cluster.name)] = None

    def wakes(self) -> Program[None]:
        """Yield the wake-ups that changes have asked for since the last time."""
        while self._wakes:
            asked, self._wakes = self._wakes, {}
            for controller, key in asked:
                yield Enqueue(controller, key)

    @property
    def has_wakes(self) -> bool:
        return bool(self._wakes)

    # -- finding rows --------------------------------------------------

    def infra_env_of(self, namespace: str, name: str) -> InfraEnv | None:
        return self.infra_envs.get(self._infra_env_ids.get((namespace, name), ""))

    def cluster_of(self, namespace: str, name: str) -> Cluster | None:
        """The cluster of a ClusterDeployment."""
        return self.clusters.get(self._cluster_ids.get((namespace, name), ""))

    def host_of(self, namespace: str, name: str) -> Host | None:
        """The host of an Agent."""
        return self._agents.get((namespace, name))

    def hosts_with_id(self, host_id: str) -> list[Host]:
        """The rows of one machine in every InfraEnv."""
        return list(self._same_id.get(host_id, {}).values())

    def cluster_hosts(self, cluster: Cluster) -> Iterator[Host]:
        for key in cluster.host_keys:
            yield self.hosts[key]

    # -- InfraEnvs and clusters --------------------------------------------------

    def restore(
        self, infra_envs: list[InfraEnv], clusters: list[Cluster], hosts: list[Host], events: list[Event], life: str
    ) -> None:
        """Take over the rows of a database before this one. life: tells ids that are made from now on from its ids."""
        self._life = f"{life}/"
        for infra_env in infra_envs:
            self.infra_envs[infra_env.id] = infra_env
            self._infra_env_ids[infra_env.namespace, infra_env.name] = infra_env.id
        for cluster in clusters:
            self.clusters[cluster.id] = cluster
            self._cluster_ids[cluster.namespace, cluster.name] = cluster.id
        for host in hosts:
            self.add_host(host)
            self.on_host_input(host)
        for event in events:
            self.add_event(event)

    def _next_id(self, table: str, namespace: str, name: str) -> str:
        purpose = f"{table}/{namespace}/{name}"
        self._made[purpose] = self._made.get(purpose, 0) + 1
        return self.entropy.uuid(f"{self._life}{purpose}/{self._made[purpose]}")

    def add_infra_env(self, namespace: str, name: str, now_s: float) -> InfraEnv:
        row = InfraEnv(self._next_id("infra-env", namespace, name), namespace, name, now_s)
        self.infra_envs[row.id] = row
        self._infra_env_ids[namespace, name] = row.id
        self._changed(row)
        return row

    def update_infra_env(self, row: InfraEnv, now_s: float, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(row, name, value)
        row.updated_at_s = now_s
        self._changed(row)

    def drop_infra_env(self, row: InfraEnv) -> None:
        self.infra_envs.pop(row.id, None)
        if self._infra_env_ids.get((row.namespace, row.name)) == row.id:
            del self._infra_env_ids[row.namespace, row.name]
        self._changed(row, gone=True)

    def add_cluster(self, namespace: str, name: str, now_s: float) -> Cluster:
        row = Cluster(self._next_id("cluster", namespace, name), namespace, name, now_s)
        self.clusters[row.id] = row
        self._cluster_ids[namespace, name] = row.id
        self._changed(row)
        return row

    def update_cluster(self, row: Cluster, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(row, name, value)
        self._changed(row)

    def drop_cluster(self, row: Cluster) -> None:
        self.clusters.pop(row.id, None)
        if self._cluster_ids.get((row.namespace, row.name)) == row.id:
            del self._cluster_ids[row.namespace, row.name]
        self._changed(row, gone=True)

    # -- hosts --------------------------------------------------

    def add_host(self, host: Host) -> None:
        self.hosts[host.key] = host
        self._agents[host.agent_namespace, host.id] = host
        self._same_id.setdefault(host.id, {})[host.key] = host
        infra_env = self.infra_envs.get(host.infra_env_id)
        if infra_env is not None:
            infra_env.host_ids[host.id] = None
        self._enter_cluster(host)
        self._changed(host)

    def adopt_agent(self, host: Host) -> None:
        """The Agent of this name now belongs to this row, after another InfraEnv's row has gone."""
        self._agents[host.agent_namespace, host.id] = host

    def drop_host(self, host: Host) -> None:
        self._leave_cluster(host)
        self.hosts.pop(host.key, None)
        if self._agents.get((host.agent_namespace, host.id)) is host:
            del self._agents[host.agent_namespace, host.id]
        same = self._same_id.get(host.id, {})
        same.pop(host.key, None)
        if not same:
            self._same_id.pop(host.id, None)
        infra_env = self.infra_envs.get(host.infra_env_id)
        if infra_env is not None:
            infra_env.host_ids.pop(host.id, None)
        self._changed(host, gone=True)

    def check_in(self, host: Host, now_s: float, timestamp_s: int, agent_version: str) -> None:
        """A poll: the one change that every host makes every minute."""
        before = (host.timestamp_s, host.checked_in_at_s, host.agent_version)
        host.checked_in_at_s = now_s
        host.timestamp_s = timestamp_s
        host.polls += 1
        if agent_version:
            host.agent_version = agent_version
        self._changed(host)
        clock = clock_state(timestamp_s, now_s)
        if (
            now_s - before[1] > LATE_S
            or clock != clock_state(before[0], before[1])
            or clock == "failure"  # its message says the time
            or host.agent_version != before[2]
        ):
            self.on_host_input(host)

    def update_host(self, host: Host, now_s: float, **fields: Any) -> bool:
        """Change fields of a host; False if they were so already. Not for `status`: see `move_host`."""
        changed = {name: value for name, value in fields.items() if getattr(host, name) != value}
        if not changed:
            return False
        moves = "cluster_id" in changed
        renames = bool(host.cluster_id) and not changed.keys().isdisjoint(("inventory", "requested_hostname"))
        if moves or renames:
            self._leave_cluster(host)
        left = self.clusters.get(host.cluster_id) if moves else None
        if left is not None:
            # Its last state is shown by its ClusterDeployment too, which must look again.
            self._wakes["cluster-deployment", Key(left.namespace, left.name)] = None
        for name, value in changed.items():
            setattr(host, name, value)
        host.updated_at_s = now_s
        if moves or renames:
            self._enter_cluster(host)
        self._changed(host)
        if not changed.keys().isdisjoint(REFRESH_FIELDS):
            self.on_host_input(host)
        return True

    def bump(self, host: Host, now_s: float) -> None:
        """Bring the host back into the monitor's short windows (trigger_monitor_timestamp)."""
        host.trigger_s = now_s
        cluster = self.clusters.get(host.cluster_id)
        if cluster is not None:
            cluster.trigger_s = now_s
            self._changed(cluster)
        self.on_trigger(host)

    def move_host(self, host: Host, status: str, info: str, now_s: float) -> None:
        """Set status and status_info; only another status makes an event, and brings the host before the monitor."""
        info = info[:STATUS_INFO_LIMIT]
        if status == host.status:
            self.update_host(host, now_s, status_info=info)
            return
        source = host.status
        cluster = self.clusters.get(host.cluster_id)
        if cluster is not None:
            cluster.by_status.get(source, set()).discard(host.key)
            cluster.by_status.setdefault(status, set()).add(host.key)
        host.status = status
        self._set_reachable(cluster, host)
        host.status_info = info
        host.status_updated_at_s = host.updated_at_s = now_s
        self._changed(host)
        self.bump(host, now_s)
        self.on_host_input(host)
        message = status_updated(host.display_name, source, status, info)
        self.host_event(host, "host_status_updated", status_severity(status), message, now_s)

    def _leave_cluster(self, host: Host) -> None:
        cluster = self.clusters.get(host.cluster_id)
        if cluster is None:
            return
        cluster.host_keys.pop(host.key, None)
        cluster.by_status.get(host.status, set()).discard(host.key)
        cluster.reachable.pop(host.id, None)
        self._name_shared(cluster, host, present=False)

    def _enter_cluster(self, host: Host) -> None:
        cluster = self.clusters.get(host.cluster_id)
        if cluster is None:
            return
        cluster.host_keys[host.key] = None
        cluster.by_status.setdefault(host.status, set()).add(host.key)
        self._set_reachable(cluster, host)
        self._name_shared(cluster, host, present=True)

    def _set_reachable(self, cluster: Cluster | None, host: Host) -> None:
        if cluster is None:
            return
        if host.inventory is not None and host.status not in PRE_CONNECTIVITY:
            cluster.reachable[host.id] = host.inventory.connectivity_entry(host.id)
        else:
            cluster.reachable.pop(host.id, None)

    def _name_shared(self, cluster: Cluster, host: Host, *, present: bool) -> None:
        """Keep who has which name; those that share one are validated again."""
        name = host.hostname
        if not name:
            return
        sharing = cluster.hostnames.setdefault(name, set())
        if present:
            sharing.add(host.key)
        else:
            sharing.discard(host.key)
        for key in sorted(sharing):
            if key != host.key:
                self.on_host_input(self.hosts[key])

    def ignition_answered(self, cluster: Cluster, passes_without_dns: bool) -> None:
        """A host fetched the cluster's Ignition; if that decides otherwise than before, all are validated again."""
        if cluster.ignition_answers == passes_without_dns:
            return
        self.update_cluster(cluster, ignition_answers=passes_without_dns)
        for host in self.cluster_hosts(cluster):
            self.on_host_input(host)

    # -- events --------------------------------------------------

    def host_event(self, host: Host, name: str, severity: str, message: str, now_s: float) -> None:
        """Add an event of a host, which wakes its Agent."""
        event = Event(
            name,
            severity,
            message,
            now_s,
            host_id=host.id,
            infra_env_id=host.infra_env_id,
            cluster_id=host.cluster_id,
        )
        self.add_event(event)
        self.wake_host(host)

    def add_event(self, event: Event) -> None:
        for field in ("host_id", "infra_env_id", "cluster_id"):
            value = getattr(event, field)
            if value:
                self._events.setdefault((field, value), []).append(event)
        self._changed(event)

    def events(self, field: str, value: str) -> list[Event]:
        """The events of a host_id, infra_env_id or cluster_id, oldest first."""
        return self._events.get((field, value), [])

    def all_events(self) -> list[Event]:
        """Every event, oldest first."""
        found = dict.fromkeys(event for events in self._events.values() for event in events)
        return sorted(found, key=lambda event: event.time_s)

    def _changed(self, row: Row, *, gone: bool = False) -> None:
        if self.on_change is not None:
            self.on_change(row, gone)
