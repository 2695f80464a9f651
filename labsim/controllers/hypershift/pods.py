"""Starts the pods of control planes: what the scheduler, the kubelets and the workload controllers of a hub do.

The pods carry a schedulerName of ours, so that nothing real starts them; images take a derived time to pull. A pod
of etcd waits for its volume claim, a claim for a StorageClass that fits.
"""

from __future__ import annotations

from collections.abc import Iterable

from labsim.controllers.hypershift.components import READY_CONTAINERS
from labsim.controllers.hypershift.desired import Condition, ensure_exists, merged_conditions
from labsim.controllers.hypershift.names import CLUSTER_ANNOTATION, COMPONENT_LABEL, hash_of
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Enqueue,
    Key,
    Program,
    Result,
    Watch,
    create,
    delete,
    get,
    list_all,
    now,
    patch,
)
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import DEPLOYMENT, PERSISTENT_VOLUME_CLAIM, POD, STATEFUL_SET, STORAGE_CLASS, Kind
from labsim.model.objects import (
    Object,
    annotations_of,
    dig,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    new,
    owner_reference,
    parse_timestamp,
    timestamp,
)

_KINDS: dict[str, Kind] = {kind.plural: kind for kind in (DEPLOYMENT, STATEFUL_SET)}
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def _workload_keys(obj: Object) -> Iterable[Key]:
    if COMPONENT_LABEL in labels_of(obj) and CLUSTER_ANNOTATION in annotations_of(obj):
        plural = DEPLOYMENT.plural if obj["kind"] == DEPLOYMENT.kind else STATEFUL_SET.plural
        yield Key(namespace_of(obj), f"{plural}/{name_of(obj)}")


def _dependent_keys(obj: Object) -> Iterable[Key]:
    """The workload of a pod or a volume claim."""
    component = labels_of(obj).get(COMPONENT_LABEL)
    if component:
        plural = STATEFUL_SET.plural if component == "etcd" else DEPLOYMENT.plural
        yield Key(namespace_of(obj), f"{plural}/{component}")


class ControlPlanePods:
    """The control loop over the workloads of all control planes of a hub."""

    def __init__(self, settings: HyperShiftSettings, entropy: Entropy) -> None:
        self._settings = settings
        self._entropy = entropy

    def controller(self) -> Controller:
        return Controller(
            name="control-plane-pods",
            reconcile=self.reconcile,
            watches=(
                Watch(DEPLOYMENT, _workload_keys),
                Watch(STATEFUL_SET, _workload_keys),
                Watch(POD, _dependent_keys),
                Watch(PERSISTENT_VOLUME_CLAIM, _dependent_keys),
                Watch(STORAGE_CLASS, lambda _: (Key("", "storageclasses"),)),
            ),
            workers=8,
        )

    def reconcile(self, key: Key) -> Program[Result]:
        if key.name == "storageclasses":
            return (yield from self._wake_claims())
        plural, _, name = key.name.partition("/")
        kind = _KINDS[plural]
        workload = yield from get(kind, key.namespace, name)
        if workload is None or is_deleting(workload):
            return DONE
        makes_pods = self._settings.makes_pods
        pods = yield from (self._pods_of(workload, kind) if makes_pods else _present_pods(workload))
        due_s: float | None = None
        ready = 0
        for pod in pods:
            pod_ready, wait_s = yield from self._advance(pod, workload, kind)
            ready += pod_ready
            if wait_s is not None:
                due_s = wait_s if due_s is None else min(due_s, wait_s)
        if makes_pods:
            yield from self._write_status(workload, kind, len(pods), ready)
        return Result(due_s)

    def _wake_claims(self) -> Program[Result]:
        claims = yield from list_all(PERSISTENT_VOLUME_CLAIM)
        for claim in claims:
            for key in _dependent_keys(claim):
                yield Enqueue("control-plane-pods", key)
        return DONE

    def _pods_of(self, workload: Object, kind: Kind) -> Program[list[Object]]:
        """The pods that there should be: missing ones are made, surplus ones deleted."""
        namespace, name = namespace_of(workload), name_of(workload)
        wanted: int = dig(workload, "spec", "replicas", default=1)
        labels = {COMPONENT_LABEL: name}
        pods = yield from _present_pods(workload)
        if len(pods) != wanted:
            live = yield from list_all(POD, namespace, labels=labels, live=True)
            pods = [pod for pod in live if not is_deleting(pod)]
        names = {name_of(pod) for pod in pods}
        for number in range(wanted):
            if len(pods) >= wanted:
                break
            if kind is STATEFUL_SET:
                if f"{name}-{number}" in names:
                    continue
                yield from self._claim_volume(workload, number)
            pods.append((yield from create(_pod(workload, kind, number), POD)))
        for pod in pods[wanted:]:
            yield from delete(POD, namespace, name_of(pod))
        return pods[:wanted]

    def _claim_volume(self, workload: Object, number: int) -> Program[None]:
        for template in dig(workload, "spec", "volumeClaimTemplates", default=()):
            claim = new(
                PERSISTENT_VOLUME_CLAIM,
                namespace_of(workload),
                f"{name_of(template)}-{name_of(workload)}-{number}",
                spec=template["spec"],
            )
            claim["metadata"]["labels"] = labels_of(workload)
            yield from ensure_exists(claim, PERSISTENT_VOLUME_CLAIM)

    def _advance(self, pod: Object, workload: Object, kind: Kind) -> Program[tuple[int, float | None]]:
        """Start a pod when it is due. Answers 1 if its containers are all ready, and the seconds until it is due."""
        total = len(dig(pod, "spec", "containers", default=()))
        wanted_ready = int(annotations_of(workload).get(READY_CONTAINERS, total))
        if dig(pod, "status", "phase") == "Running":
            ready = sum(1 for entry in dig(pod, "status", "containerStatuses", default=()) if entry.get("ready"))
            if ready == wanted_ready:
                return int(ready == total), None
        elif kind is STATEFUL_SET and not (yield from self._volume_is_bound(pod)):
            return 0, None
        moment_s = yield from now()
        created_s = parse_timestamp(pod["metadata"]["creationTimestamp"])
        start_s = self._entropy.uniform(
            f"pod/{namespace_of(pod)}/{name_of(workload)}/{pod['metadata'].get('uid')}", *self._settings.pod_start_s
        )
        if moment_s < created_s + start_s:
            return 0, created_s + start_s - moment_s
        status = _running(pod, wanted_ready, moment_s)
        try:
            yield from patch(POD, namespace_of(pod), name_of(pod), {"status": status}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            return 0, None
        return int(wanted_ready == total), None

    def _volume_is_bound(self, pod: Object) -> Program[bool]:
        name = f"data-{name_of(pod)}"
        claim = yield from get(PERSISTENT_VOLUME_CLAIM, namespace_of(pod), name)
        if claim is None:
            claim = yield from get(PERSISTENT_VOLUME_CLAIM, namespace_of(pod), name, live=True)
        if claim is None:
            return False
        if dig(claim, "status", "phase") == "Bound":
            return True
        classes = yield from list_all(STORAGE_CLASS)
        wanted = dig(claim, "spec", "storageClassName")
        fitting = [
            entry
            for entry in classes
            if (name_of(entry) == wanted if wanted else annotations_of(entry).get(_DEFAULT_CLASS) == "true")
        ]
        if not fitting:
            return False
        if not self._settings.binds_volumes:
            return bool(dig(fitting[0], "volumeBindingMode") == "WaitForFirstConsumer")
        spec = {"storageClassName": name_of(fitting[0]), "volumeName": f"pvc-{claim['metadata']['uid']}"}
        yield from patch(PERSISTENT_VOLUME_CLAIM, namespace_of(claim), name, {"spec": spec})
        storage = dig(claim, "spec", "resources", "requests", "storage", default="8Gi")
        status = {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": storage}}
        yield from patch(PERSISTENT_VOLUME_CLAIM, namespace_of(claim), name, {"status": status}, subresource="status")
        return True

    def _write_status(self, workload: Object, kind: Kind, pods: int, ready: int) -> Program[None]:
        wanted: int = dig(workload, "spec", "replicas", default=1)
        before = dig(workload, "status", default={})
        status: Object = {
            "observedGeneration": workload["metadata"].get("generation", 1),
            "replicas": pods,
            "updatedReplicas": pods,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        if kind is DEPLOYMENT:
            status["unavailableReplicas"] = wanted - ready
            full = ready >= wanted
            available = Condition(
                "True" if full else "False",
                "MinimumReplicasAvailable" if full else "MinimumReplicasUnavailable",
                f"Deployment {'has' if full else 'does not have'} minimum availability.",
            )
            moment_s = yield from now()
            status["conditions"] = merged_conditions(before.get("conditions") or [], {"Available": available}, moment_s)
        changes = {key: value for key, value in status.items() if before.get(key) != value}
        if changes:
            yield from patch(kind, namespace_of(workload), name_of(workload), {"status": changes}, subresource="status")


def _present_pods(workload: Object) -> Program[list[Object]]:
    found = yield from list_all(POD, namespace_of(workload), labels={COMPONENT_LABEL: name_of(workload)})
    return [pod for pod in found if not is_deleting(pod)]


def _pod(workload: Object, kind: Kind, number: int) -> Object:
    template = workload["spec"]["template"]
    name = name_of(workload)
    made = new(POD, namespace_of(workload), f"{name}-{number}", spec=template["spec"], status={"phase": "Pending"})
    if kind is DEPLOYMENT:
        del made["metadata"]["name"]
        made["metadata"]["generateName"] = f"{name}-{hash_of(template)}-"
    made["metadata"].update(
        labels=dict(labels_of(template)),
        annotations=dict(annotations_of(template)),
        ownerReferences=[owner_reference(workload, controller=True)],
    )
    return made


def _running(pod: Object, ready: int, moment_s: float) -> Object:
    containers = dig(pod, "spec", "containers", default=())
    full = ready == len(containers)
    started = dig(pod, "status", "startTime", default=timestamp(moment_s))
    return {
        "phase": "Running",
        "startTime": started,
        "conditions": merged_conditions(
            dig(pod, "status", "conditions", default=[]),
            {
                "PodScheduled": Condition("True", ""),
                "Initialized": Condition("True", ""),
                "ContainersReady": Condition("True" if full else "False", "" if full else "ContainersNotReady"),
                "Ready": Condition("True" if full else "False", "" if full else "ContainersNotReady"),
            },
            moment_s,
        ),
        "containerStatuses": [
            {
                "name": entry["name"],
                "image": entry.get("image", ""),
                "imageID": "",
                "ready": number < ready,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": timestamp(moment_s)}},
            }
            for number, entry in enumerate(containers)
        ],
    }
