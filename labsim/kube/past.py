"""What was there at an earlier revision, read back from the log."""

from __future__ import annotations

from collections.abc import Sequence

from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.model.kinds import Kind
from labsim.model.objects import Object


def changes_since(server: ApiServer, kind: Kind, revision: int) -> list[Revision] | None:
    """The later changes of a kind, whatever version it is stored in; None where the log no longer reaches back."""
    changes: Sequence[Revision] | None = server.store.since(revision)
    if changes is None:
        return None
    return [entry for entry in changes if entry.kind.plural == kind.plural and entry.kind.group == kind.group]


def objects_at(server: ApiServer, kind: Kind, namespace: str | None, revision: int) -> list[Object] | None:
    """The objects of a kind as they were at a revision, in order; None where the log does not reach back to it."""
    now, current = server.list(kind, namespace)
    if revision >= current:
        return now
    changes = changes_since(server, kind, revision)
    if changes is None:
        return None
    state = {place_of(obj): obj for obj in now}
    for change in reversed(changes):
        if namespace is not None and change.namespace != namespace:
            continue
        before = change.previous_object
        if before is None:
            state.pop((change.namespace, change.name), None)
        else:
            state[change.namespace, change.name] = server.in_version(kind, before)
    return [state[key] for key in sorted(state)]


def place_of(obj: Object) -> tuple[str, str]:
    """Namespace and name, by which lists are ordered."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
