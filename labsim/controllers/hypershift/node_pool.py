"""The NodePool loop: conditions in upstream's order of evaluation, Secrets, and the CAPI objects."""

from __future__ import annotations

from labsim.controllers.hypershift.desired import Condition, change_finalizer, write_status
from labsim.controllers.hypershift.kubeconfigs import secret_text
from labsim.controllers.hypershift.machine_conditions import all_machines_ready, all_nodes_healthy
from labsim.controllers.hypershift.machines import ensure_health_check, ensure_machines, is_in_place, pool_text
from labsim.controllers.hypershift.names import (
    FINALIZER,
    IGNITION_REACHED,
    NODE_POOL_ANNOTATION,
    PREFIX,
    control_plane_key,
    machine_label,
    of_node_pool,
)
from labsim.controllers.hypershift.node_pool_checks import (
    Conditions,
    architecture_condition,
    ignition_problem,
    machine_set_ready,
    scaling_conditions,
    skew_condition,
)
from labsim.controllers.hypershift.observed import Observed
from labsim.controllers.hypershift.pausing import pause_of
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.hypershift.tokens import NodePoolSecrets, config_hash, token_name, user_data_name
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Enqueue,
    Key,
    Program,
    ReconcileError,
    Result,
    Watch,
    delete,
    get,
    list_all,
    now,
    own_key,
    patch,
)
from labsim.controllers.runtime.sieves import conditions_changed
from labsim.entropy import Entropy
from labsim.model.kinds import (
    AGENT_MACHINE,
    AGENT_MACHINE_TEMPLATE,
    HOSTED_CLUSTER,
    MACHINE,
    MACHINE_DEPLOYMENT,
    MACHINE_HEALTH_CHECK,
    MACHINE_SET,
    NODE_POOL,
    SECRET,
)
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_of,
    dig,
    finalizers_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
)

# A pool with many replicas is looked at less often: each look costs what its Machines cost.
_PACE_PER_REPLICA_S = 0.005
_SCAN_PER_REPLICA_S = 0.02


class NodePools:
    """The control loops of NodePools."""

    def __init__(self, settings: HyperShiftSettings, entropy: Entropy, observed: Observed) -> None:
        self._settings = settings
        self._observed = observed
        self._due: set[Key] = set()  # pools that the next look at is due anyway, whatever happens to them until then
        self._secrets = NodePoolSecrets(settings, entropy.child("node-pool"))

    def controllers(self) -> tuple[Controller, ...]:
        main = Controller(
            name="node-pool",
            reconcile=self.reconcile,
            watches=(
                Watch(NODE_POOL, own_key),
                Watch(HOSTED_CLUSTER, None),
                Watch(MACHINE_SET, self._not_due),
                Watch(MACHINE_DEPLOYMENT, self._not_due),
                Watch(MACHINE, self._not_due, sieve=_speaks_differently),
                Watch(MACHINE_HEALTH_CHECK, self._not_due),
                Watch(SECRET, self._not_due),
                Watch(AGENT_MACHINE_TEMPLATE, None),
            ),
            workers=4,
        )
        fan_out = Controller(
            name="node-pools-of-cluster",
            reconcile=self.wake_pools,
            watches=(Watch(HOSTED_CLUSTER, own_key), Watch(NODE_POOL, None)),
        )
        return main, fan_out

    def _not_due(self, obj: Object) -> list[Key]:
        """The NodePool of an object, unless it is looked at soon without that."""
        return [key for key in of_node_pool(obj) if key not in self._due]

    def wake_pools(self, key: Key) -> Program[Result]:
        """A HostedCluster has changed: look at its NodePools again."""
        for pool in (yield from list_all(NODE_POOL, key.namespace)):
            if dig(pool, "spec", "clusterName") == key.name:
                yield Enqueue("node-pool", Key(key.namespace, name_of(pool)))
        return DONE

    def reconcile(self, key: Key) -> Program[Result]:
        self._due.discard(key)
        pool = yield from get(NODE_POOL, key.namespace, key.name)
        if pool is None:
            return DONE
        cluster = yield from get(HOSTED_CLUSTER, key.namespace, str(dig(pool, "spec", "clusterName")))
        if is_deleting(pool):
            return (yield from self._delete(pool))
        if cluster is None:
            raise ReconcileError(f'failed to get HostedCluster "{dig(pool, "spec", "clusterName")}"')
        moment_s = yield from now()
        pace_s = int(dig(pool, "status", "replicas", default=0)) * _PACE_PER_REPLICA_S
        held_s = self._observed.scan_wait_s(f"pool/{key}", moment_s, pace_s)
        if held_s > 0:
            self._due.add(key)
            return Result(held_s)
        pool = yield from self._adopt(pool, cluster)
        conditions: Conditions = {}
        wait_s, replicas, version = yield from self._evaluate(pool, cluster, conditions)
        fields: Object = {}
        if replicas is not None:
            fields["replicas"] = replicas
        if version is not None:
            fields["version"] = version
        yield from write_status(NODE_POOL, key.namespace, key.name, conditions=conditions, fields=fields)
        return Result(wait_s)

    def _adopt(self, pool: Object, cluster: Object) -> Program[Object]:
        pool = yield from change_finalizer(pool, NODE_POOL, FINALIZER, present=True)
        references = pool["metadata"].get("ownerReferences") or []
        if any(entry.get("uid") == cluster["metadata"]["uid"] for entry in references):
            return pool
        body = {
            "metadata": {
                "ownerReferences": [*references, owner_reference(cluster)],
                "resourceVersion": pool["metadata"]["resourceVersion"],
            }
        }
        return (yield from patch(NODE_POOL, namespace_of(pool), name_of(pool), body))

    def _evaluate(
        self, pool: Object, cluster: Object, conditions: Conditions
    ) -> Program[tuple[float | None, int | None, str | None]]:
        """Fill in the conditions up to the first that stops. Answers the wait, status.replicas and status.version."""
        conditions.update(scaling_conditions(pool))
        image = str(dig(pool, "spec", "release", "image", default=""))
        version = self._settings.version_of(image)
        if version is None:
            text = f"Failed to get release image: unknown release {image}"
            conditions["ValidReleaseImage"] = Condition("False", "ValidationFailed", text)
            return None, None, None
        conditions["ValidReleaseImage"] = Condition("True", "AsExpected", f"Using release image: {image}")
        place = control_plane_key(cluster).namespace
        ca = yield from get(SECRET, place, "ignition-server-ca-cert")
        problem = ignition_problem(cluster, ca)
        conditions["IgnitionEndpointAvailable"] = problem
        if problem is not None:
            return (5.0 if problem.reason == "IgnitionCACertMissing" else None), None, None
        moment_s = yield from now()
        pause = pause_of(pool, moment_s)
        conditions.update(architecture_condition(pool))
        reason = pause.condition.reason if pause.is_paused else "ReconciliationActive"
        conditions["ReconciliationActive"] = Condition(pause.condition.status, reason, pause.condition.message)
        conditions["SupportedVersionSkew"] = skew_condition(cluster, version)
        if not dig(cluster, "status", "kubeconfig", "name"):
            text = "failed to get kubeconfig: HostedCluster doesn't report a kubeconfig"
            conditions["ValidMachineConfig"] = Condition("False", "ValidationFailed", text)
            return None, None, None
        conditions["ValidMachineConfig"] = Condition("True", "AsExpected")
        return (
            yield from self._roll_out(
                pool, cluster, conditions, version, secret_text(ca, "tls.crt"), pause.is_paused, pause.remaining_s
            )
        )

    def _roll_out(
        self,
        pool: Object,
        cluster: Object,
        conditions: Conditions,
        version: str,
        ca_pem: str,
        paused: bool,
        remaining_s: float | None,
    ) -> Program[tuple[float | None, int | None, str | None]]:
        place, config = control_plane_key(cluster).namespace, config_hash(pool, cluster)
        kind = MACHINE_SET if is_in_place(pool) else MACHINE_DEPLOYMENT
        present = yield from get(kind, place, name_of(pool))
        current = annotations_of(present or {"metadata": {}}).get(f"{PREFIX}nodePoolCurrentConfigVersion")
        updating = current != config
        text = f"Updating config in progress. Target config: {config}"
        conditions["UpdatingConfig"] = Condition(
            "True" if updating else "False", "AsExpected", text if updating else ""
        )
        moving = dig(pool, "status", "version") != version
        text = f"Updating version in progress. Target version: {version}"
        conditions["UpdatingVersion"] = Condition("True" if moving else "False", "AsExpected", text if moving else "")
        token = yield from get(SECRET, place, token_name(name_of(pool), config))
        conditions["ValidGeneratedPayload"], conditions["ReachedIgnitionEndpoint"] = _token_conditions(token)
        wait_s = yield from self._machine_conditions(pool, cluster, place, conditions)
        if paused:
            if present is not None and "cluster.x-k8s.io/paused" not in annotations_of(present):
                body = {"metadata": {"annotations": {"cluster.x-k8s.io/paused": "true"}}}
                yield from patch(kind, place, name_of(pool), body)
            return remaining_s, None, None
        _, rotation_s = yield from self._secrets.ensure_current(pool, cluster, place, config, ca_pem)
        yield from self._secrets.retire_others(pool, place, config)
        machines = yield from ensure_machines(
            pool,
            cluster,
            place,
            user_data=user_data_name(name_of(pool), config),
            config=config,
            version=version,
            paused=False,
        )
        rolled_out = yield from self._finish_update(pool, machines, place, config)
        yield from ensure_health_check(pool, cluster, place)
        good = Condition("True", "AsExpected", "All is well")
        conditions["ValidPlatformConfig"] = good
        conditions["ValidTuningConfig"] = good
        conditions["UpdatingPlatformMachineTemplate"] = Condition("False", "AsExpected")
        conditions["Ready"] = machine_set_ready(machines)
        repair = bool(dig(pool, "spec", "management", "autoRepair"))
        reached = conditions["ReachedIgnitionEndpoint"]
        if not repair or (reached is not None and reached.status == "True"):
            conditions["AutorepairEnabled"] = Condition("True" if repair else "False", "AsExpected")
        if repair:
            yield from self._repair_condition(pool, place, conditions)
        replicas = int(dig(machines, "status", "availableReplicas", default=0))
        waits = [rotation_s] if wait_s is None else [rotation_s, wait_s]
        return max(0.001, min(waits)), replicas, version if rolled_out else None

    def _finish_update(self, pool: Object, machines: Object, place: str, config: str) -> Program[bool]:
        """Note the configuration that all Machines have. False while an update is under way.

        A MachineDeployment has it when it is fully rolled; the nodes of a MachineSet are updated in place, and here
        they are as soon as the MachineSet carries the new configuration and every Machine it has is available.
        """
        mark = f"{PREFIX}nodePoolCurrentConfigVersion"
        wanted = int(dig(machines, "spec", "replicas", default=0))
        if annotations_of(machines).get(mark) == config:
            return True
        status: Object = dig(machines, "status", default={})
        updated = status.get("updatedReplicas", 0) if not is_in_place(pool) else status.get("replicas", 0)
        if not (status.get("replicas", 0) == updated == wanted == status.get("availableReplicas", 0)):
            return False
        body = {"metadata": {"annotations": {mark: config, f"{PREFIX}nodePoolCurrentConfig": config}}}
        kind = MACHINE_SET if is_in_place(pool) else MACHINE_DEPLOYMENT
        yield from patch(kind, place, name_of(pool), body)
        return True

    def _machine_conditions(
        self, pool: Object, cluster: Object, place: str, conditions: Conditions
    ) -> Program[float | None]:
        """The two conditions over all Machines; a big pool is looked at less often. Answers the wait till then."""
        moment_s = yield from now()
        desired = max(int(dig(pool, "spec", "replicas", default=0)), int(dig(pool, "status", "replicas", default=0)))
        wait_s = self._observed.scan_wait_s(f"machines/{pool_text(pool)}", moment_s, desired * _SCAN_PER_REPLICA_S)
        if wait_s > 0:
            return wait_s
        label = machine_label(str(dig(cluster, "spec", "infraID")), name_of(cluster), name_of(pool))
        machines = yield from list_all(MACHINE, place, labels={label: label})
        conditions["AllMachinesReady"] = all_machines_ready(pool, machines)
        conditions["AllNodesHealthy"] = all_nodes_healthy(pool, machines)
        return None

    def _repair_condition(self, pool: Object, place: str, conditions: Conditions) -> Program[None]:
        check = yield from get(MACHINE_HEALTH_CHECK, place, name_of(pool))
        allowed = condition_of(check, "RemediationAllowed") if check is not None else None
        if allowed is not None and allowed.get("status") == "False":
            conditions["Ready"] = Condition(
                "False", allowed.get("reason", "TooManyUnhealthy"), allowed.get("message", "")
            )

    def _delete(self, pool: Object) -> Program[Result]:
        """AgentMachines first (upstream's list of templates is really one of AgentMachines), then their owners."""
        if FINALIZER not in finalizers_of(pool):
            return DONE
        name, text = name_of(pool), pool_text(pool)
        cluster_name = str(dig(pool, "spec", "clusterName"))
        place = f"{namespace_of(pool)}-{cluster_name.replace('.', '-')}"
        for machine in (yield from list_all(AGENT_MACHINE, place, live=True)):
            if annotations_of(machine).get(NODE_POOL_ANNOTATION) == text and not is_deleting(machine):
                yield from delete(AGENT_MACHINE, place, name_of(machine))
        for kind in (MACHINE_DEPLOYMENT, MACHINE_HEALTH_CHECK, MACHINE_SET):
            present = yield from get(kind, place, name, live=True)
            if present is not None and not is_deleting(present):
                yield from delete(kind, place, name)
        machines = yield from list_all(MACHINE, place, live=True)
        if any(annotations_of(machine).get(NODE_POOL_ANNOTATION) == text for machine in machines):
            raise ReconcileError(f'there are still Machines in for NodePool "{name}"')
        yield from self._secrets.delete_all(pool, place)
        yield from change_finalizer(pool, NODE_POOL, FINALIZER, present=False)
        return DONE


def _speaks_differently(before: Object, after: Object) -> bool:
    """Whether a Machine's change changes what its NodePool says about it."""
    return labels_of(before) != labels_of(after) or conditions_changed(before, after, "Ready", "NodeHealthy")


def _token_conditions(token: Object | None) -> tuple[Condition, Condition]:
    """ValidGeneratedPayload and ReachedIgnitionEndpoint, from the token Secret."""
    if token is None:
        text = "Token secret not found"
        return Condition("False", "NotFound", text), Condition("False", "NotFound", text)
    reason, message = secret_text(token, "reason"), secret_text(token, "message")
    if not reason:
        payload = Condition("Unknown", "AsExpected", "Unable to get status data from token secret")
    elif reason == "AsExpected":
        payload = Condition("True", reason, message)
    else:
        payload = Condition("", reason, message)
    if annotations_of(token).get(IGNITION_REACHED) == "True":
        return payload, Condition("True", "AsExpected")
    return payload, Condition("False", "ignitionNotReached")
