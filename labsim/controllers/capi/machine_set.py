"""The MachineSet controller: as many Machines as asked for, each with its infrastructure object."""

from __future__ import annotations

from collections.abc import Callable

from labsim.controllers.capi import conditions, victims
from labsim.controllers.capi.cloning import MachineMaker
from labsim.controllers.capi.fleet import Fleet, Member
from labsim.controllers.capi.machine_links import cluster_matters
from labsim.controllers.capi.machine_set_status import update_status
from labsim.controllers.capi.names import (
    CACHE_POLL_LIMIT_S,
    CACHE_POLL_S,
    CLUSTER_NAME_LABEL,
    MACHINE_SET_FINALIZER,
)
from labsim.controllers.capi.nodes import node_matters
from labsim.controllers.capi.owners import controller_of, is_owned_by, is_paused, own
from labsim.controllers.capi.patching import patch_changes
from labsim.controllers.capi.propagation import propagate
from labsim.controllers.capi.selectors import is_empty, matcher
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    ReconcileError,
    Result,
    Sleep,
    Watch,
    delete,
    get,
    now,
    own_key,
    patch,
)
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT_MACHINE_TEMPLATE, CLUSTER, MACHINE, MACHINE_SET, NODE
from labsim.model.objects import (
    Object,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    owner_reference,
    thaw,
    uid_of,
)

MACHINES_CREATED = "MachinesCreated"
WORKERS = 10
_Test = Callable[[Member], bool]
_Seen = Callable[[str], bool]


class MachineSets:
    """Reconciles MachineSets."""

    def __init__(self, entropy: Entropy) -> None:
        self._fleet = Fleet()
        self._maker = MachineMaker(entropy)
        self._own = OwnWrites()
        self._propagated: dict[str, str] = {}  # MachineSet uid: the template that its Machines have been given

    def controller(self) -> Controller:
        fleet = self._fleet
        return Controller(
            "machineset",
            self.reconcile,
            (
                Watch(MACHINE_SET, own_key, when=self._is_news),
                Watch(MACHINE, fleet.sets_of_machine, when=fleet.machine_changed),
                Watch(NODE, fleet.sets_of_node, hosted=True, when=fleet.node_changed, sieve=node_matters),
                Watch(CLUSTER, self._of_cluster, when=cluster_matters),
                Watch(AGENT_MACHINE_TEMPLATE, None),
            ),
            WORKERS,
        )

    def _of_cluster(self, cluster: Object) -> list[Key]:
        return list(self._fleet.sets_in(namespace_of(cluster)))

    def _is_news(self, before: Object | None, after: Object | None) -> bool:
        self._fleet.set_changed(before, after)
        return after is None or not self._own.is_echo(after)

    def reconcile(self, key: Key) -> Program[Result]:
        stored = self._own.fresher(key, (yield from get(MACHINE_SET, key.namespace, key.name)))
        if stored is None:
            self._own.forget(key)
            return DONE
        cluster_name = stored["spec"]["clusterName"]
        cluster = yield from get(CLUSTER, key.namespace, cluster_name)
        if cluster is None and not is_deleting(stored):
            raise ReconcileError(f'failed to get cluster "{cluster_name}" for MachineSet "{key.name}"')
        if is_paused(cluster, stored):
            return DONE
        machine_set = thaw(stored)
        result, error = DONE, None
        try:
            if is_deleting(machine_set):
                yield from self._delete_machines(machine_set)
            else:
                yield from self._steps(machine_set, cluster)
        except (ApiError, ReconcileError) as raised:
            error = raised
        if MACHINE_SET_FINALIZER in finalizers_of(machine_set):
            moment = yield from now()
            result = update_status(machine_set, self._fleet, now_s=moment)
        is_done = error is None and result == DONE and not is_deleting(machine_set)
        yield from patch_changes(MACHINE_SET, stored, machine_set, own=self._own, is_done=is_done)
        if error is not None:
            raise error
        return result

    def _steps(self, machine_set: Object, cluster: Object | None) -> Program[None]:
        assert cluster is not None
        _complete(machine_set, cluster)
        yield from _own_template(machine_set, cluster)
        yield from self._adopt(machine_set)
        yield from self._remediate(machine_set)
        yield from self._propagate(machine_set)
        yield from self._sync_replicas(machine_set)

    # -- Machines that are there --------------------------------------------------------------------------------------

    def _adopt(self, machine_set: Object) -> Program[None]:
        """Machines without a controller that the selector matches become ours."""
        orphans = self._fleet.orphans(namespace_of(machine_set))
        if not orphans or is_empty(machine_set["spec"]["selector"]):
            return
        matches = matcher(machine_set["spec"]["selector"])
        for name in [name for name, member in orphans.items() if matches(dict(member.labels))]:
            machine = yield from get(MACHINE, namespace_of(machine_set), name)
            if machine is None or is_deleting(machine) or controller_of(machine) is not None:
                continue
            references = [
                *(machine["metadata"].get("ownerReferences") or ()),
                owner_reference(machine_set, controller=True),
            ]
            yield from patch(MACHINE, namespace_of(machine), name, {"metadata": {"ownerReferences": references}})

    def _remediate(self, machine_set: Object) -> Program[None]:
        """Delete the Machines that a health check has given up."""
        for name in sorted(self._fleet.crew(uid_of(machine_set)).to_remediate):
            machine = yield from get(MACHINE, namespace_of(machine_set), name)
            if machine is None:
                continue
            moment = yield from now()
            marked = thaw(machine)
            conditions.mark_true(marked, "OwnerRemediated", now_s=moment)
            yield from patch_changes(MACHINE, machine, marked)
            yield from delete(MACHINE, namespace_of(machine), name)

    def _propagate(self, machine_set: Object) -> Program[None]:
        """Carry labels, annotations and time-outs of a changed template to the Machines in place."""
        digest = repr(machine_set["spec"].get("template"))
        if self._propagated.get(uid_of(machine_set)) == digest:
            return
        for name in self._names(machine_set, lambda member: not member.deleting):
            yield from propagate(machine_set, name)
        self._propagated[uid_of(machine_set)] = digest

    def _names(self, machine_set: Object, wanted: _Test) -> list[str]:
        members = self._fleet.crew(uid_of(machine_set)).members
        return sorted(name for name, member in members.items() if wanted(member))

    # -- how many -----------------------------------------------------------------------------------------------------

    def _sync_replicas(self, machine_set: Object) -> Program[None]:
        wanted = int(machine_set["spec"].get("replicas", 1))
        crew = self._fleet.crew(uid_of(machine_set))
        present = len(crew.members)
        if present < wanted:
            yield from self._scale_up(machine_set, wanted - present)
        elif crew.deleting < present - wanted:  # those that go already are chosen first, and count
            yield from self._scale_down(machine_set, present - wanted)

    def _scale_up(self, machine_set: Object, count: int) -> Program[None]:
        moment = yield from now()
        made: list[str] = []
        try:
            for _ in range(count):
                made.append((yield from self._maker.make(machine_set)))  # noqa: PERF401 - a program cannot be inlined
        except (ApiError, ReconcileError) as error:
            conditions.mark_false(
                machine_set,
                MACHINES_CREATED,
                "MachineCreationFailed",
                conditions.ERROR,
                str(error),
                now_s=moment,
            )
            raise
        namespace = namespace_of(machine_set)
        yield from _until_cached(lambda name: self._fleet.member(namespace, name) is not None, made)

    def _scale_down(self, machine_set: Object, count: int) -> Program[None]:
        namespace = namespace_of(machine_set)
        moment = yield from now()
        machines: list[Object] = []
        for name in sorted(self._fleet.crew(uid_of(machine_set)).members):
            machine = yield from get(MACHINE, namespace, name)
            if machine is not None:
                machines.append(machine)
        policy = machine_set["spec"].get("deletePolicy") or victims.RANDOM
        chosen = victims.choose(machines, count, policy, moment)
        going = [name_of(machine) for machine in chosen if not is_deleting(machine)]
        for name in going:
            yield from delete(MACHINE, namespace, name)

        def is_gone(name: str) -> bool:
            member = self._fleet.member(namespace, name)
            return member is None or member.deleting

        yield from _until_cached(is_gone, going)

    def _delete_machines(self, machine_set: Object) -> Program[None]:
        """Delete every Machine; the finalizer goes with the last of them."""
        if not self._fleet.crew(uid_of(machine_set)).members:
            kept = [entry for entry in finalizers_of(machine_set) if entry != MACHINE_SET_FINALIZER]
            machine_set["metadata"]["finalizers"] = kept
            self._propagated.pop(uid_of(machine_set), None)
            self._fleet.disband(uid_of(machine_set))
            return
        for name in self._names(machine_set, lambda member: not member.deleting):
            yield from delete(MACHINE, namespace_of(machine_set), name)


def _complete(machine_set: Object, cluster: Object) -> None:
    """Labels, owner and finalizer that every MachineSet has, and the cluster's label in selector and template."""
    metadata, spec = machine_set["metadata"], machine_set["spec"]
    if MACHINE_SET_FINALIZER not in finalizers_of(machine_set):
        metadata.setdefault("finalizers", []).append(MACHINE_SET_FINALIZER)
    metadata.setdefault("labels", {})[CLUSTER_NAME_LABEL] = spec["clusterName"]
    if controller_of(machine_set) is None:
        own(machine_set, cluster)
    spec["selector"].setdefault("matchLabels", {})[CLUSTER_NAME_LABEL] = spec["clusterName"]
    template = spec.setdefault("template", {}).setdefault("metadata", {})
    template.setdefault("labels", {})[CLUSTER_NAME_LABEL] = spec["clusterName"]
    if not matcher(spec["selector"])(template["labels"]):
        raise ReconcileError(
            f"failed validation on MachineSet {name_of(machine_set)} label selector, "
            "cannot match Machine template labels"
        )


def _own_template(machine_set: Object, cluster: Object) -> Program[None]:
    """The infrastructure template belongs to the Cluster, and goes with it."""
    reference = machine_set["spec"]["template"]["spec"]["infrastructureRef"]
    template = yield from get(AGENT_MACHINE_TEMPLATE, namespace_of(machine_set), reference["name"])
    if template is None or is_deleting(template) or is_owned_by(template, cluster):
        return
    owned = thaw(template)
    own(owned, cluster)
    yield from patch_changes(AGENT_MACHINE_TEMPLATE, template, owned)


def _until_cached(is_seen: _Seen, names: list[str]) -> Program[None]:
    """Wait until the watch has delivered what was just written, so that the next pass counts right."""
    waited_s = 0.0
    while not all(is_seen(name) for name in names):
        if waited_s >= CACHE_POLL_LIMIT_S:
            raise ReconcileError("timed out waiting for Machines to be updated in the cache")
        yield Sleep(CACHE_POLL_S)
        waited_s += CACHE_POLL_S
