"""What the server fills in and checks for built-in kinds, as far as the flow of the Agent platform meets it.

A strategy has two halves: `complete` defaults an object before it is checked (with the state before, None for a new
one), `problems` says what is wrong with it. What a strategy does not look at is stored as it came.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

import orjson

from labsim.kube import builtin_workloads as workloads
from labsim.kube.errors import cause
from labsim.kube.go_json import syntax_problem
from labsim.kube.label_syntax import config_key_problems
from labsim.kube.users import User
from labsim.model.objects import Object, dig

DATA_BYTES_MAX = 1024 * 1024
Cause = dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Strategy:
    """The rules of one kind. `complete(obj, old, user)` changes in place, `problems(obj, old)` only looks."""

    complete: Callable[[Object, Object | None, User], None] | None = None
    problems: Callable[[Object, Object | None], list[Cause]] | None = None


def _immutable(old: Any, new: Any, path: str, text: str = "field is immutable") -> list[Cause]:
    if old == new:
        return []
    return [cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(new).decode()}: {text}", path)]


def _required(obj: Object, *paths: str) -> list[Cause]:
    return [cause("FieldValueRequired", "Required value", path) for path in paths if not dig(obj, *path.split("."))]


# -- ConfigMap, Secret -----------------------------------------------------------------------------------------------


def _key_problems(entries: Object | None, path: str) -> list[Cause]:
    return [
        cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(key).decode()}: {text}", f"{path}[{key}]")
        for key in entries or ()
        for text in config_key_problems(key)
    ]


def _config_map_problems(obj: Object, old: Object | None) -> list[Cause]:
    data, binary = obj.get("data"), obj.get("binaryData")
    found = _key_problems(data, "data") + _key_problems(binary, "binaryData")
    for key in sorted((data or {}).keys() & (binary or {}).keys()):
        text = f"Invalid value: {orjson.dumps(key).decode()}: duplicate of key present in binaryData"
        found.append(cause("FieldValueInvalid", text, f"data[{key}]"))
    size = sum(map(len, (data or {}).values())) + sum(len(text) * 3 // 4 for text in (binary or {}).values())
    if size > DATA_BYTES_MAX:
        found.append(cause("FieldValueTooLong", f"Too long: may not be more than {DATA_BYTES_MAX} bytes", "[]"))
    if old is not None and old.get("immutable"):
        found += _immutable_data(obj, old, ("data", "binaryData"))
    return found


def _immutable_data(obj: Object, old: Object, fields: tuple[str, ...]) -> list[Cause]:
    text = "Forbidden: field is immutable when `immutable` is set"
    found = [] if obj.get("immutable") else [cause("FieldValueForbidden", text, "immutable")]
    return found + [cause("FieldValueForbidden", text, key) for key in fields if obj.get(key) != old.get(key)]


def _complete_secret(obj: Object, _old: Object | None, _user: User) -> None:
    """Default the type, and move stringData, which is never shown, into data."""
    if not obj.get("type"):
        obj["type"] = "Opaque"
    texts = obj.pop("stringData", None)
    if texts:
        added = {key: base64.b64encode(value.encode()).decode() for key, value in texts.items()}
        obj["data"] = {**(obj.get("data") or {}), **added}


_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _secret_problems(obj: Object, old: Object | None) -> list[Cause]:
    data = obj.get("data") or {}
    found = _key_problems(data, "data")
    if sum(len(text) * 3 // 4 for text in data.values()) > DATA_BYTES_MAX:
        found.append(cause("FieldValueTooLong", f"Too long: may not be more than {DATA_BYTES_MAX} bytes", "data"))
    account = "kubernetes.io/service-account.name"
    if obj["type"] == "kubernetes.io/service-account-token" and not dig(obj, "metadata", "annotations", account):
        found.append(cause("FieldValueRequired", "Required value", f"metadata.annotations[{account}]"))
    if obj["type"] == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        found += [cause("FieldValueRequired", "Required value", f"data[{key}]") for key in ("username", "password")]
    for key in _SECRET_KEYS.get(obj["type"], ()):
        if key not in data:
            found.append(cause("FieldValueRequired", "Required value", f"data[{key}]"))
        elif key.startswith(".docker"):
            found += _docker_problems(data[key], key)
    if old is not None:
        found += _immutable(old.get("type"), obj["type"], "type")
        if old.get("immutable"):
            found += _immutable_data(obj, old, ("data",))
    return found


def _docker_problems(text: str, key: str) -> list[Cause]:
    try:
        orjson.loads(base64.b64decode(text))
    except ValueError:
        problem = syntax_problem(base64.b64decode(text))
        message = f'Invalid value: "<secret contents redacted>": {problem}'
        return [cause("FieldValueInvalid", message, f"data[{key}]")]
    return []


# -- Namespace, Node -------------------------------------------------------------------------------------------------


def label_namespace(metadata: Object) -> None:
    """Every Namespace has its name as a label."""
    if metadata["name"]:
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]


def _complete_namespace(obj: Object, old: Object | None, _user: User) -> None:
    if old is None:
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        obj["status"] = {"phase": "Active"}
    else:
        obj.setdefault("status", {}).setdefault("phase", "Active")
        finalizers = dig(old, "spec", "finalizers")
        obj["spec"] = {**(obj.get("spec") or {}), "finalizers": finalizers} if finalizers else {}


_NOT_READY = "node.kubernetes.io/not-ready"
NODE_INFO = (
    *("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion"),
    *("kubeProxyVersion", "operatingSystem", "architecture"),
)


def _complete_node(obj: Object, old: Object | None, _user: User) -> None:
    spec = obj.setdefault("spec", {})
    if old is None:  # admission TaintNodesByCondition: until somebody has seen it ready, nothing is placed on it
        taints = spec.setdefault("taints", [])
        if not any(entry.get("key") == _NOT_READY and entry.get("effect") == "NoSchedule" for entry in taints):
            taints.append({"key": _NOT_READY, "effect": "NoSchedule"})
    status = obj.setdefault("status", {})
    status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    information = status.setdefault("nodeInfo", {})
    for field in NODE_INFO:
        information.setdefault(field, "")
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


NODE_STATUS_BLANKS: Object = {
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    "nodeInfo": dict.fromkeys(NODE_INFO, ""),
}


def _node_problems(obj: Object, old: Object | None) -> list[Cause]:
    before = dig(old, "spec", "providerID", default="")
    if before and dig(obj, "spec", "providerID", default="") != before:
        text = 'Forbidden: node updates may not change providerID except from "" to valid'
        return [cause("FieldValueForbidden", text, "spec.providerID")]
    return []


# -- access ----------------------------------------------------------------------------------------------------------

_RBAC = "rbac.authorization.k8s.io"


def _complete_binding(obj: Object, _old: Object | None, _user: User) -> None:
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", _RBAC)
    reference = obj.get("roleRef")
    if isinstance(reference, dict):
        reference.setdefault("apiGroup", _RBAC)


def _binding_problems(obj: Object, old: Object | None) -> list[Cause]:
    reference = obj.get("roleRef") or {}
    if old is not None and old.get("roleRef") != reference:
        shown = {key: reference.get(key[:1].lower() + key[1:], "") for key in ("APIGroup", "Kind", "Name")}
        shown["APIGroup"] = reference.get("apiGroup", "")
        text = f"Invalid value: {orjson.dumps(shown).decode()}: cannot change roleRef"
        return [cause("FieldValueInvalid", text, "roleRef")]
    found = _required(obj, "roleRef.name")
    group = reference.get("apiGroup", "")
    if group != _RBAC:
        found.append(_not_supported(group, (_RBAC,), "roleRef.apiGroup"))
    kinds: tuple[str, ...] = ("Role", "ClusterRole") if obj.get("kind") == "RoleBinding" else ("ClusterRole",)
    if reference.get("kind", "") not in kinds:
        found.append(_not_supported(reference.get("kind", ""), kinds, "roleRef.kind"))
    for index, subject in enumerate(obj.get("subjects") or ()):
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            known = ("ServiceAccount", "User", "Group")
            found.append(_not_supported(subject.get("kind", ""), known, f"subjects[{index}].kind"))
    return found


def _not_supported(value: Any, supported: tuple[str, ...], path: str) -> Cause:
    listed = ", ".join(f'"{word}"' for word in supported)
    text = f"Unsupported value: {orjson.dumps(value).decode()}: supported values: {listed}"
    return cause("FieldValueNotSupported", text, path)


def _role_problems(obj: Object, _old: Object | None) -> list[Cause]:
    found = []
    for index, rule in enumerate(obj.get("rules") or ()):
        here = f"rules[{index}]"
        if not rule.get("verbs"):
            text = "Required value: verbs must contain at least one value"
            found.append(cause("FieldValueRequired", text, f"{here}.verbs"))
        urls = rule.get("nonResourceURLs")
        if urls and obj.get("kind") == "Role":
            text = f"Invalid value: {orjson.dumps(urls).decode()}: namespaced rules cannot apply to non-resource URLs"
            found.append(cause("FieldValueInvalid", text, f"{here}.nonResourceURLs"))
        if urls:
            continue
        for field, one in (("apiGroups", "api group"), ("resources", "resource")):
            if not rule.get(field):
                text = f"Required value: resource rules must supply at least one {one}"
                found.append(cause("FieldValueRequired", text, f"{here}.{field}"))
    return found


def _lease_problems(obj: Object, _old: Object | None) -> list[Cause]:
    found = []
    spec = obj.get("spec") or {}
    lasting_s, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if lasting_s is not None and lasting_s <= 0:
        text = f"Invalid value: {lasting_s}: must be greater than 0"
        found.append(cause("FieldValueInvalid", text, "spec.leaseDurationSeconds"))
    if transitions is not None and transitions < 0:
        text = f"Invalid value: {transitions}: must be greater than or equal to 0"
        found.append(cause("FieldValueInvalid", text, "spec.leaseTransitions"))
    return found


def _complete_role(obj: Object, _old: Object | None, _user: User) -> None:
    obj.setdefault("rules", None)


EVENT_BLANKS: Object = {
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}


def _complete_event(obj: Object, _old: Object | None, _user: User) -> None:
    for field, blank in EVENT_BLANKS.items():
        if obj.get(field) is None:
            obj[field] = dict(blank) if isinstance(blank, dict) else blank
    obj.setdefault("metadata", {})
    obj.setdefault("involvedObject", {})


def _event_problems(obj: Object, old: Object | None) -> list[Cause]:
    """An Event stands in the namespace of what it is about."""
    about = str(dig(obj, "involvedObject", "namespace", default=""))
    place = obj["metadata"].get("namespace", "")
    if old is None and about != place and (about or place != "default"):
        text = f'Invalid value: "{about}": does not match event.namespace'
        return [cause("FieldValueInvalid", text, "involvedObject.namespace")]
    return []


def _complete_lease(obj: Object, _old: Object | None, _user: User) -> None:
    if obj.get("spec") is None:
        obj["spec"] = {}


def _complete_signing_request(obj: Object, old: Object | None, user: User) -> None:
    """Who asks is what authentication found, whatever the body says."""
    spec = obj.setdefault("spec", {})
    if old is None:
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec["username"] = user.name
        spec["groups"] = list(user.groups)
        if user.uid:
            spec["uid"] = user.uid
        obj["status"] = {}
    elif isinstance(old.get("spec"), dict):
        obj["spec"] = old["spec"]


def _signing_request_problems(obj: Object, old: Object | None) -> list[Cause]:
    return _required(obj, "spec.request", "spec.signerName", "spec.usages") if old is None else []


# -- storage and others ----------------------------------------------------------------------------------------------


def _complete_storage_class(obj: Object, _old: Object | None, _user: User) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def _storage_class_problems(obj: Object, old: Object | None) -> list[Cause]:
    if old is None:
        return _required(obj, "provisioner")
    found = _immutable(old.get("parameters"), obj.get("parameters"), "parameters")
    return found + _immutable(old.get("provisioner"), obj.get("provisioner"), "provisioner")


def _complete_claim(obj: Object, old: Object | None, _user: User) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    if old is None:
        obj["status"] = {"phase": "Pending"}


def _claim_problems(obj: Object, old: Object | None) -> list[Cause]:
    if old is not None:
        return []
    found = []
    if not dig(obj, "spec", "accessModes"):
        text = "Required value: at least 1 access mode is required"
        found.append(cause("FieldValueRequired", text, "spec.accessModes"))
    if not dig(obj, "spec", "resources", "requests", "storage"):
        found.append(cause("FieldValueRequired", "Required value", "spec.resources[storage]"))
    return found


def _complete_volume(obj: Object, old: Object | None, _user: User) -> None:
    obj.setdefault("spec", {}).setdefault("persistentVolumeReclaimPolicy", "Retain")
    obj["spec"].setdefault("volumeMode", "Filesystem")
    if old is None:
        obj["status"] = {"phase": "Pending"}


STRATEGIES: dict[str, Strategy] = {
    "ConfigMap": Strategy(problems=_config_map_problems),
    "Secret": Strategy(_complete_secret, _secret_problems),
    "Namespace": Strategy(_complete_namespace),
    "Node": Strategy(_complete_node, _node_problems),
    "Event": Strategy(_complete_event, _event_problems),
    "Lease": Strategy(_complete_lease, _lease_problems),
    "Role": Strategy(_complete_role, _role_problems),
    "ClusterRole": Strategy(_complete_role, _role_problems),
    "RoleBinding": Strategy(_complete_binding, _binding_problems),
    "ClusterRoleBinding": Strategy(_complete_binding, _binding_problems),
    "CertificateSigningRequest": Strategy(_complete_signing_request, _signing_request_problems),
    "StorageClass": Strategy(_complete_storage_class, _storage_class_problems),
    "PersistentVolumeClaim": Strategy(_complete_claim, _claim_problems),
    "PersistentVolume": Strategy(_complete_volume),
    "Pod": Strategy(workloads.complete_pod, workloads.pod_problems),
    "Deployment": Strategy(workloads.complete_deployment, workloads.workload_problems),
    "ReplicaSet": Strategy(workloads.complete_replica_set, workloads.workload_problems),
    "StatefulSet": Strategy(workloads.complete_stateful_set, workloads.workload_problems),
    "DaemonSet": Strategy(workloads.complete_daemon_set, workloads.workload_problems),
}
NO_RULES = Strategy()
