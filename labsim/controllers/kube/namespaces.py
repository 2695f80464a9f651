"""The namespace controller: a namespace that is deleted is emptied, kind by kind, and then let go."""

from __future__ import annotations

from collections.abc import Sequence

from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    Result,
    Watch,
    delete,
    get,
    list_all,
    now,
    own_key,
    patch,
    update,
)
from labsim.kube.errors import ApiError
from labsim.model.kinds import NAMESPACE, Kind
from labsim.model.objects import (
    Object,
    condition_of,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    thaw,
    timestamp,
)

# Upstream estimates 15 s for what has finalizers, and looks again after half of it and one second.
REMAINING_POLL_S = 8.0


class Namespaces:
    """Empties namespaces of these kinds."""

    def __init__(self, kinds_deleted: Sequence[Kind]) -> None:
        self._kinds = [kind for kind in kinds_deleted if kind.namespaced]

    def controller(self) -> Controller:
        return Controller("namespace", self.reconcile, (Watch(NAMESPACE, own_key, when=_goes),), workers=10)

    def reconcile(self, key: Key) -> Program[Result]:
        namespace = yield from get(NAMESPACE, "", key.name, live=True)
        if namespace is None or not is_deleting(namespace):
            return DONE
        if not dig(namespace, "spec", "finalizers"):
            return DONE
        if dig(namespace, "status", "phase") != "Terminating":
            body = {"status": {"phase": "Terminating"}}
            namespace = yield from patch(NAMESPACE, "", key.name, body, subresource="status")
        remaining: dict[str, int] = {}
        held: dict[str, int] = {}
        for kind in self._kinds:
            for obj in (yield from _deleted(kind, key.name)):
                remaining[kind.qualified] = remaining.get(kind.qualified, 0) + 1
                for finalizer in finalizers_of(obj):
                    held[finalizer] = held.get(finalizer, 0) + 1
        if remaining:
            yield from _report(namespace, remaining, held)
            return Result(REMAINING_POLL_S)
        finalized = thaw(namespace)
        finalized["spec"]["finalizers"] = []
        yield from update(finalized, NAMESPACE, subresource="finalize")
        return DONE


def _goes(before: Object | None, after: Object | None) -> bool:
    return after is not None and is_deleting(after) and (before is None or not is_deleting(before))


def _deleted(kind: Kind, namespace: str) -> Program[list[Object]]:
    """Delete everything of a kind in a namespace; returns what is still there afterwards."""
    found = yield from list_all(kind, namespace, live=True)
    if not found:
        return []
    for obj in found:
        if not is_deleting(obj):
            yield from delete(kind, namespace_of(obj), name_of(obj), options={"propagationPolicy": "Background"})
    return (yield from list_all(kind, namespace, live=True))


def _report(namespace: Object, remaining: dict[str, int], held: dict[str, int]) -> Program[None]:
    """Say in the namespace's conditions what it waits for."""
    resources = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remaining.items()))
    finalizers = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(held.items()))
    wanted = {
        "NamespaceContentRemaining": ("SomeResourcesRemain", f"Some resources are remaining: {resources}"),
    }
    if held:
        text = f"Some content in the namespace has finalizers remaining: {finalizers}"
        wanted["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", text)
    present = {entry["type"]: entry for entry in dig(namespace, "status", "conditions", default=())}
    if all(kind in present and present[kind].get("message") == text for kind, (_, text) in wanted.items()):
        return
    moment = yield from now()
    for kind, (reason, text) in wanted.items():
        found = condition_of(namespace, kind)
        since = found["lastTransitionTime"] if found is not None else timestamp(moment)
        present[kind] = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": text,
            "lastTransitionTime": since,
        }
    ordered = [present[kind] for kind in sorted(present)]
    try:
        yield from patch(NAMESPACE, "", name_of(namespace), {"status": {"conditions": ordered}}, subresource="status")
    except ApiError as error:
        if error.code != 404:
            raise
