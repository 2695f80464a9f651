"""What a lab and its scenarios ask of a hub, whatever hub it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from labsim.controllers.runtime.hub import RemoteHub
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.kube.writes import AdmissionHook
from labsim.model.kinds import Kind
from labsim.model.objects import Object

if TYPE_CHECKING:
    from labsim.world.world import World


class HubClient(Protocol):
    """A Kubernetes API, as one user of it. Objects that are returned must not be changed."""

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None: ...
    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[Object]: ...
    def create(self, obj: Object, kind: Kind) -> Object: ...
    def ensure(self, obj: Object, kind: Kind) -> Object:
        """Create the object, or leave the one that is there."""
        ...

    def patch(self, kind: Kind, namespace: str, name: str, body: Any, *, subresource: str = "") -> Object: ...
    def delete(self, kind: Kind, namespace: str, name: str) -> bool: ...


class DirectClient:
    """A hub whose API server lives in this process; calls are made on the world's thread."""

    def __init__(self, server: ApiServer, manager: str = "labsim") -> None:
        self._server = server
        self._manager = manager

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        try:
            return self._server.get(kind, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[Object]:
        objects, _ = self._server.list(kind, namespace, label_selector=labels)
        return objects

    def create(self, obj: Object, kind: Kind) -> Object:
        return self._server.create(obj, kind, manager=self._manager)

    def ensure(self, obj: Object, kind: Kind) -> Object:
        metadata = obj["metadata"]
        present = self.get(kind, metadata.get("namespace", ""), metadata["name"])
        return present if present is not None else self.create(obj, kind)

    def patch(self, kind: Kind, namespace: str, name: str, body: Any, *, subresource: str = "") -> Object:
        return self._server.patch(
            kind,
            namespace,
            name,
            body,
            patch_type="application/merge-patch+json",
            subresource=subresource,
            manager=self._manager,
        )

    def delete(self, kind: Kind, namespace: str, name: str) -> bool:
        try:
            self._server.delete(kind, namespace, name, options={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True


class OutsideHub(Protocol):
    """A hub outside the process, before and after a lab's world is connected to it."""

    runs_kube_controllers: bool  # it collects garbage and ends namespaces itself

    def connect(self, world: World) -> RemoteHub: ...

    def client(self) -> HubClient:
        """After `connect`: the hub as the lab asks it."""
        ...

    def admit(self, hooks: Sequence[AdmissionHook]) -> None:
        """After `connect`: what the lab's writes have to pass, as webhooks would."""
        ...

    def image_authorities(self) -> str:
        """What vouches for the image service that somebody runs on this hub (PEM), beside the system's authorities.
        By any thread."""
        ...
