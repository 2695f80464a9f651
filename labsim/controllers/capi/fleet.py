"""The Machines of every MachineSet, as counts need them: one small record per Machine, no objects, no scans of others.

A MachineSet looks at all its Machines whenever one of them changes; with a thousand Machines that has to be cheap.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
from collections.abc import Iterator

from labsim.controllers.capi import conditions
from labsim.controllers.capi.nodes import namespace_of_owner, ready_since
from labsim.controllers.capi.owners import controller_of
from labsim.controllers.runtime.effects import Key
from labsim.model.objects import (
    Object,
    condition_of,
    condition_status,
    dig,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
)

Labels = tuple[tuple[str, str], ...]
UNREPORTED = 6  # weighs more than any condition: a Machine that has no Ready condition yet


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """What a MachineSet looks at on one of its Machines. `ready_*` repeat the Machine's Ready condition."""

    owner_uid: str  # of the controller; "" for an orphan
    owner_name: str
    deleting: bool
    node: str
    to_remediate: bool
    labels: Labels
    ready_rank: int
    ready_reason: str
    ready_severity: str


def member_of(machine: Object) -> Member:
    owner = controller_of(machine)
    ready = condition_of(machine, conditions.READY)
    remediate = (
        condition_status(machine, "HealthCheckSucceeded") == "False"
        and condition_status(machine, "OwnerRemediated") == "False"
        and not is_deleting(machine)
    )
    return Member(
        owner_uid="" if owner is None else owner["uid"],
        owner_name=owner["name"] if owner is not None and owner["kind"] == "MachineSet" else "",
        deleting=is_deleting(machine),
        node=str(dig(machine, "status", "nodeRef", "name", default="")),
        to_remediate=remediate,
        labels=tuple(sorted(labels_of(machine).items())),
        ready_rank=UNREPORTED if ready is None else conditions.rank(ready),
        ready_reason="" if ready is None else ready.get("reason", ""),
        ready_severity="" if ready is None else ready.get("severity", ""),
    )


class Crew:
    """The Machines of one MachineSet, with the counts that its status needs kept up to date."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.ready_since: dict[str, float] = {}  # of the Machines whose Node is Ready
        self.deleting = 0
        self.to_remediate: dict[str, None] = {}
        self.labels: collections.Counter[Labels] = collections.Counter()
        self.ranks: dict[int, list[str]] = {}  # names by the weight of their Ready condition, sorted

    def add(self, name: str, member: Member, ready_since_s: float | None) -> None:
        self.members[name] = member
        self.deleting += member.deleting
        self.labels[member.labels] += 1
        bisect.insort(self.ranks.setdefault(member.ready_rank, []), name)
        if member.to_remediate:
            self.to_remediate[name] = None
        self.node_ready(name, ready_since_s)

    def remove(self, name: str) -> None:
        member = self.members.pop(name)
        self.deleting -= member.deleting
        self.labels[member.labels] -= 1
        if not self.labels[member.labels]:
            del self.labels[member.labels]
        names = self.ranks[member.ready_rank]
        del names[bisect.bisect_left(names, name)]
        self.to_remediate.pop(name, None)
        self.ready_since.pop(name, None)

    def node_ready(self, name: str, since_s: float | None) -> None:
        if since_s is None:
            self.ready_since.pop(name, None)
        else:
            self.ready_since[name] = since_s

    def worst(self) -> tuple[int, str] | None:
        """Weight and name of the Machine whose Ready condition is worst; None where no Machine has one."""
        for rank in range(UNREPORTED):
            if self.ranks.get(rank):
                return rank, self.ranks[rank][0]
        return None


class Fleet:
    """Machines by the MachineSet that controls them, orphans by namespace, and the readiness of Nodes."""

    def __init__(self) -> None:
        self._members: dict[Key, Member] = {}
        self._crews: dict[str, Crew] = {}  # by the controller's uid
        self._orphans: dict[str, dict[str, Member]] = {}
        self._machine_of_node: dict[tuple[str, str], Key] = {}
        self._node_ready_since: dict[tuple[str, str], float] = {}
        self._sets: dict[str, dict[Key, None]] = {}

    def crew(self, owner_uid: str) -> Crew:
        """The Machines that a MachineSet controls."""
        return self._crews.setdefault(owner_uid, Crew())

    def disband(self, owner_uid: str) -> None:
        self._crews.pop(owner_uid, None)

    def orphans(self, namespace: str) -> dict[str, Member]:
        """Machines of a namespace without a controller, by name."""
        return self._orphans.get(namespace, {})

    def member(self, namespace: str, name: str) -> Member | None:
        return self._members.get(Key(namespace, name))

    # -- events -------------------------------------------------------------------------------------------------------

    def machine_changed(self, before: Object | None, after: Object | None) -> bool:
        present = after if after is not None else before
        assert present is not None
        key = Key(namespace_of(present), name_of(present))
        old = self._members.get(key)
        new = None if after is None else member_of(after)
        if old == new:
            return False
        if old is not None:
            self._leave(key, old)
        if new is not None:
            self._join(key, new)
        return True

    def _leave(self, key: Key, member: Member) -> None:
        del self._members[key]
        if member.owner_uid:
            self.crew(member.owner_uid).remove(key.name)
        else:
            del self._orphans[key.namespace][key.name]

    def _join(self, key: Key, member: Member) -> None:
        self._members[key] = member
        node = (key.namespace, member.node)
        if member.node:
            self._machine_of_node[node] = key
        if member.owner_uid:
            self.crew(member.owner_uid).add(key.name, member, self._node_ready_since.get(node))
        else:
            self._orphans.setdefault(key.namespace, {})[key.name] = member

    def node_changed(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """Take in an event of a Node; True where its readiness has changed."""
        present = after if after is not None else before
        assert present is not None
        node = (namespace_of_owner(owner), name_of(present))
        old = self._node_ready_since.pop(node, None)
        new = ready_since(after)
        if new is not None:
            self._node_ready_since[node] = new
        key = self._machine_of_node.get(node)
        member = None if key is None else self._members.get(key)
        if key is not None and member is not None and member.owner_uid and member.node == node[1]:
            self.crew(member.owner_uid).node_ready(key.name, new)
        return (old is None) != (new is None)

    def set_changed(self, before: Object | None, after: Object | None) -> bool:
        present = after if after is not None else before
        assert present is not None
        key = Key(namespace_of(present), name_of(present))
        known = self._sets.setdefault(key.namespace, {})
        if after is None:
            known.pop(key, None)
        else:
            known[key] = None
        return True

    def sets_in(self, namespace: str) -> Iterator[Key]:
        yield from self._sets.get(namespace, ())

    # -- whom they wake ---------------------------------------------------------------------------------------------

    def sets_of_machine(self, machine: Object) -> Iterator[Key]:
        """The MachineSet that controls a Machine; for an orphan every MachineSet of its namespace."""
        owner = controller_of(machine)
        if owner is None:
            yield from self._sets.get(namespace_of(machine), ())
        elif owner["kind"] == "MachineSet":
            yield Key(namespace_of(machine), owner["name"])

    def sets_of_node(self, node: Object, owner: str) -> Iterator[Key]:
        key = self._machine_of_node.get((namespace_of_owner(owner), name_of(node)))
        member = None if key is None else self._members.get(key)
        if key is not None and member is not None and member.owner_name:
            yield Key(key.namespace, member.owner_name)
