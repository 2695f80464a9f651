"""The printer columns of the built-in kinds (k8s.io/kubernetes/pkg/printers/internalversion, read as behaviour)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from importlib import resources
from typing import Any

import orjson

from labsim.kube.tables import Cell, Column, age, age_column, default_columns, human_duration, name_column
from labsim.model.objects import Object, dig

NONE = "<none>"
CONFIG_MAP_DATA = (
    "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values "
    "with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the "
    "keys in the BinaryData field, this is enforced during validation process."
)


def builtin_columns(group: str, kind: str) -> tuple[Column, ...]:
    """The columns of a built-in kind; name and creation time for kinds that have no printer of their own."""
    make = _MAKERS.get((group, kind))
    columns = default_columns() if make is None else make()
    texts = _texts().get(kind, {})
    return tuple(dataclasses.replace(c, description=texts.get(c.name, c.description)) for c in columns)


@functools.cache
def _texts() -> dict[str, dict[str, str]]:
    """What the API server says about the columns: {kind: {column: description}}."""
    text = resources.files("labsim.kube").joinpath("builtin_column_texts.json").read_bytes()
    loaded: dict[str, dict[str, str]] = orjson.loads(text)
    return loaded


def _at(*path: str, default: Any = NONE) -> Cell:
    return lambda obj, _: dig(obj, *path, default=default)


def _wide(name: str, cell: Cell) -> Column:
    return Column(name, cell, priority=1)


def _plain(name: str, cell: Cell, kind: str = "string", description: str = "") -> Column:
    return Column(name, cell, kind, description=description)


def _size(obj: Object, *fields: str) -> int:
    return sum(len(obj.get(field) or ()) for field in fields)


def _selector(labels: Any) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _containers(obj: Object, field: str) -> str:
    return ",".join(entry.get(field, "") for entry in dig(obj, "spec", "template", "spec", "containers", default=()))


def _workload_tail() -> tuple[Column, ...]:
    return (
        _wide("Containers", lambda obj, _: _containers(obj, "name")),
        _wide("Images", lambda obj, _: _containers(obj, "image")),
    )


def _match_labels(obj: Object, _: float) -> str:
    return _selector(dig(obj, "spec", "selector", "matchLabels"))


@functools.lru_cache(maxsize=1)
def _namespace() -> tuple[Column, ...]:
    return name_column(), _plain("Status", _at("status", "phase", default="")), age_column()


@functools.lru_cache(maxsize=1)
def _secret() -> tuple[Column, ...]:
    return (
        name_column(),
        _plain("Type", _at("type", default="")),
        _plain("Data", lambda obj, _: _size(obj, "data")),
        age_column(),
    )


@functools.lru_cache(maxsize=1)
def _config_map() -> tuple[Column, ...]:
    data = _plain("Data", lambda obj, _: _size(obj, "data", "binaryData"), description=CONFIG_MAP_DATA)
    return name_column(), data, age_column()


@functools.lru_cache(maxsize=1)
def _event() -> tuple[Column, ...]:
    def last_seen(obj: Object, now_s: float) -> str:
        stamp = dig(obj, "series", "lastObservedTime") or obj.get("lastTimestamp") or obj.get("eventTime")
        return age(stamp or obj.get("firstTimestamp"), now_s)

    def first_seen(obj: Object, now_s: float) -> str:
        return age(obj.get("firstTimestamp") or obj.get("eventTime"), now_s)

    def involved(obj: Object, _: float) -> str:
        target = obj.get("involvedObject") or {}
        return f"{str(target.get('kind', '')).lower()}/{target.get('name', '')}"

    def source(obj: Object, _: float) -> str:
        component = dig(obj, "source", "component") or obj.get("reportingComponent") or ""
        host = dig(obj, "source", "host") or obj.get("reportingInstance") or ""
        return ", ".join(part for part in (component, host) if part)

    return (
        _plain("Last Seen", last_seen),
        _plain("Type", _at("type", default="")),
        _plain("Reason", _at("reason", default="")),
        _plain("Object", involved),
        _wide("Subobject", _at("involvedObject", "fieldPath", default="")),
        _wide("Source", source),
        _plain("Message", lambda obj, _: str(obj.get("message", "")).strip()),
        _wide("First Seen", first_seen),
        _wide("Count", lambda obj, _: dig(obj, "series", "count") or obj.get("count") or 1),
        Column("Name", _at("metadata", "name", default=""), "string", "name", priority=1),
    )


@functools.lru_cache(maxsize=1)
def _node() -> tuple[Column, ...]:
    def status(obj: Object, _: float) -> str:
        ready = [entry for entry in dig(obj, "status", "conditions", default=()) if entry.get("type") == "Ready"]
        words = ["Ready" if entry.get("status") == "True" else "NotReady" for entry in ready] or ["Unknown"]
        if dig(obj, "spec", "unschedulable"):
            words.append("SchedulingDisabled")
        return ",".join(words)

    def roles(obj: Object, _: float) -> str:
        prefix = "node-role.kubernetes.io/"
        labels = obj["metadata"].get("labels") or {}
        found = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)}
        if labels.get("kubernetes.io/role"):
            found.add(labels["kubernetes.io/role"])
        return ",".join(sorted(role for role in found if role)) or NONE

    def address(kind: str) -> Cell:
        def cell(obj: Object, _: float) -> str:
            addresses = dig(obj, "status", "addresses", default=())
            return next((entry["address"] for entry in addresses if entry.get("type") == kind), NONE)

        return cell

    def info(field: str) -> Cell:
        return lambda obj, _: dig(obj, "status", "nodeInfo", field) or "<unknown>"

    return (
        name_column(),
        _plain("Status", status),
        _plain("Roles", roles),
        age_column(),
        _plain("Version", _at("status", "nodeInfo", "kubeletVersion", default="")),
        _wide("Internal-IP", address("InternalIP")),
        _wide("External-IP", address("ExternalIP")),
        _wide("OS-Image", info("osImage")),
        _wide("Kernel-Version", info("kernelVersion")),
        _wide("Container-Runtime", info("containerRuntimeVersion")),
    )


def _pod_status(obj: Object, _: float) -> str:
    reason = dig(obj, "status", "reason") or dig(obj, "status", "phase", default="")
    for entry in dig(obj, "status", "containerStatuses", default=()):
        state = entry.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        reason = waiting.get("reason") or ended.get("reason") or reason
    if reason == "Completed" and any(
        dig(e, "state", "running") for e in dig(obj, "status", "containerStatuses", default=())
    ):
        reason = "Running"
    if obj["metadata"].get("deletionTimestamp"):
        return "Unknown" if dig(obj, "status", "reason") == "NodeLost" else "Terminating"
    return str(reason)


@functools.lru_cache(maxsize=1)
def _pod() -> tuple[Column, ...]:
    def ready(obj: Object, _: float) -> str:
        statuses = dig(obj, "status", "containerStatuses", default=())
        return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(dig(obj, 'spec', 'containers', default=()))}"

    def restarts(obj: Object, _: float) -> str:
        return str(sum(int(s.get("restartCount", 0)) for s in dig(obj, "status", "containerStatuses", default=())))

    def gates(obj: Object, _: float) -> str:
        wanted = [gate.get("conditionType") for gate in dig(obj, "spec", "readinessGates", default=())]
        if not wanted:
            return NONE
        conditions = dig(obj, "status", "conditions", default=())
        met = sum(c.get("type") in wanted and c.get("status") == "True" for c in conditions)
        return f"{met}/{len(wanted)}"

    return (
        name_column(),
        _plain("Ready", ready),
        _plain("Status", _pod_status),
        _plain("Restarts", restarts),
        age_column(),
        _wide("IP", lambda obj, _: dig(obj, "status", "podIP") or NONE),
        _wide("Node", lambda obj, _: dig(obj, "spec", "nodeName") or NONE),
        _wide("Nominated Node", lambda obj, _: dig(obj, "status", "nominatedNodeName") or NONE),
        _wide("Readiness Gates", gates),
    )


@functools.lru_cache(maxsize=1)
def _service() -> tuple[Column, ...]:
    def external(obj: Object, _: float) -> str:
        kind = dig(obj, "spec", "type", default="ClusterIP")
        ips = list(dig(obj, "spec", "externalIPs", default=()))
        if kind == "ExternalName":
            return str(dig(obj, "spec", "externalName", default=""))
        if kind == "LoadBalancer":
            ingress = dig(obj, "status", "loadBalancer", "ingress", default=())
            ips = [entry.get("ip") or entry.get("hostname", "") for entry in ingress] + ips
            return ",".join(ips) or "<pending>"
        return ",".join(ips) or NONE

    def ports(obj: Object, _: float) -> str:
        texts = []
        for entry in dig(obj, "spec", "ports", default=()):
            node_port = f":{entry['nodePort']}" if entry.get("nodePort") else ""
            texts.append(f"{entry.get('port')}{node_port}/{entry.get('protocol', 'TCP')}")
        return ",".join(texts) or NONE

    return (
        name_column(),
        _plain("Type", _at("spec", "type", default="ClusterIP")),
        _plain("Cluster-IP", lambda obj, _: dig(obj, "spec", "clusterIP") or NONE),
        _plain("External-IP", external),
        _plain("Port(s)", ports),
        age_column(),
        _wide("Selector", lambda obj, _: _selector(dig(obj, "spec", "selector"))),
    )


@functools.lru_cache(maxsize=1)
def _service_account() -> tuple[Column, ...]:
    return name_column(), age_column()


@functools.lru_cache(maxsize=1)
def _scale() -> tuple[Column, ...]:
    desired = "replicas is the desired number of instances for the scaled object."
    actual = "replicas is the actual number of observed instances of the scaled object."
    return (
        name_column(),
        _plain("Desired", _at("spec", "replicas", default=0), "integer", desired),
        _plain("Available", _at("status", "replicas", default=0), "integer", actual),
        age_column(),
    )


@functools.lru_cache(maxsize=1)
def _replica_set() -> tuple[Column, ...]:
    return (
        name_column(),
        _plain("Desired", _at("spec", "replicas", default=0), "integer"),
        _plain("Current", _at("status", "replicas", default=0), "integer"),
        _plain("Ready", _at("status", "readyReplicas", default=0), "integer"),
        age_column(),
        *_workload_tail(),
        _wide("Selector", _match_labels),
    )


@functools.lru_cache(maxsize=1)
def _priority_class() -> tuple[Column, ...]:
    return (
        name_column(),
        _plain("Value", _at("value", default=0), "integer"),
        _plain("Global-Default", _at("globalDefault", default=False), "boolean"),
        age_column(),
        _plain("PreemptionPolicy", _at("preemptionPolicy", default="PreemptLowerPriority")),
    )


@functools.lru_cache(maxsize=1)
def _volume() -> tuple[Column, ...]:
    def claim(obj: Object, _: float) -> str:
        found = dig(obj, "spec", "claimRef", default={})
        return f"{found.get('namespace', '')}/{found.get('name', '')}" if found else ""

    return (
        name_column(),
        _plain("Capacity", _at("spec", "capacity", "storage", default="")),
        _plain("Access Modes", lambda obj, _: _modes(dig(obj, "spec", "accessModes", default=()))),
        _plain("Reclaim Policy", _at("spec", "persistentVolumeReclaimPolicy", default="")),
        _plain("Status", _at("status", "phase", default="")),
        _plain("Claim", claim),
        _plain("StorageClass", _at("spec", "storageClassName", default="")),
        _plain("VolumeAttributesClass", _at("spec", "volumeAttributesClassName", default="<unset>")),
        _plain("Reason", _at("status", "reason", default="")),
        age_column(),
        _wide("VolumeMode", _at("spec", "volumeMode", default="")),
    )


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(modes: Any) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in modes)


@functools.lru_cache(maxsize=1)
def _claim() -> tuple[Column, ...]:
    return (
        name_column(),
        _plain("Status", _at("status", "phase", default="")),
        _plain("Volume", _at("spec", "volumeName", default="")),
        _plain("Capacity", _at("status", "capacity", "storage", default="")),
        _plain("Access Modes", lambda obj, _: _modes(dig(obj, "status", "accessModes", default=()))),
        _plain("StorageClass", _at("spec", "storageClassName", default="")),
        _plain("VolumeAttributesClass", lambda obj, _: dig(obj, "spec", "volumeAttributesClassName") or "<unset>"),
        age_column(),
        _wide("VolumeMode", _at("spec", "volumeMode", default="<unset>")),
    )


@functools.lru_cache(maxsize=1)
def _binding() -> tuple[Column, ...]:
    def subjects(kind: str) -> Cell:
        def cell(obj: Object, _: float) -> str:
            names = [
                f"{entry.get('namespace')}/{entry['name']}" if kind == "ServiceAccount" else entry["name"]
                for entry in obj.get("subjects") or ()
                if entry.get("kind") == kind
            ]
            return ", ".join(names)

        return cell

    def role(obj: Object, _: float) -> str:
        return f"{dig(obj, 'roleRef', 'kind', default='')}/{dig(obj, 'roleRef', 'name', default='')}"

    return (
        name_column(),
        _plain("Role", role),
        age_column(),
        _wide("Users", subjects("User")),
        _wide("Groups", subjects("Group")),
        _wide("ServiceAccounts", subjects("ServiceAccount")),
    )


def _count(*path: str) -> Cell:
    return lambda obj, _: dig(obj, *path, default=0)


def _ratio(obj: Object, _: float) -> str:
    return f"{dig(obj, 'status', 'readyReplicas', default=0)}/{dig(obj, 'spec', 'replicas', default=0)}"


@functools.lru_cache(maxsize=1)
def _deployment() -> tuple[Column, ...]:
    return (
        name_column(),
        _plain("Ready", _ratio),
        _plain("Up-to-date", _count("status", "updatedReplicas")),
        _plain("Available", _count("status", "availableReplicas")),
        age_column(),
        *_workload_tail(),
        _wide("Selector", _match_labels),
    )


@functools.lru_cache(maxsize=1)
def _stateful_set() -> tuple[Column, ...]:
    return name_column(), _plain("Ready", _ratio), age_column(), *_workload_tail()


@functools.lru_cache(maxsize=1)
def _daemon_set() -> tuple[Column, ...]:
    def node_selector(obj: Object, _: float) -> str:
        return _selector(dig(obj, "spec", "template", "spec", "nodeSelector"))

    return (
        name_column(),
        _plain("Desired", _count("status", "desiredNumberScheduled"), "integer"),
        _plain("Current", _count("status", "currentNumberScheduled"), "integer"),
        _plain("Ready", _count("status", "numberReady"), "integer"),
        _plain("Up-to-date", _count("status", "updatedNumberScheduled"), "integer"),
        _plain("Available", _count("status", "numberAvailable"), "integer"),
        _plain("Node Selector", node_selector),
        age_column(),
        *_workload_tail(),
        _wide("Selector", _match_labels),
    )


@functools.lru_cache(maxsize=1)
def _storage_class() -> tuple[Column, ...]:
    def name(obj: Object, _: float) -> str:
        annotations = obj["metadata"].get("annotations") or {}
        default = annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
        return str(obj["metadata"]["name"]) + (" (default)" if default else "")

    return (
        Column("Name", name, "string", "name", name_column().description),
        _plain("Provisioner", _at("provisioner", default="")),
        _plain("ReclaimPolicy", _at("reclaimPolicy", default="Delete")),
        _plain("VolumeBindingMode", _at("volumeBindingMode", default="Immediate")),
        _plain("AllowVolumeExpansion", _at("allowVolumeExpansion", default=False)),
        age_column(),
    )


@functools.lru_cache(maxsize=1)
def _lease() -> tuple[Column, ...]:
    return name_column(), _plain("Holder", _at("spec", "holderIdentity", default="")), age_column()


@functools.lru_cache(maxsize=1)
def _signing_request() -> tuple[Column, ...]:
    def condition(obj: Object, _: float) -> str:
        types = [entry.get("type") for entry in dig(obj, "status", "conditions", default=())]
        words = [word for word in ("Denied", "Approved") if word in types][:1] or ["Pending"]
        words += ["Failed"] if "Failed" in types else []
        words += ["Issued"] if dig(obj, "status", "certificate") else []
        return ",".join(words)

    return (
        name_column(),
        age_column(),
        _plain("SignerName", _at("spec", "signerName", default="")),
        _plain("Requestor", _at("spec", "username", default="")),
        _plain("RequestedDuration", _requested_duration),
        _plain("Condition", condition),
    )


def _requested_duration(obj: Object, _: float) -> str:
    seconds = dig(obj, "spec", "expirationSeconds")
    return NONE if seconds is None else human_duration(float(seconds))


_MAKERS: dict[tuple[str, str], Callable[[], tuple[Column, ...]]] = {
    ("", "Namespace"): _namespace,
    ("", "Secret"): _secret,
    ("", "ConfigMap"): _config_map,
    ("", "Event"): _event,
    ("", "Node"): _node,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("", "ServiceAccount"): _service_account,
    ("", "PersistentVolume"): _volume,
    ("apps", "ReplicaSet"): _replica_set,
    ("autoscaling", "Scale"): _scale,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("", "PersistentVolumeClaim"): _claim,
    ("rbac.authorization.k8s.io", "RoleBinding"): _binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _binding,
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("storage.k8s.io", "StorageClass"): _storage_class,
    ("coordination.k8s.io", "Lease"): _lease,
    ("certificates.k8s.io", "CertificateSigningRequest"): _signing_request,
}
