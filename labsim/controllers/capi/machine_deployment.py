"""The MachineDeployment controller: one MachineSet per template, and the rollout from one to the next."""

from __future__ import annotations

import hashlib

import orjson

from labsim.controllers.capi import conditions, rollout
from labsim.controllers.capi.names import (
    CAPI_GROUP,
    CLUSTER_NAME_LABEL,
    DEPLOYMENT_NAME_LABEL,
    DESIRED_REPLICAS_ANNOTATION,
    MACHINE_DEPLOYMENT_FINALIZER,
    MACHINE_SET_FINALIZER,
    MAX_REPLICAS_ANNOTATION,
    REVISION_ANNOTATION,
    TEMPLATE_HASH_LABEL,
)
from labsim.controllers.capi.owners import controller_of, group_of, is_owned_by, is_paused, own
from labsim.controllers.capi.patching import patch_changes
from labsim.controllers.capi.propagation import TIMEOUTS
from labsim.controllers.capi.selectors import text_of
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    ReconcileError,
    Result,
    Sleep,
    Watch,
    create,
    delete,
    get,
    list_all,
    now,
    own_key,
)
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import CLUSTER, MACHINE_DEPLOYMENT, MACHINE_SET
from labsim.model.objects import (
    Object,
    annotations_of,
    dig,
    finalizers_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    new,
    owner_reference,
    thaw,
)

AVAILABLE, MACHINE_SET_READY = "Available", "MachineSetReady"
_CACHE_POLL_S, _CACHE_POLLS = 0.1, 100
_INTERNAL_ANNOTATIONS = (REVISION_ANNOTATION, DESIRED_REPLICAS_ANNOTATION, MAX_REPLICAS_ANNOTATION)


def _deployment_of(machine_set: Object) -> list[Key]:
    owner = controller_of(machine_set)
    if owner is None or owner["kind"] != "MachineDeployment" or group_of(owner["apiVersion"]) != CAPI_GROUP:
        return []
    return [Key(namespace_of(machine_set), owner["name"])]


class MachineDeployments:
    """Reconciles MachineDeployments."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy.child("machine-set-names")

    def controller(self) -> Controller:
        return Controller(
            "machinedeployment",
            self.reconcile,
            (Watch(MACHINE_DEPLOYMENT, own_key), Watch(MACHINE_SET, _deployment_of), Watch(CLUSTER, None)),
            workers=10,
        )

    def reconcile(self, key: Key) -> Program[Result]:
        stored = yield from get(MACHINE_DEPLOYMENT, key.namespace, key.name)
        if stored is None:
            return DONE
        cluster = yield from get(CLUSTER, key.namespace, stored["spec"]["clusterName"])
        if cluster is None and not is_deleting(stored):
            raise ReconcileError(f'failed to get cluster "{stored["spec"]["clusterName"]}" of "{key.name}"')
        if is_paused(cluster, stored) or stored["spec"].get("paused"):
            return DONE
        deployment = thaw(stored)
        machine_sets = yield from self._machine_sets(deployment)
        error: Exception | None = None
        try:
            if is_deleting(deployment):
                yield from _delete_machine_sets(deployment, machine_sets)
            else:
                assert cluster is not None
                machine_sets = yield from self._steps(deployment, cluster, machine_sets)
        except (ApiError, ReconcileError) as raised:
            error = raised
        if finalizers_of(deployment):
            moment = yield from now()
            _update_status(deployment, machine_sets, moment)
        yield from patch_changes(MACHINE_DEPLOYMENT, stored, deployment)
        if error is not None:
            raise error
        return DONE

    def _machine_sets(self, deployment: Object) -> Program[list[Object]]:
        labels = {DEPLOYMENT_NAME_LABEL: name_of(deployment)}
        found = yield from list_all(MACHINE_SET, namespace_of(deployment), labels=labels)
        return [machine_set for machine_set in found if is_owned_by(machine_set, deployment)]

    def _steps(self, deployment: Object, cluster: Object, machine_sets: list[Object]) -> Program[list[Object]]:
        _complete(deployment, cluster)
        newest = newest_of(deployment, machine_sets)
        if newest is None:
            newest = yield from self._make_machine_set(deployment, machine_sets)
            machine_sets = [*machine_sets, newest]
        others = [machine_set for machine_set in machine_sets if name_of(machine_set) != name_of(newest)]
        others.sort(key=_age)
        new_counts = rollout.counts_of(newest)
        old_counts = [rollout.counts_of(machine_set) for machine_set in others]
        result = [
            (yield from self._scale(deployment, newest, rollout.new_replicas(deployment, new_counts, old_counts)))
        ]
        new_counts = rollout.counts_of(result[0])
        targets = rollout.old_replicas(deployment, new_counts, old_counts)
        for machine_set in others:
            result.append((yield from self._scale(deployment, machine_set, targets[name_of(machine_set)])))  # noqa: PERF401
        return (yield from _without_history(deployment, result))

    def _make_machine_set(self, deployment: Object, machine_sets: list[Object]) -> Program[Object]:
        """The MachineSet of the template as it is now, with as many replicas as the rollout allows at its start."""
        namespace = namespace_of(deployment)
        revision = max((_revision(machine_set) for machine_set in machine_sets), default=0) + 1
        identity = f"{namespace}/{name_of(deployment)}/{deployment['metadata'].get('uid')}/{revision}"
        suffix = self._entropy.text(identity)
        name = f"{name_of(deployment)}-{suffix}"
        template = thaw(deployment["spec"]["template"])
        digest = hashlib.blake2b(orjson.dumps(rollout.rolled_out_part(template)), digest_size=4)
        unique = f"{int.from_bytes(digest.digest(), 'big')}-{suffix}"
        template.setdefault("metadata", {}).setdefault("labels", {})[TEMPLATE_HASH_LABEL] = unique
        selector = thaw(deployment["spec"]["selector"])
        selector.setdefault("matchLabels", {})[TEMPLATE_HASH_LABEL] = unique
        others = [rollout.counts_of(machine_set) for machine_set in machine_sets]
        replicas = rollout.new_replicas(deployment, rollout.Counts(name, 0, 0, 0), others)
        spec: Object = {
            "clusterName": deployment["spec"]["clusterName"],
            "replicas": replicas,
            "selector": selector,
            "template": template,
        }
        policy = dig(deployment, "spec", "strategy", "rollingUpdate", "deletePolicy")
        if policy:
            spec["deletePolicy"] = policy
        if deployment["spec"].get("minReadySeconds"):
            spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
        made = new(MACHINE_SET, namespace, name, spec=spec)
        made["metadata"]["labels"] = dict(template["metadata"]["labels"])
        made["metadata"]["annotations"] = {
            **_own_annotations(deployment),
            REVISION_ANNOTATION: str(revision),
            **_replica_annotations(deployment),
        }
        made["metadata"]["finalizers"] = [MACHINE_SET_FINALIZER]
        made["metadata"]["ownerReferences"] = [owner_reference(deployment, controller=True)]
        stored = yield from create(made, MACHINE_SET)
        for _ in range(_CACHE_POLLS):
            if (yield from get(MACHINE_SET, namespace, name)) is not None:
                return stored
            yield Sleep(_CACHE_POLL_S)
        raise ReconcileError(f"timed out waiting for MachineSet {name} to be created in the cache")

    def _scale(self, deployment: Object, machine_set: Object, replicas: int) -> Program[Object]:
        """Give a MachineSet its replicas, and what is changed in place on the newest."""
        if is_deleting(machine_set):
            return machine_set
        changed = thaw(machine_set)
        changed["spec"]["replicas"] = replicas
        changed["metadata"].setdefault("annotations", {}).update(_replica_annotations(deployment))
        if newest_of(deployment, [machine_set]) is not None:
            _change_in_place(deployment, changed)
        return (yield from patch_changes(MACHINE_SET, machine_set, changed))


def newest_of(deployment: Object, machine_sets: list[Object]) -> Object | None:
    """The oldest MachineSet whose template is the deployment's, in all that a rollout is made for."""
    wanted = rollout.rolled_out_part(deployment["spec"]["template"])
    for machine_set in sorted(machine_sets, key=_age):
        if rollout.rolled_out_part(machine_set["spec"]["template"]) == wanted:
            return machine_set
    return None


def _age(machine_set: Object) -> tuple[str, str]:
    return machine_set["metadata"].get("creationTimestamp", ""), name_of(machine_set)


def _revision(machine_set: Object) -> int:
    text = annotations_of(machine_set).get(REVISION_ANNOTATION, "0")
    return int(text) if text.isdigit() else 0


def _own_annotations(deployment: Object) -> dict[str, str]:
    skipped = (*_INTERNAL_ANNOTATIONS, "kubectl.kubernetes.io/last-applied-configuration")
    return {key: value for key, value in annotations_of(deployment).items() if key not in skipped}


def _replica_annotations(deployment: Object) -> dict[str, str]:
    wanted = int(deployment["spec"].get("replicas", 1))
    surge = rollout.fenceposts(deployment)[0] if rollout.strategy_of(deployment) == rollout.ROLLING_UPDATE else 0
    return {DESIRED_REPLICAS_ANNOTATION: str(wanted), MAX_REPLICAS_ANNOTATION: str(wanted + surge)}


def _change_in_place(deployment: Object, machine_set: Object) -> None:
    """Labels, annotations and time-outs of the template, which are no reason for new Machines."""
    source, target = deployment["spec"]["template"], machine_set["spec"]["template"]
    unique = labels_of(machine_set).get(TEMPLATE_HASH_LABEL, "")
    labels = dict(dig(source, "metadata", "labels", default={}))
    if unique:
        labels[TEMPLATE_HASH_LABEL] = unique
    target.setdefault("metadata", {})["labels"] = labels
    target["metadata"]["annotations"] = dict(dig(source, "metadata", "annotations", default={}))
    for field in TIMEOUTS:
        value = source["spec"].get(field)
        if value is None:
            target["spec"].pop(field, None)
        else:
            target["spec"][field] = value
    if deployment["spec"].get("minReadySeconds") is not None:
        machine_set["spec"]["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    machine_set["metadata"].setdefault("labels", {}).update(labels)
    machine_set["metadata"]["annotations"].update(_own_annotations(deployment))


def _complete(deployment: Object, cluster: Object) -> None:
    """Labels, owner and finalizer that every MachineDeployment has."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    if MACHINE_DEPLOYMENT_FINALIZER not in finalizers_of(deployment):
        metadata.setdefault("finalizers", []).append(MACHINE_DEPLOYMENT_FINALIZER)
    metadata.setdefault("labels", {})[CLUSTER_NAME_LABEL] = spec["clusterName"]
    own(deployment, cluster)
    selector = spec["selector"].setdefault("matchLabels", {})
    selector[CLUSTER_NAME_LABEL] = spec["clusterName"]
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels[CLUSTER_NAME_LABEL] = spec["clusterName"]
    labels[DEPLOYMENT_NAME_LABEL] = name_of(deployment)


def _delete_machine_sets(deployment: Object, machine_sets: list[Object]) -> Program[None]:
    if not machine_sets:
        kept = [entry for entry in finalizers_of(deployment) if entry != MACHINE_DEPLOYMENT_FINALIZER]
        deployment["metadata"]["finalizers"] = kept
        return
    for machine_set in machine_sets:
        if not is_deleting(machine_set):
            yield from delete(MACHINE_SET, namespace_of(machine_set), name_of(machine_set))


def _without_history(deployment: Object, machine_sets: list[Object]) -> Program[list[Object]]:
    """Delete the oldest MachineSets that have nothing any more, beyond the history that is kept (1 by default)."""
    limit = int(deployment["spec"].get("revisionHistoryLimit", 1))
    empty = [
        machine_set
        for machine_set in sorted(machine_sets[1:], key=_revision)
        if not is_deleting(machine_set)
        and not rollout.counts_of(machine_set).wanted
        and not rollout.counts_of(machine_set).present
        and dig(machine_set, "status", "observedGeneration", default=0) >= machine_set["metadata"].get("generation", 0)
    ]
    surplus = empty[: max(len(empty) - limit, 0)]
    for machine_set in surplus:
        yield from delete(MACHINE_SET, namespace_of(machine_set), name_of(machine_set))
    gone = {name_of(machine_set) for machine_set in surplus}
    return [machine_set for machine_set in machine_sets if name_of(machine_set) not in gone]


def _update_status(deployment: Object, machine_sets: list[Object], now_s: float) -> None:
    """Sums over the MachineSets, the phase, and the conditions."""
    wanted = int(deployment["spec"].get("replicas", 1))
    newest = newest_of(deployment, machine_sets)

    def total(field: str) -> int:
        return sum(int(dig(machine_set, "status", field, default=0)) for machine_set in machine_sets)

    asked_for = sum(rollout.counts_of(machine_set).wanted for machine_set in machine_sets)
    ready, available = total("readyReplicas"), total("availableReplicas")
    status = deployment.setdefault("status", {})
    status.update(
        observedGeneration=deployment["metadata"].get("generation", 0),
        selector=text_of(deployment["spec"].get("selector")),
        replicas=total("replicas"),
        updatedReplicas=0 if newest is None else rollout.counts_of(newest).present,
        readyReplicas=ready,
        availableReplicas=available,
        unavailableReplicas=max(asked_for - available, 0),
    )
    if wanted == ready:
        status["phase"] = "Running"
    if wanted > ready:
        status["phase"] = "ScalingUp"
    if asked_for - available < 0:
        status["phase"] = "ScalingDown"
    if any(dig(machine_set, "status", "failureReason") for machine_set in machine_sets):
        status["phase"] = "Failed"
    least = wanted - rollout.fenceposts(deployment)[1]
    if available >= least:
        conditions.mark_true(deployment, AVAILABLE, now_s=now_s)
    else:
        message = f"Minimum availability requires {least} replicas, current {available} available"
        conditions.mark_false(
            deployment, AVAILABLE, "WaitingForAvailableMachines", conditions.WARNING, message, now_s=now_s
        )
    conditions.mirror(
        deployment, MACHINE_SET_READY, newest, ready=False, fallback_reason="WaitingForMachineSet", now_s=now_s
    )
    conditions.summarize(deployment, (AVAILABLE, MACHINE_SET_READY), now_s=now_s)
