"""Which AgentMachine an event of a Machine, an Agent or a manager's Deployment is about."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import orjson

from labsim.controllers.agent_provider.deletion import PRE_TERMINATE
from labsim.controllers.agent_provider.names import (
    AGENT_MACHINE_LABEL,
    AGENT_MACHINE_NAMESPACE_ANNOTATION,
    SPEC_OF_CLAIM,
)
from labsim.controllers.agent_provider.pool import AgentPool, is_free
from labsim.controllers.agent_provider.status import FOLLOWING
from labsim.controllers.capi.names import CAPI_GROUP
from labsim.controllers.capi.owners import group_of
from labsim.controllers.capi.selectors import Matcher, matcher
from labsim.controllers.runtime.effects import Key
from labsim.controllers.runtime.sieves import conditions_changed, metadata_changed
from labsim.model.objects import Object, annotations_of, dig, labels_of, name_of, namespace_of

ObjectKey = tuple[str, str]


def owning_machine(agent_machine: Object) -> str:
    """The name of the Machine that owns an AgentMachine; "" before Cluster API has handed it over."""
    for reference in agent_machine["metadata"].get("ownerReferences") or ():
        if reference["kind"] == "Machine" and group_of(reference["apiVersion"]) == CAPI_GROUP:
            return str(reference["name"])
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Link:
    machine: str
    agent: ObjectKey | None
    selector: bytes


@functools.lru_cache(maxsize=1024)
def _matcher(selector: bytes) -> Matcher:
    return matcher(orjson.loads(selector))


def _is_told_on(before: Object, after: Object) -> bool:
    """Whether a claimed Agent changed in what its AgentMachine repairs, or reports."""
    old, new = before["spec"], after["spec"]
    return (
        labels_of(before).get(AGENT_MACHINE_LABEL) != labels_of(after).get(AGENT_MACHINE_LABEL)
        or annotations_of(before).get(AGENT_MACHINE_NAMESPACE_ANNOTATION)
        != annotations_of(after).get(AGENT_MACHINE_NAMESPACE_ANNOTATION)
        or any(old.get(field) != new.get(field) for field in SPEC_OF_CLAIM)
        or conditions_changed(before, after, *(kind for _, kind in FOLLOWING))
    )


class AgentMachineLinks:
    """AgentMachines by their Machine, by their Agent, and those that have no Agent yet."""

    def __init__(self, pool: AgentPool) -> None:
        self._pool = pool
        self._links: dict[Key, _Link] = {}
        self._by_machine: dict[ObjectKey, dict[Key, None]] = {}
        self._by_agent: dict[ObjectKey, dict[Key, None]] = {}
        self._by_namespace: dict[str, dict[Key, None]] = {}
        # Without an Agent: those that asked for one and found none (by the namespace they ask in), and all others,
        # which something else holds up.
        self._asking: dict[str, dict[Key, None]] = {}
        self._held_up: dict[Key, None] = {}
        self._event: Object | None = None
        self._unsaved: set[Key] = set()  # what a pass wanted to write is lost, and any event has to repair it

    # -- AgentMachines ------------------------------------------------------------------------------------------------

    def observe(self, before: Object | None, after: Object | None) -> bool:
        """Take in an event of an AgentMachine; every one wakes its own reconcile."""
        present = after if after is not None else before
        assert present is not None
        key = Key(namespace_of(present), name_of(present))
        old, new = self._links.get(key), None
        if after is not None:
            reference = dig(after, "status", "agentRef")
            agent = (reference["namespace"], reference["name"]) if reference else None
            selector = orjson.dumps(dig(after, "spec", "agentLabelSelector", default={}))
            new = _Link(owning_machine(after), agent, selector)
        if old == new:
            return True
        if old is not None:
            self._unlink(key, old)
        if new is not None:
            self._links[key] = new
            self._by_namespace.setdefault(key.namespace, {})[key] = None
            if new.machine:
                self._by_machine.setdefault((key.namespace, new.machine), {})[key] = None
            if new.agent is not None:
                self._by_agent.setdefault(new.agent, {})[key] = None
            else:
                self._held_up[key] = None
        return True

    def _unlink(self, key: Key, link: _Link) -> None:
        del self._links[key]
        self._by_namespace[key.namespace].pop(key, None)
        self._by_machine.get((key.namespace, link.machine), {}).pop(key, None)
        if link.agent is not None:
            self._by_agent[link.agent].pop(key, None)
        self._held_up.pop(key, None)
        self._unsaved.discard(key)
        for waiting in self._asking.values():
            waiting.pop(key, None)

    def is_asking(self, key: Key, agent_namespace: str) -> None:
        """The AgentMachine found no Agent: a free one that fits is all that it waits for."""
        if key in self._links and self._links[key].agent is None:
            self._held_up.pop(key, None)
            self._asking.setdefault(agent_namespace, {})[key] = None

    def is_held_up(self, key: Key) -> None:
        """The AgentMachine has not come as far as asking, or does not ask any more."""
        for waiting in self._asking.values():
            waiting.pop(key, None)
        if key in self._links and self._links[key].agent is None:
            self._held_up[key] = None

    def is_saved(self, key: Key, *, saved: bool) -> None:
        """Whether what the AgentMachine's last pass wanted to write has been written."""
        if saved:
            self._unsaved.discard(key)
        else:
            self._unsaved.add(key)

    # -- what wakes them --------------------------------------------------------------------------------------------

    def of_machine(self, machine: Object) -> list[Key]:
        return list(self._by_machine.get((namespace_of(machine), name_of(machine)), ()))

    def of_deployment(self, deployment: Object) -> list[Key]:
        return list(self._by_namespace.get(namespace_of(deployment), ()))

    def agent_changed(self, before: Object | None, after: Object | None) -> bool:
        """Take in an event of an Agent; whom it wakes finds `of_agent` out.

        The AgentMachine that has claimed the Agent looks at few of its fields.
        """
        self._pool.observe(before, after)
        self._event = after
        if before is None or after is None or AGENT_MACHINE_LABEL not in labels_of(after) or self._unsaved:
            return True
        return _is_told_on(before, after)

    def machine_changed(self, before: Object | None, after: Object | None) -> bool:
        """Whether something changed on a Machine that its AgentMachine looks at."""
        if before is None or after is None or self._unsaved:
            return True
        return (
            metadata_changed(before, after)
            or before["spec"] != after["spec"]
            or conditions_changed(before, after, PRE_TERMINATE)
        )

    def of_agent(self, agent: Object) -> list[Key]:
        """The AgentMachine that an Agent is claimed by; for a free Agent all that wait for one.

        Of those that ask in its namespace, one for each free Agent there is enough: more could not get any.
        Upstream reads the Agent again here, so a former state of a free Agent wakes nobody.
        """
        claimant = annotations_of(agent).get(AGENT_MACHINE_NAMESPACE_ANNOTATION)
        if claimant:
            claimed = self._by_agent.get((namespace_of(agent), name_of(agent)), ())
            return [key for key in claimed if key.namespace == claimant]
        if agent is not self._event or not is_free(agent):
            return []
        labels = labels_of(agent)
        asking = self._asking.get(namespace_of(agent), {})
        fitting = (key for key in asking if _matcher(self._links[key].selector)(labels))
        return [*self._held_up, *itertools.islice(fitting, self._pool.count(namespace_of(agent)))]
