"""Which managers run: upstream has one per hosted cluster, started by the Deployment `capi-provider` beside it.

A manager acts on its own namespace (`--namespace`) and takes Agents of one other (`--agent-namespace`). Here one
component plays all of them: a namespace has a manager while that Deployment has an available replica.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labsim.controllers.agent_provider.names import MANAGER_DEPLOYMENT
from labsim.controllers.runtime.effects import Program, get, list_all
from labsim.model.kinds import DEPLOYMENT, HOSTED_CLUSTER, HOSTED_CONTROL_PLANE
from labsim.model.objects import Object, annotations_of, condition_status, dig, name_of

HOSTED_CLUSTER_ANNOTATION = "hypershift.openshift.io/cluster"


def is_running(deployment: Object | None) -> bool:
    """A manager's Deployment exists and one of its Pods is available."""
    if deployment is None or name_of(deployment) != MANAGER_DEPLOYMENT:
        return False
    return bool(dig(deployment, "status", "availableReplicas")) or condition_status(deployment, "Available") == "True"


def availability_changed(before: Object | None, after: Object | None) -> bool:
    return is_running(before) != is_running(after)


def argument(deployment: Object, flag: str) -> str:
    """The value of a flag of the manager, given as `--flag=value` or `--flag value`; "" without it."""
    for container in dig(deployment, "spec", "template", "spec", "containers", default=()):
        words: Sequence[str] = [*(container.get("command") or ()), *(container.get("args") or ())]
        found = _argument(words, flag)
        if found:
            return found
    return ""


def _argument(words: Iterable[str], flag: str) -> str:
    words = list(words)
    for number, word in enumerate(words):
        if word == flag and number + 1 < len(words):
            return words[number + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def agent_namespace(namespace: str) -> Program[str | None]:
    """Where the manager of this namespace takes Agents from; None where no manager runs."""
    deployment = yield from get(DEPLOYMENT, namespace, MANAGER_DEPLOYMENT)
    if not is_running(deployment):
        return None
    assert deployment is not None
    named = argument(deployment, "--agent-namespace")
    if named:
        return named
    for control_plane in (yield from list_all(HOSTED_CONTROL_PLANE, namespace)):
        hosted_namespace, _, name = annotations_of(control_plane).get(HOSTED_CLUSTER_ANNOTATION, "").partition("/")
        if not name:
            continue
        hosted = yield from get(HOSTED_CLUSTER, hosted_namespace, name, live=True)
        found = dig(hosted, "spec", "platform", "agent", "agentNamespace")
        if found:
            return str(found)
    return namespace  # without the flag the manager looks for Agents beside itself
