"""A cluster's API server as a world writes to it: every write marked, nothing changed that is not the lab's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from labsim.controllers.runtime.hub import Answered
from labsim.hub.plain.authors import Authors
from labsim.hub.plain.connection import JSON, ClusterConnection
from labsim.hub.plain.in_world_time import InWorldTime, without_server_fields
from labsim.hub.plain.marks import label_of, labs_of, marked
from labsim.hub.plain.mirror import Mirror, typed
from labsim.hub.plain.scope import Scope
from labsim.kube.errors import ApiError, forbidden
from labsim.kube.merging import merge_patched
from labsim.kube.patches import APPLY_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from labsim.kube.store import Revision
from labsim.kube.users import ADMIN
from labsim.kube.writes import AdmissionHook
from labsim.model.kinds import NAMESPACE, Kind
from labsim.model.objects import Object, thaw

Objects = list[Object]
REQUESTS_AT_ONCE = 16
CLOSES_WITHIN_S = 5.0


class Surroundings(Protocol):
    """What the server needs of the world that it belongs to."""

    def post(self, call: Callable[[], Any]) -> Any:
        """Run `call` on the world's thread; any thread."""
        ...

    def act(self, actor: str) -> str:
        """Who causes the writes that are told from now on; returns who did before."""
        ...


class PlainServer:
    """One lab's hub on a cluster. Reads that follow a kind come from the mirror; all others are requests."""

    def __init__(
        self,
        connection: ClusterConnection,
        scope: Scope,
        world: Surroundings,
        time: InWorldTime,
        on_gap: Callable[[Kind], None],
    ) -> None:
        self.connection = connection
        self.scope = scope
        self.admission: list[AdmissionHook] = []
        self.mirror = Mirror(connection, scope, post=world.post, shown=time.shown, on_gap=on_gap)
        self._world = world
        self._time = time
        self._authors = Authors()
        self._told: list[Callable[[Revision], None]] = []
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="hub request")
        self._thread = threading.local()
        self.mirror.subscribe(self._tell)
        self.mirror.follow(NAMESPACE, lambda revision: None)

    # -- following ----------------------------------------------------------------------------------------------------

    def follow(self, kind: Kind, callback: Callable[[Revision], None]) -> Objects:
        return self.mirror.follow(kind, callback)

    def subscribe(self, callback: Callable[[Revision], None]) -> Callable[[], None]:
        self._told.append(callback)
        return lambda: self._told.remove(callback)

    def everything(self) -> Iterator[Object]:
        return self.mirror.everything()

    def _tell(self, revision: Revision) -> None:
        before = self._world.act(self._authors.of(revision))
        try:
            for callback in tuple(self._told):
                callback(revision)
        finally:
            self._world.act(before)

    def carry(self, call: Callable[[], Any], answered: Answered, actor: str) -> None:
        def run() -> None:
            self._thread.actor = actor
            try:
                value, error = call(), None
            except Exception as raised:
                value, error = None, raised
            self._world.post(lambda: answered(value, error))

        self._pool.submit(run)

    def close(self) -> None:
        """End every watch and every request."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.mirror.close()
        self.connection.close()
        self.mirror.join(CLOSES_WITHIN_S)

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.connection.call("GET", kind.path(namespace, name))
        return self._time.shown(found)

    def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[Objects, int]:
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        answer = self.connection.call(
            "GET", kind.path(namespace), query={name: value for name, value in query.items() if value}
        )
        items = [typed(kind, item) for item in answer.get("items") or ()]
        seen = [self._time.shown(item) for item in items if self.scope.sees(kind, item)]
        return seen, int(answer["metadata"]["resourceVersion"])

    # -- writing ------------------------------------------------------------------------------------------------------

    def create(self, obj: Object, kind: Kind, *, manager: str = "") -> Object:
        metadata = obj["metadata"]
        body = marked(without_server_fields(obj), self.scope.lab_id)
        body["metadata"].pop("resourceVersion", None)
        body["metadata"].pop("uid", None)
        self._admit(kind, None, body, "CREATE")
        namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
        if kind == NAMESPACE and not self._exists(kind, name):
            self.scope.add_namespace(name)
        return self._write("POST", kind, namespace, name, body, path=kind.path(namespace), query=_managed(manager))

    def update(self, obj: Object, kind: Kind, *, subresource: str = "", manager: str = "") -> Object:
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        before = self._checked(kind, namespace, name)
        body = without_server_fields(obj)
        if not subresource:
            body = marked(body, self.scope.lab_id)
            self._admit(kind, before, body, "UPDATE")
        return self._write("PUT", kind, namespace, name, body, subresource=subresource, query=_managed(manager))

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Any,
        *,
        patch_type: str,
        subresource: str = "",
        manager: str = "",
        force: bool = False,
    ) -> Object:
        before = self._checked(kind, namespace, name, may_be_new=patch_type == APPLY_PATCH)
        if not subresource and patch_type in (MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH):
            body = marked(body, self.scope.lab_id)
        if not subresource and patch_type == MERGE_PATCH and before is not None and self.admission:
            self._admit(kind, before, merge_patched(thaw(before), thaw(body)), "UPDATE")
        query = _managed(manager or ("labsim" if patch_type == APPLY_PATCH else ""))
        if force:
            query["force"] = "true"
        return self._write(
            "PATCH", kind, namespace, name, body, subresource=subresource, query=query, content_type=patch_type
        )

    def delete(
        self, kind: Kind, namespace: str, name: str, *, options: Mapping[str, Any] | None = None
    ) -> Object | None:
        """None if it is gone now, else the object that waits for its finalizers."""
        self._checked(kind, namespace, name)
        body = {"kind": "DeleteOptions", "apiVersion": "v1", **(options or {})}
        answer = self._write("DELETE", kind, namespace, name, body)
        waits = answer.get("kind") == kind.kind and answer["metadata"].get("deletionTimestamp")
        return answer if waits else None

    def _write(
        self,
        method: str,
        kind: Kind,
        namespace: str,
        name: str,
        body: Any,
        *,
        path: str = "",
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> Object:
        place = (kind, namespace if kind.namespaced else "", name)
        actor = getattr(self._thread, "actor", "lab")
        self._authors.began(place, actor)
        answer: Object = {}
        try:
            answer = self.connection.call(
                method,
                path or kind.path(namespace, name, subresource),
                query=query,
                body=body,
                content_type=content_type,
            )
        finally:
            self._authors.ended(place, actor, answer)
        return self._time.shown(typed(kind, answer)) if "metadata" in answer else answer

    # -- what is the lab's --------------------------------------------------------------------------------------------

    def _checked(self, kind: Kind, namespace: str, name: str, *, may_be_new: bool = False) -> Object | None:
        """What is there before a write; 403 where it is not this lab's to change."""
        found = self.mirror.get(kind, namespace, name) if self.mirror.is_followed(kind) else None
        if found is None:
            try:
                found = self.connection.call("GET", kind.path(namespace, name))
            except ApiError as error:
                if error.code == 404 and may_be_new:
                    return None
                raise
        if not self.scope.owns(kind, found):
            owner = " and ".join(sorted(labs_of(found)))
            whose = f"the lab {owner}" if owner else "somebody else, not to a lab"
            raise forbidden(kind, name, f"it belongs to {whose}")
        return found

    def _exists(self, kind: Kind, name: str) -> bool:
        try:
            self.connection.call("GET", kind.path("", name))
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def share(self, kind: Kind, obj: Object) -> Object:
        """Put this lab's mark beside another's, on something that is there once for all labs of a cluster."""
        body = {"metadata": {"labels": {label_of(self.scope.lab_id): ""}}}
        path = kind.path(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        return self._time.shown(self.connection.call("PATCH", path, body=body, content_type=MERGE_PATCH))

    def _admit(self, kind: Kind, before: Object | None, after: Object, operation: str) -> None:
        """CIM's webhooks, for the writes of this lab: a plain cluster has nobody else to ask."""
        for hook in self.admission:
            hook(kind, before, after, operation, ADMIN)


def _managed(manager: str) -> dict[str, str]:
    return {"fieldManager": manager} if manager else {}
