"""The story of a run as lines of text, read from its history alone.

One line is one instant: in-world time, object, what happened, and the section of the fact sheet that it follows. The
functions here are pure: they take the lines of a history.jsonl and give strings.

Times are cut to whole seconds, because the milliseconds below are seeded delays of deliveries and not facts.
Names that are chance (host ids) are replaced by the machine that they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from golden.citations import CITATIONS, EVENTS, INPUTS
from labsim.history import merged
from labsim.model.objects import parse_timestamp

Object = dict[str, Any]
Line = dict[str, Any]
Change = tuple[str, str]  # (kind of line, text)

REGISTRATION = re.compile(r"^/api/assisted-install/v2/infra-envs/[^/]+/hosts$")


COUNTDOWNS = frozenset({"UnavailableReplicas", "ComponentsNotAvailable"})
"""Reasons whose message counts down the workloads of a control plane one by one: the reason alone is told."""


def at(obj: Object | None, *path: str) -> Any:
    """The value at a path, None where anything on the way is missing."""
    value: Any = obj
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def conditions(obj: Object | None) -> dict[str, Object]:
    return {condition["type"]: condition for condition in at(obj, "status", "conditions") or []}


def told(condition: Object) -> str:
    """A condition in one line, as `kubectl` users say it: Status/Reason "message"."""
    reason, message = condition.get("reason", ""), condition.get("message", "").strip().replace("\n", " ; ")
    if reason in COUNTDOWNS:
        message = ""
    return f"{condition['status']}/{reason}" + (f' "{message}"' if message else "")


def condition_changes(before: Object | None, after: Object, line: str, only: Iterable[str] = ()) -> Iterator[Change]:
    """A change per condition whose status, reason or message moved; `only` names types, none means all."""
    old, wanted = conditions(before), set(only)
    for name, condition in conditions(after).items():
        if wanted and name not in wanted:
            continue
        previous = old.get(name)
        if previous is None or told(previous) != told(condition):
            yield line, f"{name} {told(condition)}"
    for name in sorted(old.keys() - conditions(after).keys()):
        yield line, f"{name} removed"


def value_change(before: Object | None, after: Object, line: str, title: str, *path: str) -> Iterator[Change]:
    old, new = at(before, *path), at(after, *path)
    if old != new and not (before is None and new in (None, "", {}, [])):
        yield line, f"{title} {shown(new)}"


def shown(value: Any) -> str:
    if value in (None, "", {}, []):
        return "cleared"
    if isinstance(value, dict) and set(value) == {"name", "namespace"}:
        return f"{value['namespace']}/{value['name']}"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)


CLAIM_FIELDS = ("clusterDeploymentName", "machineConfigPool", "ignitionEndpointTokenReference")
CLUSTER_LABEL = "agent-install.openshift.io/clusterdeployment-namespace"


def agent(before: Object | None, after: Object) -> Iterator[Change]:
    if before is None:
        yield "agent-created", f"created, approved {str(at(after, 'spec', 'approved')).lower()}"
    if at(before, "status", "debugInfo", "state") != at(after, "status", "debugInfo", "state"):
        source = at(before, "status", "debugInfo", "state") or '""'
        state, info = at(after, "status", "debugInfo", "state"), at(after, "status", "debugInfo", "stateInfo")
        yield f"state:{state}", f"state {source} -> {state} ({info})"
    elif at(before, "status", "debugInfo", "stateInfo") != at(after, "status", "debugInfo", "stateInfo"):
        info = at(after, "status", "debugInfo", "stateInfo")
        yield f"state:{at(after, 'status', 'debugInfo', 'state')}", f"state info ({info})"
    progress = {key: at(after, "status", "progress", key) for key in ("currentStage", "progressInfo")}
    if progress != {key: at(before, "status", "progress", key) for key in progress} and progress["currentStage"]:
        percent = at(after, "status", "progress", "installationPercentage")
        info = f": {progress['progressInfo']}" if progress["progressInfo"] else ""
        yield "stage", f"stage {progress['currentStage']}{info}, {percent} %"
    yield from value_change(before, after, "approval", "approved", "spec", "approved") if before else ()
    claim = "claim" if at(after, "spec", "clusterDeploymentName") else "unclaim"
    yield from value_change(before, after, claim, "label agentMachineRef", "metadata", "labels", "agentMachineRef")
    namespace = ("metadata", "annotations", "agentMachineRefNamespace")
    yield from value_change(before, after, claim, "annotation agentMachineRefNamespace", *namespace)
    for name in (*CLAIM_FIELDS, "ignitionEndpointHTTPHeaders"):
        yield from value_change(before, after, claim, name, "spec", name)
    cluster = ("metadata", "labels", CLUSTER_LABEL)
    yield from value_change(before, after, "agent-label", f"label {CLUSTER_LABEL}", *cluster)
    yield from value_change(before, after, "agent-role", "role", "status", "role")
    yield from value_change(before, after, "agent-kind", "kind", "status", "kind")
    yield from value_change(before, after, "deprovision", "deprovision_info", "status", "deprovision_info")
    old, new = (at(obj, "status", "csrStatus", "approvedCSRs") or [] for obj in (before, after))
    for entry in new:
        if entry not in old:
            yield "csr-tracking", f"csrStatus holds a {entry['type']} CSR"
    yield from condition_changes(before, after, "agent-condition")


def agent_machine(before: Object | None, after: Object) -> Iterator[Change]:
    owners = [at(obj, "metadata", "ownerReferences") or [{}] for obj in (before, after)]
    if [owner.get("kind") for owner in owners[0]] != [owner.get("kind") for owner in owners[1]]:
        yield "machine-created", "owned by " + ", ".join(owner.get("kind", "nobody") for owner in owners[1])
    yield from value_change(before, after, "claim", "providerID", "spec", "providerID")
    yield from value_change(before, after, "agent-machine", "agentRef", "status", "agentRef")
    yield from value_change(before, after, "agent-machine", "ready", "status", "ready")
    yield from condition_changes(before, after, "agent-machine-condition")
    yield from deletion(before, after, "machine-deletion")


def deletion(before: Object | None, after: Object, line: str) -> Iterator[Change]:
    if not at(before, "metadata", "deletionTimestamp") and at(after, "metadata", "deletionTimestamp"):
        yield line, "is being deleted"
    old, new = (at(obj, "metadata", "finalizers") or [] for obj in (before, after))
    for name in new:
        if name not in old:
            yield line, f"finalizer {name}"
    for name in old:
        if name not in new:
            yield line, f"finalizer {name} removed"


HOOK = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/agentmachine"
DELETION_CONDITIONS = ("DrainingSucceeded", "VolumeDetachSucceeded", "PreTerminateDeleteHookSucceeded")


def machine(before: Object | None, after: Object) -> Iterator[Change]:
    if at(before, "status", "phase") != at(after, "status", "phase"):
        source = at(before, "status", "phase") or "none"
        yield "machine-phase", f"phase {source} -> {at(after, 'status', 'phase')}"
    had, has = (HOOK in (at(obj, "metadata", "annotations") or {}) for obj in (before, after))
    if had != has:
        yield "machine-hook", f"hook {HOOK} {'added' if has else 'removed'}"
    yield from value_change(before, after, "machine-phase", "providerID", "spec", "providerID")
    yield from value_change(before, after, "machine-node", "nodeRef", "status", "nodeRef", "name")
    yield from condition_changes(before, after, "machine-deletion", DELETION_CONDITIONS)
    yield from condition_changes(before, after, "machine-condition", ("Ready", "InfrastructureReady", "NodeHealthy"))
    yield from deletion(before, after, "machine-deletion")


def machine_set(before: Object | None, after: Object) -> Iterator[Change]:
    yield from value_change(before, after, "scale", "spec.replicas", "spec", "replicas")
    for name in ("replicas", "readyReplicas", "availableReplicas"):
        yield from value_change(before, after, "scale", f"status.{name}", "status", name)


def node_pool(before: Object | None, after: Object) -> Iterator[Change]:
    yield from value_change(before, after, "scale", "spec.replicas", "spec", "replicas")
    yield from value_change(before, after, "scale", "status.replicas", "status", "replicas")
    yield from value_change(before, after, "node-pool-condition", "version", "status", "version")
    yield from condition_changes(before, after, "node-pool-condition")


def hosted_cluster(before: Object | None, after: Object) -> Iterator[Change]:
    yield from value_change(before, after, "hosted-cluster", "ignitionEndpoint", "status", "ignitionEndpoint")
    yield from value_change(before, after, "hosted-cluster", "kubeconfig", "status", "kubeconfig", "name")
    old, new = (at(obj, "status", "version", "history") or [{}] for obj in (before, after))
    if old[0].get("state") != new[0].get("state"):
        yield "hosted-cluster", f"version {new[0].get('version', '')} {new[0].get('state')}"
    yield from condition_changes(before, after, "hosted-cluster-condition")


def agent_cluster(before: Object | None, after: Object) -> Iterator[Change]:
    path = ("status", "clusterDeploymentReference")
    yield from value_change(before, after, "agent-cluster", "ignition endpoint", "spec", "ignitionEndpoint", "url")
    yield from value_change(before, after, "agent-cluster", "clusterDeploymentReference", *path)
    yield from value_change(before, after, "agent-cluster", "ready", "status", "ready")


def cluster_install(before: Object | None, after: Object) -> Iterator[Change]:
    endpoint = ("spec", "ignitionEndpoint", "url")
    yield from value_change(before, after, "agent-cluster", "ignition endpoint", *endpoint)
    yield from value_change(before, after, "cluster-install", "state", "status", "debugInfo", "state")
    yield from condition_changes(before, after, "cluster-install")


def infra_env(before: Object | None, after: Object) -> Iterator[Change]:
    yield from condition_changes(before, after, "infra-env")


def created(line: str) -> Callable[[Object | None, Object], Iterator[Change]]:
    def changes(before: Object | None, after: Object) -> Iterator[Change]:
        if before is None:
            yield line, "created"

    return changes


def capi_cluster(before: Object | None, after: Object) -> Iterator[Change]:
    yield from value_change(before, after, "cluster", "phase", "status", "phase")


def csr(before: Object | None, after: Object) -> Iterator[Change]:
    if before is None:
        yield "csr", f"asked with signer {at(after, 'spec', 'signerName')} by {at(after, 'spec', 'username')}"
    for condition in at(after, "status", "conditions") or []:
        if condition not in (at(before, "status", "conditions") or []):
            yield "csr", f"{condition['type']} {condition.get('reason', '')}"
    if at(after, "status", "certificate") and not at(before, "status", "certificate"):
        yield "csr", "certificate issued"


NODE_LABEL, SYNCED = "hypershift.openshift.io/nodePool", "hypershift.openshift.io/labelsSynced"


def node(before: Object | None, after: Object) -> Iterator[Change]:
    if before is None:
        yield "node", f"registered, kubelet {at(after, 'status', 'nodeInfo', 'kubeletVersion')}"
    yield from value_change(before, after, "node-pool-of-node", f"label {NODE_LABEL}", "metadata", "labels", NODE_LABEL)
    yield from value_change(
        before, after, "node-pool-of-node", f"annotation {SYNCED}", "metadata", "annotations", SYNCED
    )
    yield from value_change(before, after, "node-provider-id", "providerID", "spec", "providerID")
    owner = ("metadata", "annotations", "cluster.x-k8s.io/machine")
    yield from value_change(before, after, "machine-node", "annotation cluster.x-k8s.io/machine", *owner)
    yield from value_change(before, after, "drain", "unschedulable", "spec", "unschedulable")
    yield from condition_changes(before, after, "node", ("Ready",))


def operator(before: Object | None, after: Object) -> Iterator[Change]:
    if at(after, "metadata", "name") in ("console", "ingress"):
        yield from condition_changes(before, after, "cluster-operator", ("Available", "Progressing", "Degraded"))


def cluster_version(before: Object | None, after: Object) -> Iterator[Change]:
    yield from condition_changes(before, after, "cluster-version", ("Available", "Progressing", "Failing"))


WATCHED: dict[str, Callable[[Object | None, Object], Iterator[Change]]] = {
    "InfraEnv": infra_env,
    "Agent": agent,
    "AgentMachine": agent_machine,
    "Machine": machine,
    "MachineSet": machine_set,
    "NodePool": node_pool,
    "HostedCluster": hosted_cluster,
    "AgentCluster": agent_cluster,
    "AgentClusterInstall": cluster_install,
    "ClusterDeployment": created("cluster-deployment"),
    "Cluster": capi_cluster,
    "ManagedCluster": created("managed-cluster"),
    "CertificateSigningRequest": csr,
    "Node": node,
    "ClusterOperator": operator,
    "ClusterVersion": cluster_version,
}
DELETIONS = {"Agent": "agent-created", "AgentMachine": "machine-deletion", "Machine": "machine-deletion"}


@dataclass
class Polls:
    """What one machine was told last, and how often it asked since that was said."""

    told: str = ""
    last_s: float = 0.0
    interval_s: int = 0
    more: int = 0


@dataclass
class Teller:
    """Walks a history once; `lines` are what it told."""

    hosts: dict[str, str]
    objects: dict[tuple[str, str, str, str], Object] = field(default_factory=dict)
    polls: dict[str, Polls] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def say(self, seconds: float, who: str, line: str, text: str) -> None:
        for host_id, name in self.hosts.items():
            who, text = who.replace(host_id, name), text.replace(host_id, name)
        minutes, rest = divmod(int(seconds), 60)
        self.lines.append(f"{minutes:>3}:{rest:02}  {who:<28}  {text}  [{CITATIONS[line]}]")

    def write(self, line: Line) -> None:
        kind, seconds = line["kind"], line["t"]
        changes = WATCHED.get(kind)
        if changes is None:
            return
        key = (line["store"], kind, line["namespace"], line["name"])
        before = self.objects.get(key)
        if line["event"] == "DELETED":
            self.objects.pop(key, None)
            if kind in DELETIONS or kind == "Node":
                self.say(seconds, f"{kind} {line['name']}", DELETIONS.get(kind, "node-deleted"), "gone")
            return
        after = line["object"] if "object" in line else merged(before or {}, line["patch"])
        self.objects[key] = after
        for name, text in changes(before, after):
            self.say(seconds, f"{kind} {line['name']}", name, text)

    def request(self, line: Line) -> None:
        machine_name, path, seconds = line["client"], line["path"], line["t"]
        who, status = f"machine {machine_name}", line["status"]
        if REGISTRATION.match(path):
            self.stop_polling(machine_name, seconds)
            self.say(seconds, who, "registration", f"POST /v2/infra-envs/{{id}}/hosts answered {status}")
        elif path == "/ignition":
            self.say(seconds, who, "ignition", f"GET /ignition answered {status}")
        elif path.endswith("/downloads/ignition"):
            self.say(seconds, who, "pointer", f"GET .../downloads/ignition answered {status}")
        elif line["service"] == "assisted-image-service":
            self.say(
                seconds,
                who if who != "machine lab" else "lab",
                "image",
                f"downloads {path.rsplit('/', 1)[-1]}: {status}",
            )

    def poll(self, line: Line) -> None:
        """An answer to GET instructions; told when it differs from the one before, or comes at another interval."""
        host: str = line["host"]
        name, seconds = self.hosts.get(host, host), line["t"]
        polls = self.polls.setdefault(name, Polls())
        steps = ", ".join(line["steps"]) or "no steps"
        told_now = f"{steps}; next {line['next_s']} s, {line['action']}"
        interval_s = round(seconds - polls.last_s) if polls.told else 0
        if told_now == polls.told and polls.more == 0:
            polls.interval_s = interval_s
        if told_now == polls.told and interval_s == polls.interval_s:
            polls.more += 1
        else:
            self.stop_polling(name, seconds)
            self.say(seconds, f"machine {name}", "polls", f"polls, told in {line['status']}: {told_now}")
            polls = self.polls[name] = Polls(told_now)
        polls.last_s = seconds

    def stop_polling(self, machine_name: str, seconds: float) -> None:
        polls = self.polls.pop(machine_name, None)
        if polls is not None and polls.more:
            text = f"polled {polls.more} times more, each {polls.interval_s} s, told the same"
            self.say(seconds, f"machine {machine_name}", "polls", text)

    def guest(self, line: Line) -> None:
        machine_name = line["machine"]
        self.stop_polling(machine_name, line["t"])
        extra = " ".join(f"{line[key]}" for key in ("source", "reason", "power") if line.get(key))
        self.say(line["t"], f"machine {machine_name}", "machine", f"{line['what']} {extra}".strip())

    def input(self, line: Line) -> None:
        self.say(line["t"], "step", INPUTS[line["what"].split()[0]], line["what"])


def timeline(history: Iterable[Line]) -> list[str]:
    """The story that a history tells, a line per instant."""
    lines = list(history)
    teller = Teller(hosts_of(lines))
    for line in lines:
        tell = getattr(teller, line["type"], None)
        if tell is not None:
            tell(line)
    for machine_name in sorted(teller.polls):
        teller.stop_polling(machine_name, lines[-1]["t"])
    return teller.lines


def hosts_of(lines: Iterable[Line]) -> dict[str, str]:
    """The hostname that each Agent reported, by the Agent's name."""
    found: dict[str, str] = {}
    for line in lines:
        if line["type"] == "write" and line["kind"] == "Agent":
            hostname = at(line.get("object") or line.get("patch"), "status", "inventory", "hostname")
            if hostname:
                found[line["name"]] = hostname
    return found


def told_events(events: Iterable[Object], hosts: dict[str, str], start_s: float) -> list[str]:
    """The service's own events, as `/v2/events` answers them, oldest first."""
    told_lines = []
    for event in events:
        minutes, seconds = divmod(int(parse_timestamp(event["event_time"][:19] + "Z") - start_s), 60)
        message = event["message"]
        for host_id, name in hosts.items():
            message = message.replace(host_id, name)
        sheet = EVENTS[event["name"]]
        told_lines.append(f"{minutes:>3}:{seconds:02}  {event['severity']:<7} {event['name']:<29} {message}  [{sheet}]")
    return told_lines
