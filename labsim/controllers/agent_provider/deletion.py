"""The deletion hook: a Machine that goes is held until its Agent has been given back.

Upstream unbinds the Agent while the Machine waits at its pre-terminate hook, then polls the Agent's state.
"""

from __future__ import annotations

import enum

from labsim.controllers.agent_provider.names import (
    AGENT_MACHINE_FINALIZER,
    AGENT_MACHINE_LABEL,
    AGENT_MACHINE_NAMESPACE_ANNOTATION,
    DELETION_HOOK,
    RELEASED_STATES,
    SPEC_OF_CLAIM,
)
from labsim.controllers.capi.names import PAUSED_ANNOTATION
from labsim.controllers.runtime.effects import Note, Program, get, update
from labsim.model.kinds import AGENT, MACHINE
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_status,
    dig,
    finalizers_of,
    is_deleting,
    labels_of,
    name_of,
    thaw,
)

PRE_TERMINATE = "PreTerminateDeleteHookSucceeded"


class Verdict(enum.Enum):
    """What the hook's step says about the rest of the reconcile."""

    GO_ON = "go on as for a live AgentMachine"
    STOP = "nothing more to do"
    POLL = "the agent is not free yet: look again soon"


def is_paused(obj: Object) -> bool:
    """The provider wants the exact text "true", unlike Cluster API."""
    return annotations_of(obj).get(PAUSED_ANNOTATION) == "true"


def handle_deletion_hook(agent_machine: Object, machine: Object) -> Program[Verdict]:
    """One pass of the hook. `agent_machine` is the copy that the reconcile patches at its end."""
    machine = yield from _ensure_hook(machine)
    if not is_deleting(agent_machine) and AGENT_MACHINE_FINALIZER not in finalizers_of(agent_machine):
        agent_machine["metadata"].setdefault("finalizers", []).append(AGENT_MACHINE_FINALIZER)
    if is_paused(agent_machine):
        if not is_deleting(agent_machine):
            return Verdict.GO_ON
        return (yield from _let_go(agent_machine, machine))
    reached = condition_status(machine, PRE_TERMINATE)
    if not reached:
        if is_deleting(agent_machine):
            yield Note(f"AgentMachine {name_of(agent_machine)} is deleted before its Machine waits for the hook")
        return Verdict.GO_ON
    if reached == "True":
        drop_finalizer(agent_machine)
        return Verdict.STOP
    reference = dig(agent_machine, "status", "agentRef")
    if reference is None:
        return (yield from _let_go(agent_machine, machine))
    agent = yield from get(AGENT, reference["namespace"], reference["name"], live=True)
    if agent is None or _is_anothers(agent, agent_machine):
        return (yield from _let_go(agent_machine, machine))
    if AGENT_MACHINE_LABEL in labels_of(agent) or dig(agent, "spec", "clusterDeploymentName") is not None:
        agent = yield from update(released(agent), AGENT)
    if dig(agent, "status", "debugInfo", "state", default="") in RELEASED_STATES:
        return (yield from _let_go(agent_machine, machine))
    return Verdict.POLL


def _is_anothers(agent: Object, agent_machine: Object) -> bool:
    """Whether the Agent was free in the meantime and another AgentMachine has claimed it.

    Upstream does not ask: between two of its 5 s polls a reclaimed Agent can become free and be claimed again, and the
    poll then unbinds it from its new cluster, whose AgentMachine never looks for another. Found by
    scenarios/two-hosted-clusters-one-pool.yaml with seed 2; docs/decisions/0100-known-bugs-are-not-copied.md.
    """
    claimant = labels_of(agent).get(AGENT_MACHINE_LABEL)
    if claimant is None:
        return False
    namespace = annotations_of(agent).get(AGENT_MACHINE_NAMESPACE_ANNOTATION)
    return (claimant, namespace) != (name_of(agent_machine), agent_machine["metadata"]["namespace"])


def released(agent: Object) -> Object:
    """The Agent without any trace of its claim."""
    free = thaw(agent)
    (free["metadata"].get("labels") or {}).pop(AGENT_MACHINE_LABEL, None)
    (free["metadata"].get("annotations") or {}).pop(AGENT_MACHINE_NAMESPACE_ANNOTATION, None)
    free["spec"].pop("clusterDeploymentName", None)
    for field in SPEC_OF_CLAIM:
        free["spec"].pop(field, None)
    return free


def drop_finalizer(agent_machine: Object) -> None:
    kept = [entry for entry in finalizers_of(agent_machine) if entry != AGENT_MACHINE_FINALIZER]
    if kept:
        agent_machine["metadata"]["finalizers"] = kept
    else:
        agent_machine["metadata"].pop("finalizers", None)


def _ensure_hook(machine: Object) -> Program[Object]:
    if is_deleting(machine) or DELETION_HOOK in annotations_of(machine):
        return machine
    hooked = thaw(machine)
    hooked["metadata"].setdefault("annotations", {})[DELETION_HOOK] = ""
    return (yield from update(hooked, MACHINE))


def _let_go(agent_machine: Object, machine: Object) -> Program[Verdict]:
    """Remove the hook from the Machine, then the finalizer from the AgentMachine."""
    if DELETION_HOOK in annotations_of(machine):
        unhooked = thaw(machine)
        del unhooked["metadata"]["annotations"][DELETION_HOOK]
        yield from update(unhooked, MACHINE)
    drop_finalizer(agent_machine)
    return Verdict.STOP
