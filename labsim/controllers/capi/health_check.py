"""The MachineHealthCheck controller: finds Machines whose Node is bad for too long, and gives them up."""

from __future__ import annotations

import dataclasses

from labsim.controllers.capi import conditions
from labsim.controllers.capi.names import (
    CLUSTER_NAME_LABEL,
    PAUSED_ANNOTATION,
    REMEDIATE_MACHINE_ANNOTATION,
    SKIP_REMEDIATION_ANNOTATION,
)
from labsim.controllers.capi.nodes import NodeIndex, namespace_of_owner, node_matters
from labsim.controllers.capi.owners import is_paused, own
from labsim.controllers.capi.patching import patch_changes
from labsim.controllers.capi.rollout import absolute
from labsim.controllers.capi.selectors import matcher
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    ReconcileError,
    Result,
    Watch,
    get,
    list_all,
    now,
    own_key,
)
from labsim.model.durations import seconds
from labsim.model.kinds import CLUSTER, MACHINE, MACHINE_HEALTH_CHECK, NODE
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_of,
    condition_status,
    dig,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    parse_timestamp,
    thaw,
)

HEALTHY, OWNER_REMEDIATED, ALLOWED = "HealthCheckSucceeded", "OwnerRemediated", "RemediationAllowed"
NODE_STARTUP_TIMEOUT_S = 600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a check says about one Machine: sick with a reason, or to be looked at again in `look_again_s`."""

    reason: str = ""
    message: str = ""
    look_again_s: float | None = None


class MachineHealthChecks:
    """Reconciles MachineHealthChecks."""

    def __init__(self) -> None:
        self._nodes = NodeIndex()
        self._checks: dict[str, dict[Key, None]] = {}

    def controller(self) -> Controller:
        return Controller(
            "machinehealthcheck",
            self.reconcile,
            (
                Watch(MACHINE_HEALTH_CHECK, own_key, when=self._check_changed),
                Watch(MACHINE, self._of_machine, when=_machine_matters),
                Watch(NODE, self._of_node, hosted=True, when=self._nodes.observe, sieve=node_matters),
                Watch(CLUSTER, None),
            ),
            workers=10,
        )

    def _check_changed(self, before: Object | None, after: Object | None) -> bool:
        present = after if after is not None else before
        assert present is not None
        known = self._checks.setdefault(namespace_of(present), {})
        if after is None:
            known.pop(Key(namespace_of(present), name_of(present)), None)
        else:
            known[Key(namespace_of(present), name_of(present))] = None
        return True

    def _of_machine(self, machine: Object) -> list[Key]:
        return list(self._checks.get(namespace_of(machine), ()))

    def _of_node(self, node: Object, owner: str) -> list[Key]:
        return list(self._checks.get(namespace_of_owner(owner), ()))

    def reconcile(self, key: Key) -> Program[Result]:
        stored = yield from get(MACHINE_HEALTH_CHECK, key.namespace, key.name)
        if stored is None or is_deleting(stored):
            return DONE
        cluster = yield from get(CLUSTER, key.namespace, stored["spec"]["clusterName"])
        if cluster is None:
            raise ReconcileError(f'failed to get Cluster "{stored["spec"]["clusterName"]}" of {key.name}')
        if is_paused(cluster, stored):
            return DONE
        check = thaw(stored)
        check["metadata"].setdefault("labels", {})[CLUSTER_NAME_LABEL] = name_of(cluster)
        own(check, cluster)
        moment = yield from now()
        machines = yield from self._targets(check)
        findings = [(machine, self._examine(check, cluster, machine, moment)) for machine in machines]
        healthy = [name_of(machine) for machine, finding in findings if not finding.reason and self._has_node(machine)]
        sick = [(machine, finding) for machine, finding in findings if finding.reason]
        allowed, left = _allowance(check, len(machines), len(sick))
        check.setdefault("status", {}).update(
            expectedMachines=len(machines),
            currentHealthy=len(healthy),
            remediationsAllowed=left,
            targets=sorted(name_of(machine) for machine in machines),
            observedGeneration=check["metadata"].get("generation", 0),
        )
        if allowed:
            conditions.mark_true(check, ALLOWED, now_s=moment)
        else:
            message = (
                f"Remediation is not allowed, the number of not started or unhealthy machines exceeds maxUnhealthy "
                f"(total: {len(machines)}, unhealthy: {len(sick)}, maxUnhealthy: {_max_unhealthy(check)})"
            )
            conditions.mark_false(check, ALLOWED, "TooManyUnhealthy", conditions.WARNING, message, now_s=moment)
        yield from patch_changes(MACHINE_HEALTH_CHECK, stored, check)
        for machine, finding in findings:
            yield from _report(machine, finding, remediate=allowed, now_s=moment)
        waits = [finding.look_again_s for _, finding in findings if finding.look_again_s is not None]
        return Result(min(waits)) if waits else DONE

    def _targets(self, check: Object) -> Program[list[Object]]:
        """The selected Machines that remediation may touch."""
        matches = matcher(check["spec"]["selector"])
        machines = yield from list_all(MACHINE, namespace_of(check))
        return [
            machine
            for machine in machines
            if machine["spec"]["clusterName"] == check["spec"]["clusterName"]
            and matches(labels_of(machine))
            and SKIP_REMEDIATION_ANNOTATION not in annotations_of(machine)
            and PAUSED_ANNOTATION not in annotations_of(machine)
        ]

    def _has_node(self, machine: Object) -> bool:
        reference = dig(machine, "status", "nodeRef", "name")
        return bool(reference) and self._nodes.get(namespace_of(machine), str(reference)) is not None

    def _examine(self, check: Object, cluster: Object, machine: Object, now_s: float) -> Finding:
        if is_deleting(machine):
            return Finding()
        if REMEDIATE_MACHINE_ANNOTATION in annotations_of(machine):
            return Finding("HasRemediateAnnotation", "Marked for remediation via remediate-machine annotation")
        if dig(machine, "status", "failureReason") or dig(machine, "status", "failureMessage"):
            return Finding("MachineHasFailure", f"FailureReason: {dig(machine, 'status', 'failureReason')}")
        reference = dig(machine, "status", "nodeRef", "name")
        if not reference:
            return _startup(check, cluster, machine, now_s)
        node = self._nodes.get(namespace_of(machine), reference)
        if node is None:
            if self._nodes.knows(namespace_of(machine)):
                return Finding("NodeNotFound")
            return Finding()
        return _node_conditions(check, node, now_s)


def _startup(check: Object, cluster: Object, machine: Object, now_s: float) -> Finding:
    """No Node yet: the clock runs from the last thing that the Node could have waited for."""
    limit_s = seconds(check["spec"].get("nodeStartupTimeout"))
    if limit_s is None:
        limit_s = NODE_STARTUP_TIMEOUT_S
    if limit_s == 0 or condition_status(cluster, "ControlPlaneInitialized") != "True":
        return Finding()
    if condition_status(cluster, "InfrastructureReady") != "True":
        return Finding()
    moments = [parse_timestamp(machine["metadata"]["creationTimestamp"])]
    for obj, kind in (
        (cluster, "ControlPlaneInitialized"),
        (cluster, "InfrastructureReady"),
        (machine, "InfrastructureReady"),
    ):
        found = condition_of(obj, kind)
        if found is not None and found["status"] == "True" and found.get("lastTransitionTime"):
            moments.append(parse_timestamp(found["lastTransitionTime"]))
    left_s = max(moments) + limit_s - now_s
    if left_s <= 0:
        text = check["spec"].get("nodeStartupTimeout") or "10m0s"
        return Finding("NodeStartupTimeout", f"Node failed to report startup in {text}")
    return Finding(look_again_s=left_s + 1)


def _node_conditions(check: Object, node: Object, now_s: float) -> Finding:
    waits: list[float] = []
    for rule in check["spec"].get("unhealthyConditions") or ():
        found = condition_of(node, rule["type"])
        if found is None or found["status"] != rule["status"]:
            continue
        limit_s = seconds(rule["timeout"]) or 0.0
        since = found.get("lastTransitionTime")
        left_s = (parse_timestamp(since) if since else now_s) + limit_s - now_s
        if left_s <= 0:
            text = (
                f"Condition {rule['type']} on node is reporting status {rule['status']} for more than {rule['timeout']}"
            )
            return Finding("UnhealthyNode", text)
        waits.append(left_s + 1)
    return Finding(look_again_s=min(waits)) if waits else Finding()


def _max_unhealthy(check: Object) -> int | str:
    value: int | str = check["spec"].get("maxUnhealthy", "100%")
    return value


def _allowance(check: Object, total: int, sick: int) -> tuple[bool, int]:
    """Whether remediation may go on, and how many more Machines may fall sick."""
    limit = absolute(_max_unhealthy(check), total, round_up=False)
    return sick <= limit, max(limit - sick, 0)


def _report(machine: Object, finding: Finding, *, remediate: bool, now_s: float) -> Program[None]:
    """Write the verdict on the Machine; its MachineSet deletes what is not OwnerRemediated."""
    marked = thaw(machine)
    if not finding.reason:
        if is_deleting(machine):
            return
        conditions.mark_true(marked, HEALTHY, now_s=now_s)
        if condition_status(machine, OWNER_REMEDIATED) == "False":
            marked["status"]["conditions"] = [
                entry for entry in marked["status"]["conditions"] if entry["type"] != OWNER_REMEDIATED
            ]
    else:
        conditions.mark_false(marked, HEALTHY, finding.reason, conditions.WARNING, finding.message, now_s=now_s)
        if remediate and condition_of(machine, OWNER_REMEDIATED) is None:
            conditions.mark_false(marked, OWNER_REMEDIATED, "WaitingForRemediation", conditions.WARNING, now_s=now_s)
    yield from patch_changes(MACHINE, machine, marked)


def _machine_matters(before: Object | None, after: Object | None) -> bool:
    """Whether a Machine changed in what a health check looks at."""
    return before is None or after is None or _of_machine(before) != _of_machine(after)


def _of_machine(machine: Object) -> tuple[object, ...]:
    return (
        is_deleting(machine),
        labels_of(machine),
        annotations_of(machine),
        dig(machine, "status", "nodeRef"),
        dig(machine, "status", "failureReason"),
        condition_status(machine, "InfrastructureReady"),
        condition_status(machine, HEALTHY),
    )
