"""The Machine controller: bootstrap, infrastructure, Node, then what the Machine says about them."""

from __future__ import annotations

from labsim.controllers.capi import conditions, deleting
from labsim.controllers.capi.machine_deletion import MachineDeletion
from labsim.controllers.capi.machine_links import (
    MachineLinks,
    cluster_matters,
    infrastructure_matters,
    owning_machine_keys,
)
from labsim.controllers.capi.machine_node import reconcile_node
from labsim.controllers.capi.names import (
    CLUSTER_NAME_LABEL,
    INFRASTRUCTURE_MISSING_POLL_S,
    MACHINE_FINALIZER,
)
from labsim.controllers.capi.nodes import NodeIndex, node_matters
from labsim.controllers.capi.owners import controller_of, is_paused, own
from labsim.controllers.capi.patching import editable, patch_changes
from labsim.controllers.capi.workload import UNREACHABLE_RETRY_S
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    ReconcileError,
    Result,
    Unreachable,
    Watch,
    get,
    now,
    own_key,
)
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT_MACHINE, CLUSTER, HOSTED_CONTROL_PLANE, MACHINE, NODE, SECRET
from labsim.model.objects import (
    Object,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    thaw,
    timestamp,
    uid_of,
)

BOOTSTRAP_READY, INFRASTRUCTURE_READY = "BootstrapReady", "InfrastructureReady"
_SUMMARY = (INFRASTRUCTURE_READY, BOOTSTRAP_READY, "HealthCheckSucceeded", "OwnerRemediated", "DrainingSucceeded")
WORKERS = 10


class Machines:
    """Reconciles Machines."""

    def __init__(self) -> None:
        self._nodes = NodeIndex()
        self._links = MachineLinks()
        self._own = OwnWrites()
        self._deletion = MachineDeletion(self._nodes)

    def controller(self) -> Controller:
        links = self._links
        return Controller(
            "machine",
            self.reconcile,
            (
                Watch(MACHINE, own_key, when=self._is_news),
                Watch(AGENT_MACHINE, owning_machine_keys, sieve=infrastructure_matters),
                Watch(CLUSTER, links.of_cluster, when=cluster_matters),
                Watch(NODE, links.of_node, hosted=True, when=self._nodes.observe, sieve=node_matters),
                Watch(SECRET, None),
                Watch(HOSTED_CONTROL_PLANE, None),
            ),
            WORKERS,
        )

    def _is_news(self, before: Object | None, after: Object | None) -> bool:
        self._links.observe(before, after)
        return after is None or not self._own.is_echo(after)

    def reconcile(self, key: Key) -> Program[Result]:
        stored = self._own.fresher(key, (yield from get(MACHINE, key.namespace, key.name)))
        if stored is None:
            self._deletion.forget(key)
            self._own.forget(key)
            return DONE
        cluster_name = stored["spec"]["clusterName"]
        cluster = yield from get(CLUSTER, key.namespace, cluster_name)
        if cluster is None:
            raise ReconcileError(f'failed to get cluster "{cluster_name}" for machine "{key.name}"')
        if is_paused(cluster, stored):
            return DONE
        machine = editable(stored)
        if not is_deleting(machine) and MACHINE_FINALIZER not in finalizers_of(machine):
            machine["metadata"].setdefault("finalizers", []).append(MACHINE_FINALIZER)
        result, error = DONE, None
        try:
            result = yield from self._phases(machine, cluster)
        except (ApiError, ReconcileError, Unreachable) as raised:
            error = raised
        moment = yield from now()
        _sum_up(machine, moment)
        # The end of an infrastructure object that was never taken over wakes nobody but through the Machine itself.
        is_done = error is None and result == DONE and not is_deleting(machine)
        yield from patch_changes(MACHINE, stored, machine, own=self._own, is_done=is_done)
        if error is not None:
            raise error
        return result

    def _phases(self, machine: Object, cluster: Object) -> Program[Result]:
        machine["metadata"].setdefault("labels", {})[CLUSTER_NAME_LABEL] = name_of(cluster)
        if not machine["metadata"].get("ownerReferences"):
            own(machine, cluster)
        moment = yield from now()
        _reconcile_bootstrap(machine, moment)
        waits = [(yield from _reconcile_infrastructure(machine, moment))]
        try:
            yield from reconcile_node(machine, cluster, self._nodes)
        except Unreachable:
            waits.append(Result(UNREACHABLE_RETRY_S))
        if is_deleting(machine):
            waits.append((yield from self._deletion.step(machine, cluster)))
        delays = [wait.requeue_after_s for wait in waits if wait.requeue_after_s is not None]
        return Result(min(delays)) if delays else DONE


def _reconcile_bootstrap(machine: Object, moment: float) -> None:
    """Bootstrap data that is named counts as ready at once: nothing generates it in this flow."""
    status = machine.setdefault("status", {})
    if dig(machine, "spec", "bootstrap", "dataSecretName") is None:
        status["bootstrapReady"] = False
        conditions.mark_false(machine, BOOTSTRAP_READY, "WaitingForDataSecret", conditions.INFO, now_s=moment)
        return
    status["bootstrapReady"] = True
    conditions.mark_true(machine, BOOTSTRAP_READY, now_s=moment)


def _reconcile_infrastructure(machine: Object, moment: float) -> Program[Result]:
    """Take over the infrastructure object and copy what it reports once it is ready."""
    status = machine["status"]
    was_ready = bool(status.get("infrastructureReady"))
    status.setdefault("infrastructureReady", False)
    name = machine["spec"]["infrastructureRef"]["name"]
    infrastructure = yield from get(AGENT_MACHINE, namespace_of(machine), name)
    if infrastructure is None:
        return _infrastructure_missing(machine, name, was_ready, moment)
    if not is_deleting(infrastructure) and not is_deleting(machine):
        infrastructure = yield from _take_over(infrastructure, machine)
    ready = bool(dig(infrastructure, "status", "ready"))
    conditions.mirror(
        machine,
        INFRASTRUCTURE_READY,
        infrastructure,
        ready=ready,
        fallback_reason="WaitingForInfrastructure",
        now_s=moment,
    )
    if not ready or is_deleting(machine):
        return DONE
    provider_id = dig(infrastructure, "spec", "providerID")
    if not provider_id:
        raise ReconcileError(f"failed to retrieve spec.providerID from AgentMachine {name}")
    machine["spec"]["providerID"] = provider_id
    addresses = dig(infrastructure, "status", "addresses")
    if addresses:
        status["addresses"] = addresses
    status["infrastructureReady"] = True
    return DONE


def _infrastructure_missing(machine: Object, name: str, was_ready: bool, moment: float) -> Result:
    if is_deleting(machine):
        if was_ready:
            conditions.mark_false(machine, INFRASTRUCTURE_READY, "Deleted", conditions.INFO, now_s=moment)
        return DONE
    if not was_ready:
        return Result(INFRASTRUCTURE_MISSING_POLL_S)
    machine["status"]["failureReason"] = "InvalidConfiguration"
    machine["status"]["failureMessage"] = (
        f'Machine infrastructure resource {AGENT_MACHINE.api_version}, Kind={AGENT_MACHINE.kind} with name "{name}" '
        "has been deleted after being ready"
    )
    raise ReconcileError(f'could not find AgentMachine "{name}" for Machine "{name_of(machine)}", requeuing')


def _take_over(infrastructure: Object, machine: Object) -> Program[Object]:
    """The Machine becomes the controller of its infrastructure object; the MachineSet that made it lets go."""
    present = controller_of(infrastructure)
    if present is not None and present["uid"] == uid_of(machine):
        return infrastructure
    taken = thaw(infrastructure)
    references = taken["metadata"].get("ownerReferences") or []
    taken["metadata"]["ownerReferences"] = [entry for entry in references if entry["kind"] != "MachineSet"]
    present = controller_of(taken)
    if present is not None and present["uid"] != uid_of(machine):
        raise ReconcileError(f"AgentMachine {name_of(taken)} is already owned by another {present['kind']} controller")
    own(taken, machine, controller=True)
    taken["metadata"].setdefault("labels", {})[CLUSTER_NAME_LABEL] = machine["spec"]["clusterName"]
    return (yield from patch_changes(AGENT_MACHINE, infrastructure, taken))


def _sum_up(machine: Object, moment: float) -> None:
    """Ready, the phase, and the generation that all of this is about."""
    live = not is_deleting(machine)
    if live:
        deleting.mark_deleting(machine, deleting.NOT_DELETING, "", now_s=moment)
    conditions.summarize(
        machine,
        _SUMMARY,
        now_s=moment,
        count_steps=live and not dig(machine, "spec", "providerID"),
        count_only=(BOOTSTRAP_READY, INFRASTRUCTURE_READY),
    )
    status = machine.setdefault("status", {})
    phase = phase_of(machine)
    if status.get("phase") != phase:
        status["phase"] = phase
        status["lastUpdated"] = timestamp(moment)
    status["observedGeneration"] = machine["metadata"].get("generation", 0)


def phase_of(machine: Object) -> str:
    """The phase that a person sees; later rules overrule earlier ones."""
    status = machine.get("status") or {}
    phase = "Pending"
    if status.get("bootstrapReady") and not status.get("infrastructureReady"):
        phase = "Provisioning"
    if dig(machine, "spec", "providerID"):
        phase = "Provisioned"
    if status.get("nodeRef") and status.get("infrastructureReady"):
        phase = "Running"
    if status.get("failureReason") or status.get("failureMessage"):
        phase = "Failed"
    return "Deleting" if is_deleting(machine) else phase
