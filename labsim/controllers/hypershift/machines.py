"""The CAPI objects that a NodePool becomes (fact sheet, section 4.1)."""

from __future__ import annotations

from typing import Any

from labsim.controllers.hypershift.desired import ensure, ensure_exists
from labsim.controllers.hypershift.names import NODE_POOL_ANNOTATION, PREFIX, hash_of, machine_label
from labsim.controllers.hypershift.settings import kubernetes_version
from labsim.controllers.runtime.effects import Program, delete, get, patch
from labsim.model.kinds import AGENT_MACHINE_TEMPLATE, MACHINE_DEPLOYMENT, MACHINE_HEALTH_CHECK, MACHINE_SET
from labsim.model.objects import Object, annotations_of, condition_status, dig, name_of, namespace_of, new

_MIN_SIZE = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size"
_MAX_SIZE = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size"
_PAUSED = "cluster.x-k8s.io/paused"


def is_in_place(node_pool: Object) -> bool:
    return bool(dig(node_pool, "spec", "management", "upgradeType") == "InPlace")


def pool_text(node_pool: Object) -> str:
    return f"{namespace_of(node_pool)}/{name_of(node_pool)}"


def agent_machine_template(node_pool: Object, place: str) -> Object:
    """The template of the AgentMachines; its name changes with the label selector."""
    selector = dig(node_pool, "spec", "platform", "agent", "agentLabelSelector")
    inner: Object = {} if selector is None else {"agentLabelSelector": selector}
    spec = {"template": {"spec": inner}}
    made = new(AGENT_MACHINE_TEMPLATE, place, f"{name_of(node_pool)}-{hash_of(spec)}", spec=spec)
    made["metadata"]["annotations"] = {NODE_POOL_ANNOTATION: pool_text(node_pool)}
    return made


def replicas_of(node_pool: Object, present: Object | None) -> int:
    """How many Machines a NodePool wants; with autoscaling what there is, kept between the bounds."""
    scaling = dig(node_pool, "spec", "autoScaling")
    if not scaling:
        return int(dig(node_pool, "spec", "replicas", default=0))
    current = int(dig(present, "spec", "replicas", default=0))
    return min(max(current, int(scaling["min"])), int(scaling["max"]))


def ensure_machines(
    node_pool: Object, cluster: Object, place: str, *, user_data: str, config: str, version: str, paused: bool
) -> Program[Object]:
    """The MachineSet (InPlace) or MachineDeployment (Replace) of a NodePool."""
    template = agent_machine_template(node_pool, place)
    yield from ensure_exists(template, AGENT_MACHINE_TEMPLATE)
    kind = MACHINE_SET if is_in_place(node_pool) else MACHINE_DEPLOYMENT
    present = yield from get(kind, place, name_of(node_pool))
    infra = str(dig(cluster, "spec", "infraID"))
    label = machine_label(infra, name_of(cluster), name_of(node_pool))
    spec: Object = {
        "clusterName": infra,
        "replicas": replicas_of(node_pool, present),
        "selector": {"matchLabels": {label: label}},
        "template": {
            "metadata": {
                "labels": {label: label, "cluster.x-k8s.io/cluster-name": infra},
                "annotations": {NODE_POOL_ANNOTATION: pool_text(node_pool)},
            },
            "spec": _machine_spec(node_pool, infra, place, name_of(template), user_data, version),
        },
    }
    annotations = _annotations(node_pool, present, config, version, name_of(template))
    if kind is MACHINE_DEPLOYMENT:
        spec["strategy"] = _strategy(node_pool)
    made = new(kind, place, name_of(node_pool), spec=spec)
    if paused:
        annotations[_PAUSED] = "true"
    made["metadata"].update(annotations=annotations, labels={"cluster.x-k8s.io/cluster-name": infra})
    stored = yield from ensure(made, kind)
    if not paused and _PAUSED in annotations_of(stored):
        body = {"metadata": {"annotations": {_PAUSED: None}}}
        stored = yield from patch(kind, place, name_of(node_pool), body)
    return stored


def _machine_spec(node_pool: Object, infra: str, place: str, template: str, user_data: str, version: str) -> Object:
    spec: Object = {
        "clusterName": infra,
        "bootstrap": {"dataSecretName": user_data},
        "infrastructureRef": {
            "apiVersion": AGENT_MACHINE_TEMPLATE.api_version,
            "kind": AGENT_MACHINE_TEMPLATE.kind,
            "namespace": place,
            "name": template,
        },
        "version": kubernetes_version(version),
    }
    for field in ("nodeDrainTimeout", "nodeVolumeDetachTimeout"):
        value = dig(node_pool, "spec", field)
        if value:
            spec[field] = value
    return spec


def _annotations(node_pool: Object, present: Object | None, config: str, version: str, template: str) -> dict[str, str]:
    scaling: Object = dig(node_pool, "spec", "autoScaling", default={})
    taints = dig(node_pool, "spec", "taints", default=[])
    made = {
        NODE_POOL_ANNOTATION: pool_text(node_pool),
        f"{PREFIX}nodePoolTargetConfigVersion": config,
        f"{PREFIX}nodePoolPlatformMachineTemplate": template,
        f"{PREFIX}nodePoolTaints": hash_of(taints) if taints else "[]",
        f"{PREFIX}release-version": version,
        _MIN_SIZE: str(scaling.get("min", 0)),
        _MAX_SIZE: str(scaling.get("max", 0)),
    }
    if is_in_place(node_pool):
        unavailable = dig(node_pool, "spec", "management", "inPlace", "maxUnavailable", default=1)
        made[f"{PREFIX}nodePoolMaxUnavailable"] = str(unavailable)
    current = annotations_of(present or {"metadata": {}}).get(f"{PREFIX}nodePoolCurrentConfigVersion")
    if current is None and is_in_place(node_pool):
        # The first Machines start with the target, so there is nothing to update in place.
        made[f"{PREFIX}nodePoolCurrentConfigVersion"] = config
        made[f"{PREFIX}nodePoolCurrentConfig"] = config
    return made


def _strategy(node_pool: Object) -> Object:
    replace: Object = dig(node_pool, "spec", "management", "replace", default={})
    kind = replace.get("strategy", "RollingUpdate")
    if kind == "OnDelete":
        return {"type": "OnDelete"}
    rolling: dict[str, Any] = {"maxSurge": 1, "maxUnavailable": 0, **(replace.get("rollingUpdate") or {})}
    return {"type": "RollingUpdate", "rollingUpdate": rolling}


def ensure_health_check(node_pool: Object, cluster: Object, place: str) -> Program[None]:
    """The MachineHealthCheck of autoRepair, which comes only once a node has fetched its Ignition."""
    name = name_of(node_pool)
    wanted = bool(dig(node_pool, "spec", "management", "autoRepair"))
    if not wanted:
        if (yield from get(MACHINE_HEALTH_CHECK, place, name)) is not None:
            yield from delete(MACHINE_HEALTH_CHECK, place, name)
        return
    if condition_status(node_pool, "ReachedIgnitionEndpoint") != "True":
        return
    infra = str(dig(cluster, "spec", "infraID"))
    label = machine_label(infra, name_of(cluster), name)
    marks = {**annotations_of(cluster), **annotations_of(node_pool)}
    timeout = marks.get(f"{PREFIX}machine-health-check-timeout", "16m0s")
    maximum: int | str = marks.get(f"{PREFIX}machine-health-check-max-unhealthy", "2")
    spec = {
        "clusterName": infra,
        "selector": {"matchLabels": {label: label}},
        "unhealthyConditions": [
            {"type": "Ready", "status": "False", "timeout": timeout},
            {"type": "Ready", "status": "Unknown", "timeout": timeout},
        ],
        "maxUnhealthy": int(maximum) if str(maximum).isdigit() else maximum,
        "nodeStartupTimeout": marks.get(f"{PREFIX}machine-health-check-node-startup-timeout", "20m0s"),
    }
    made = new(MACHINE_HEALTH_CHECK, place, name, spec=spec)
    made["metadata"]["annotations"] = {NODE_POOL_ANNOTATION: pool_text(node_pool)}
    yield from ensure(made, MACHINE_HEALTH_CHECK)
