"""A plain cluster as a lab and its scenarios ask it: reads from the mirror, writes that are seen before they return."""

from __future__ import annotations

from typing import Any

from labsim.controllers.runtime.effects import Unreachable
from labsim.errors import LabError
from labsim.hub.plain.marks import labs_of
from labsim.hub.plain.server import PlainServer
from labsim.kube.errors import ApiError
from labsim.kube.patches import MERGE_PATCH
from labsim.kube.selectors import parse_label_selector
from labsim.model.kinds import Kind
from labsim.model.objects import Object, labels_of, name_of, namespace_of, uid_of

SEEN_WITHIN_S = 10.0  # a watch event follows its write in milliseconds


class PlainClient:
    """The hub of a lab on a cluster, as its user. Calls are made on the world's thread, and block it for a request."""

    def __init__(self, server: PlainServer, manager: str = "labsim") -> None:
        self._server = server
        self._manager = manager

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        if self._server.mirror.is_followed(kind):
            return self._server.mirror.get(kind, namespace, name)
        return self._live(kind, namespace, name)

    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[Object]:
        if not self._server.mirror.is_followed(kind):
            with _reachable():
                return self._server.list(kind, namespace, label_selector=labels)[0]
        matches = parse_label_selector(labels).matches if labels else None
        return [
            obj
            for obj in self._server.mirror.list(kind)
            if (namespace is None or namespace_of(obj) == namespace) and (matches is None or matches(labels_of(obj)))
        ]

    def create(self, obj: Object, kind: Kind) -> Object:
        with _reachable():
            made = self._server.create(obj, kind, manager=self._manager)
        return self._seen(kind, made)

    def ensure(self, obj: Object, kind: Kind) -> Object:
        """Create it, or leave the one that is there; what another lab made for the whole cluster is shared."""
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        present = self._live(kind, namespace, name)
        if present is None:
            return self.create(obj, kind)
        others = labs_of(present) - {self._server.scope.lab_id}
        if not others or self._server.scope.owns(kind, present):
            return present
        if kind.namespaced or kind.group == "":
            raise LabError(
                f"{kind.kind} {'/'.join(part for part in (namespace, name) if part)} on this cluster belongs to the "
                f"lab {' and '.join(sorted(others))}",
                hint="give this lab namespaces and clusters of other names",
            )
        with _reachable():
            return self._seen(kind, self._server.share(kind, present))

    def patch(self, kind: Kind, namespace: str, name: str, body: Any, *, subresource: str = "") -> Object:
        with _reachable():
            stored = self._server.patch(
                kind, namespace, name, body, patch_type=MERGE_PATCH, subresource=subresource, manager=self._manager
            )
        return stored if subresource == "scale" else self._seen(kind, stored)

    def delete(self, kind: Kind, namespace: str, name: str) -> bool:
        try:
            with _reachable():
                waiting = self._server.delete(kind, namespace, name, options={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        if waiting is not None:
            self._seen(kind, waiting)
        elif self._server.mirror.is_followed(kind):
            mirror = self._server.mirror
            mirror.wait_for(lambda: mirror.get(kind, namespace, name) is None, SEEN_WITHIN_S)
        return True

    def _live(self, kind: Kind, namespace: str, name: str) -> Object | None:
        try:
            with _reachable():
                return self._server.get(kind, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def _seen(self, kind: Kind, written: Object) -> Object:
        """Wait until the mirror has what was written, so that whoever reads next sees it."""
        mirror = self._server.mirror
        if not mirror.is_followed(kind):
            return written
        namespace, name, version = namespace_of(written), name_of(written), int(written["metadata"]["resourceVersion"])

        def is_seen() -> bool:
            found = mirror.get(kind, namespace, name)
            return found is None or (
                uid_of(found) != uid_of(written) or int(found["metadata"]["resourceVersion"]) >= version
            )

        def has_come() -> bool:
            return mirror.get(kind, namespace, name) is not None and is_seen()

        mirror.wait_for(has_come, SEEN_WITHIN_S)
        return written


class _reachable:  # noqa: N801  (reads as a statement)
    """A block in which a cluster that does not answer ends the lab, with a hint."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Unreachable):
            raise LabError(f"the hub does not answer: {error}", hint="is the cluster up?") from error
