"""The printer columns of the built-in kinds (k8s.io/kubernetes/pkg/printers/internalversion, read as behaviour)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from labsim.kube.tables import Cell, Column, age, age_column, default_columns, human_duration, name_column
from labsim.model.objects import Object, dig

NONE = "<none>"
_CONFIG_MAP_DATA = (
    "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values "
    "with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the "
    "keys in the BinaryData field, this is enforced during validation process."
)


def builtin_columns(group: str, kind: str) -> tuple[Column, ...]:
    """The columns of a built-in kind; name and creation time for kinds that have no printer of their own."""
    make = _MAKERS.get((group, kind))
    return default_columns() if make is None else make()


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
    data = _plain("Data", lambda obj, _: _size(obj, "data", "binaryData"), description=_CONFIG_MAP_DATA)
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
    return name_column(), _plain("Secrets", lambda obj, _: _size(obj, "secrets")), age_column()


@functools.lru_cache(maxsize=1)
def _claim() -> tuple[Column, ...]:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}

    def modes(obj: Object, _: float) -> str:
        return ",".join(short.get(mode, mode) for mode in dig(obj, "status", "accessModes", default=()))

    return (
        name_column(),
        _plain("Status", _at("status", "phase", default="")),
        _plain("Volume", _at("spec", "volumeName", default="")),
        _plain("Capacity", _at("status", "capacity", "storage", default="")),
        _plain("Access Modes", modes),
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
