"""The Machines of every MachineSet, as counts need them: one small record per Machine, no objects, no scans of others.

A MachineSet looks at all its Machines whenever one of them changes; with a thousand Machines that has to be cheap.
"""

from __future__ import annotations

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


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """What a MachineSet looks at on one of its Machines. `ready_*` repeat the Machine's Ready condition."""

    owner_uid: str  # of the controller; "" for an orphan
    owner_name: str
    deleting: bool
    node: str
    to_remediate: bool
    labels: tuple[tuple[str, str], ...]
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
        ready_rank=6 if ready is None else conditions.rank(ready),
        ready_reason="" if ready is None else ready.get("reason", ""),
        ready_severity="" if ready is None else ready.get("severity", ""),
    )


class Fleet:
    """Machines by the MachineSet that controls them, orphans by namespace, and the readiness of Nodes."""

    def __init__(self) -> None:
        self._members: dict[Key, Member] = {}
        self._of_owner: dict[str, dict[str, Member]] = {}
        self._orphans: dict[str, dict[str, Member]] = {}
        self._machine_of_node: dict[tuple[str, str], Key] = {}
        self._node_ready_since: dict[tuple[str, str], float] = {}
        self._sets: dict[str, dict[Key, None]] = {}

    def members(self, owner_uid: str) -> dict[str, Member]:
        """The Machines that a MachineSet controls, by name."""
        return self._of_owner.get(owner_uid, {})

    def orphans(self, namespace: str) -> dict[str, Member]:
        """Machines of a namespace without a controller, by name."""
        return self._orphans.get(namespace, {})

    def member(self, namespace: str, name: str) -> Member | None:
        return self._members.get(Key(namespace, name))

    def ready_since(self, namespace: str, member: Member) -> float | None:
        """When the Machine's Node became Ready; None while it is not."""
        return self._node_ready_since.get((namespace, member.node)) if member.node else None

    # -- events -------------------------------------------------------------------------------------------------------

    def machine_changed(self, before: Object | None, after: Object | None) -> bool:
        present = after if after is not None else before
        assert present is not None
        key = Key(namespace_of(present), name_of(present))
        old = self._members.pop(key, None)
        new = None if after is None else member_of(after)
        if old is not None and old != new:
            self._home(key, old).pop(key.name, None)
        if new is not None:
            self._members[key] = new
            self._home(key, new)[key.name] = new
            if new.node:
                self._machine_of_node[key.namespace, new.node] = key
        return old != new

    def _home(self, key: Key, member: Member) -> dict[str, Member]:
        if member.owner_uid:
            return self._of_owner.setdefault(member.owner_uid, {})
        return self._orphans.setdefault(key.namespace, {})

    def node_changed(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """Take in an event of a Node; True where its readiness has changed."""
        present = after if after is not None else before
        assert present is not None
        key = (namespace_of_owner(owner), name_of(present))
        old = self._node_ready_since.pop(key, None)
        new = ready_since(after)
        if new is not None:
            self._node_ready_since[key] = new
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
