"""Pods and what makes them: defaults and checks."""

from __future__ import annotations

from typing import Any

import orjson

from labsim.kube.errors import cause
from labsim.kube.label_syntax import label_problems
from labsim.kube.users import User
from labsim.model.objects import Object, dig

Cause = dict[str, str]
TOLERATION_S = 300  # of an unready or unreachable node, by admission

_MUTABLE_POD_FIELDS = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")


def complete_pod(obj: Object, old: Object | None, _user: User) -> None:
    """A Pod as admission and defaulting leave it."""
    spec = obj.setdefault("spec", {})
    _complete_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    before = {} if old is None else old["spec"]
    spec.setdefault("priority", before.get("priority", 0))
    spec.setdefault("preemptionPolicy", before.get("preemptionPolicy", "PreemptLowerPriority"))
    _tolerate_node_troubles(spec)
    if old is None:
        obj["status"] = {"phase": "Pending", "qosClass": _quality_of_service(spec)}


def _tolerate_node_troubles(spec: Object) -> None:
    tolerations = spec.setdefault("tolerations", [])
    for trouble in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{trouble}"
        if any(
            entry.get("key") in (key, None, "") and entry.get("effect") in ("NoExecute", None, "")
            for entry in tolerations
        ):
            continue
        tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_S})


def _quality_of_service(spec: Object) -> str:
    resources = [container.get("resources") or {} for container in spec.get("containers") or ()]
    if not any(entry.get("requests") or entry.get("limits") for entry in resources):
        return "BestEffort"
    for entry in resources:
        limits, requests = entry.get("limits") or {}, entry.get("requests") or entry.get("limits") or {}
        if any(limits.get(name) is None or limits.get(name) != requests.get(name) for name in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"


def _complete_pod_spec(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        image = str(container.get("image", ""))
        tag = image.rpartition("/")[2]
        latest = "@" not in tag and (":" not in tag or tag.endswith(":latest"))
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("resources", {})
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")


def pod_problems(obj: Object, old: Object | None) -> list[Cause]:
    if old is None:
        return [*_container_problems(obj["spec"], "spec"), *_choice_problems(obj["spec"], _POD_CHOICES, "spec")]
    for field in ("containers", "initContainers"):
        if len(obj["spec"].get(field) or ()) != len(old["spec"].get(field) or ()):
            text = "Forbidden: pod updates may not add or remove containers"
            return [cause("FieldValueForbidden", text, f"spec.{field}")]
    if _fixed_part(obj["spec"]) == _fixed_part(old["spec"]):
        return []
    text = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    text += (
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    )
    text += "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    return [cause("FieldValueForbidden", text, "spec")]


def _fixed_part(spec: Object) -> Object:
    """What of a Pod's spec cannot be changed any more."""
    fixed: Object = {key: value for key, value in spec.items() if key not in _MUTABLE_POD_FIELDS}
    for field in ("containers", "initContainers"):
        if field in fixed:
            fixed[field] = [
                {key: value for key, value in container.items() if key != "image"} for container in fixed[field]
            ]
    return fixed


def _container_problems(spec: Object, path: str) -> list[Cause]:
    containers = spec.get("containers")
    if not containers:
        return [cause("FieldValueRequired", "Required value", f"{path}.containers")]
    found: list[Cause] = []
    names: set[str] = set()
    for index, container in enumerate(containers):
        here, name = f"{path}.containers[{index}]", str(container.get("name") or "")
        if not name:
            found.append(cause("FieldValueRequired", "Required value", f"{here}.name"))
        shown = orjson.dumps(name).decode()
        problems = label_problems(name) if name else ()
        found += [cause("FieldValueInvalid", f"Invalid value: {shown}: {text}", f"{here}.name") for text in problems]
        if name and name in names:
            found.append(cause("FieldValueDuplicate", f"Duplicate value: {shown}", f"{here}.name"))
        names.add(name)
        if not container.get("image") and path == "spec":
            found.append(cause("FieldValueRequired", "Required value", f"{here}.image"))
        found += _choice_problems(container, {"imagePullPolicy": ("Always", "IfNotPresent", "Never")}, here)
        for at, port in enumerate(container.get("ports") or ()):
            number = port.get("containerPort", 0)
            if not 1 <= number <= 65535:
                text = f"Invalid value: {number}: must be between 1 and 65535, inclusive"
                found.append(cause("FieldValueInvalid", text, f"{here}.ports[{at}].containerPort"))
        for at, mount in enumerate(container.get("volumeMounts") or ()):
            known = {volume.get("name") for volume in spec.get("volumes") or ()}
            if mount.get("name") not in known:
                text = f"Not found: {orjson.dumps(mount.get('name', '')).decode()}"
                found.append(cause("FieldValueNotFound", text, f"{here}.volumeMounts[{at}].name"))
    return found


_POD_CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
}


def _choice_problems(obj: Object, choices: dict[str, tuple[str, ...]], path: str) -> list[Cause]:
    """The fields that hold another word than those that may stand there."""
    return [
        cause(
            "FieldValueNotSupported",
            f"Unsupported value: {orjson.dumps(obj[field]).decode()}: "
            f"supported values: {', '.join(orjson.dumps(word).decode() for word in words)}",
            f"{path}.{field}",
        )
        for field, words in choices.items()
        if field in obj and obj[field] not in words
    ]


# -- what makes pods -------------------------------------------------------------------------------------------------


def _complete_template(obj: Object) -> Object:
    spec: Object = obj.setdefault("spec", {})
    template = spec.get("template")
    if isinstance(template, dict):
        _complete_pod_spec(template.setdefault("spec", {}))
    return spec


def complete_deployment(obj: Object, old: Object | None, _user: User) -> None:
    spec = _complete_template(obj)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    _fresh_status(obj, old, {})


def complete_replica_set(obj: Object, old: Object | None, _user: User) -> None:
    _complete_template(obj).setdefault("replicas", 1)
    _fresh_status(obj, old, {"replicas": 0})


def complete_stateful_set(obj: Object, old: Object | None, _user: User) -> None:
    spec = _complete_template(obj)
    spec.setdefault("replicas", 1)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    _fresh_status(obj, old, {"replicas": 0, "availableReplicas": 0})


def complete_daemon_set(obj: Object, old: Object | None, _user: User) -> None:
    spec = _complete_template(obj)
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    counts = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    _fresh_status(obj, old, dict.fromkeys(counts, 0))


def _fresh_status(obj: Object, old: Object | None, status: Object) -> None:
    if old is None:
        obj["status"] = status


def workload_problems(obj: Object, old: Object | None) -> list[Cause]:
    spec: Any = obj["spec"]
    if old is not None and spec.get("selector") == old["spec"].get("selector"):
        return []
    found = []
    if old is not None:
        text = f"Invalid value: {orjson.dumps(spec.get('selector')).decode()}: field is immutable"
        found.append(cause("FieldValueInvalid", text, "spec.selector"))
    labels = dig(spec, "template", "metadata", "labels", default={})
    wanted = dig(spec, "selector", "matchLabels", default={})
    if not spec.get("selector"):
        found.append(cause("FieldValueRequired", "Required value", "spec.selector"))
    elif any(labels.get(key) != value for key, value in wanted.items()):
        text = f"Invalid value: {orjson.dumps(labels).decode()}: `selector` does not match template `labels`"
        found.append(cause("FieldValueInvalid", text, "spec.template.metadata.labels"))
    return found
