"""What must hold in every run, checked on every write as it happens.

Each invariant keeps the state that it needs itself, so that a write costs the same whatever the size of the lab.
Liveness is asked at the end of a run. The rules and their exceptions are those of the fact sheets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from labsim.model.objects import Object, annotations_of, dig, is_deleting, labels_of, name_of, namespace_of, owner_named
from labsim.model.states import INSTALLING_STATES
from labsim.scenario.tracking import agent_cluster, agent_state

MACHINE_GOES_WITHIN_S = 2 * 3600.0  # reclaim may take 60 min in each of its two states
AGENT_PROCEEDS_WITHIN_S = 3600.0


@dataclasses.dataclass(slots=True, kw_only=True)
class Event:
    """One write of the hub's store. `obj` is the object after it (the last state, for a deletion)."""

    event: str  # ADDED, MODIFIED, DELETED
    kind: str
    obj: Object
    at_s: float


class Invariant(Protocol):
    """A promise of the platform. `saw` and `finish` yield a message for each time it is broken."""

    name: str
    kinds: frozenset[str]  # whose writes it is shown

    def saw(self, event: Event) -> Iterable[str]: ...
    def finish(self, now_s: float) -> Iterable[str]: ...


class OneClaimantPerAgent:
    """No two AgentMachines of living Machines refer to one Agent.

    The claim's own window: an AgentMachine keeps its agentRef after the release (upstream never clears it), so it
    counts only while neither it nor its Machine is being deleted.
    """

    name = "one-claimant-per-agent"
    kinds = frozenset({"AgentMachine", "Machine"})

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], set[tuple[str, str]]] = {}  # Agent -> AgentMachines
        self._refers: dict[tuple[str, str], tuple[str, str]] = {}  # AgentMachine -> Agent
        self._going: set[tuple[str, str]] = set()  # Machines that are being deleted
        self._machine_of: dict[tuple[str, str], tuple[str, str]] = {}

    def saw(self, event: Event) -> Iterator[str]:
        key = (namespace_of(event.obj), name_of(event.obj))
        if event.kind == "Machine":
            if event.event == "DELETED":
                self._going.discard(key)
            elif is_deleting(event.obj):
                self._going.add(key)
            return
        if event.kind != "AgentMachine":
            return
        agent = self._refers.pop(key, None)
        if agent is not None:
            self._claims[agent].discard(key)
        reference = dig(event.obj, "status", "agentRef")
        if event.event == "DELETED" or is_deleting(event.obj) or not reference:
            return
        agent = (str(reference.get("namespace", "")), str(reference["name"]))
        self._refers[key] = agent
        owner = owner_named(event.obj, "Machine")
        if owner is not None:
            self._machine_of[key] = (key[0], str(owner["name"]))
        claimants = self._claims.setdefault(agent, set())
        claimants.add(key)
        living = sorted(claim for claim in claimants if self._machine_of.get(claim) not in self._going)
        if len(living) > 1:
            names = " and ".join(f"{namespace}/{name}" for namespace, name in living)
            yield f"Agent {agent[0]}/{agent[1]} is claimed by AgentMachines {names}"

    def finish(self, now_s: float) -> Iterable[str]:
        return ()


class OnlyApprovedAndSelectedInstall:
    """An Agent that starts to install is approved, and matches the selector of the AgentMachine that claims it."""

    name = "only-approved-and-selected-install"
    kinds = frozenset({"Agent", "AgentMachine"})

    def __init__(self) -> None:
        self._selectors: dict[tuple[str, str], Mapping[str, object]] = {}
        self._installing: set[str] = set()

    def saw(self, event: Event) -> Iterator[str]:
        if event.kind == "AgentMachine":
            selector = dig(event.obj, "spec", "agentLabelSelector", default={})
            self._selectors[namespace_of(event.obj), name_of(event.obj)] = selector
        if event.kind != "Agent":
            return
        name = name_of(event.obj)
        if event.event == "DELETED" or agent_state(event.obj) not in INSTALLING_STATES:
            self._installing.discard(name)
            return
        if name in self._installing:
            return
        self._installing.add(name)
        if not dig(event.obj, "spec", "approved"):
            yield f"Agent {name} installs and is not approved"
        claimant = (
            annotations_of(event.obj).get("agentMachineRefNamespace", ""),
            labels_of(event.obj).get("agentMachineRef", ""),
        )
        wanted = self._selectors.get(claimant, {}).get("matchLabels")
        if isinstance(wanted, dict) and any(labels_of(event.obj).get(key) != value for key, value in wanted.items()):
            yield f"Agent {name} installs for {claimant[0]}/{claimant[1]}, whose selector {wanted} it does not match"

    def finish(self, now_s: float) -> Iterable[str]:
        return ()


class FreeAgentsCarryNoTrace:
    """An Agent that nobody claims and that is ready to be bound carries no trace of a cluster."""

    name = "free-agents-carry-no-trace"
    kinds = frozenset({"Agent"})

    def saw(self, event: Event) -> Iterator[str]:
        if event.kind != "Agent" or event.event == "DELETED" or agent_state(event.obj) != "known-unbound":
            return
        if agent_cluster(event.obj) is not None or "agentMachineRef" in labels_of(event.obj):
            return  # claimed: the binding has just not been noticed yet
        traces = [
            what
            for what, found in (
                ("annotation agentMachineRefNamespace", annotations_of(event.obj).get("agentMachineRefNamespace")),
                ("spec.machineConfigPool", dig(event.obj, "spec", "machineConfigPool")),
                ("spec.ignitionEndpointTokenReference", dig(event.obj, "spec", "ignitionEndpointTokenReference")),
                ("spec.ignitionEndpointHTTPHeaders", dig(event.obj, "spec", "ignitionEndpointHTTPHeaders")),
                ("status.progress.currentStage", dig(event.obj, "status", "progress", "currentStage")),
                ("status.kind", dig(event.obj, "status", "kind") not in (None, "Host")),
            )
            if found
        ]
        if traces:
            yield f"Agent {name_of(event.obj)} is free and still carries {', '.join(traces)}"

    def finish(self, now_s: float) -> Iterable[str]:
        return ()


class DeletedMachinesGo:
    """A Machine that is deleted goes within its deadline.

    Upstream's named exceptions: its agent's host is off in `unbinding` (that state is not monitored), or its
    machine was stopped by the scenario while it was bound; `excused` says which Machines are.
    """

    name = "deleted-machines-go"
    kinds = frozenset({"Machine"})

    def __init__(self, excused: Callable[[Object], bool] = lambda machine: False) -> None:
        self._going: dict[tuple[str, str], tuple[float, Object]] = {}
        self._excused = excused

    def saw(self, event: Event) -> Iterable[str]:
        if event.kind == "Machine":
            key = (namespace_of(event.obj), name_of(event.obj))
            if event.event == "DELETED":
                self._going.pop(key, None)
            elif is_deleting(event.obj) and key not in self._going:
                self._going[key] = (event.at_s, event.obj)
        return ()

    def finish(self, now_s: float) -> Iterator[str]:
        for (namespace, name), (since_s, machine) in sorted(self._going.items(), key=lambda item: item[0]):
            if now_s - since_s > MACHINE_GOES_WITHIN_S and not self._excused(machine):
                yield f"Machine {namespace}/{name} has been deleting for {now_s - since_s:.0f} s"


class ClaimedAgentsProceed:
    """A claimed Agent leaves each state on the way to its cluster within the deadline, unless its machine is off."""

    name = "claimed-agents-proceed"
    kinds = frozenset({"Agent"})

    def __init__(self, excused: Callable[[str], bool] = lambda agent: False) -> None:
        self._since: dict[str, tuple[str, float]] = {}
        self._excused = excused

    def saw(self, event: Event) -> Iterable[str]:
        if event.kind == "Agent":
            name, state = name_of(event.obj), agent_state(event.obj)
            if (
                event.event == "DELETED"
                or agent_cluster(event.obj) is None
                or state in ("", "added-to-existing-cluster")
            ):
                self._since.pop(name, None)
            elif self._since.get(name, ("", 0.0))[0] != state:
                self._since[name] = (state, event.at_s)
        return ()

    def finish(self, now_s: float) -> Iterator[str]:
        for name, (state, since_s) in sorted(self._since.items()):
            if now_s - since_s > AGENT_PROCEEDS_WITHIN_S and state != "error" and not self._excused(name):
                yield f"Agent {name} is claimed and has been {state} for {now_s - since_s:.0f} s"


def standard_invariants(
    *, machine_excused: Callable[[Object], bool], agent_excused: Callable[[str], bool]
) -> list[Invariant]:
    """The invariants that every run is held to."""
    return [
        OneClaimantPerAgent(),
        OnlyApprovedAndSelectedInstall(),
        FreeAgentsCarryNoTrace(),
        DeletedMachinesGo(machine_excused),
        ClaimedAgentsProceed(agent_excused),
    ]


INVARIANT_KINDS = frozenset({"Agent", "AgentMachine", "Machine"})
