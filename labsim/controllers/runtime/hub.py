"""What programs write to: the hub's API server, in this process or far away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from labsim.kube.store import Revision
from labsim.model.kinds import Kind
from labsim.model.objects import Object

Objects = list[Object]
Answered = Callable[[Any, BaseException | None], None]  # hears a result, or what was raised


class HubServer(Protocol):
    """The part of an API server that a world needs; `labsim.kube.server.ApiServer` is one.

    Objects that are returned are shared and must not be changed. Refusals are ApiError.
    """

    def get(self, kind: Kind, namespace: str, name: str) -> Object: ...

    def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[Objects, int]: ...

    def create(self, obj: Object, kind: Kind, *, manager: str = "") -> Object: ...
    def update(self, obj: Object, kind: Kind, *, subresource: str = "", manager: str = "") -> Object: ...

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
    ) -> Object: ...

    def delete(
        self, kind: Kind, namespace: str, name: str, *, options: Mapping[str, Any] | None = None
    ) -> Object | None: ...

    def follow(self, kind: Kind, callback: Callable[[Revision], None]) -> Objects:
        """What there is of a kind now; `callback` hears every later change, on the world's thread, in order."""
        ...

    def subscribe(self, callback: Callable[[Revision], None]) -> Callable[[], None]:
        """Hear every change of every kind that is followed; returns what ends it."""
        ...

    def everything(self) -> Iterator[Object]:
        """Every object of the kinds that are followed."""
        ...


class RemoteHub(HubServer, Protocol):
    """A hub outside the process: a request takes real time, so it is carried out beside the world's thread."""

    def carry(self, call: Callable[[], Any], answered: Answered, actor: str) -> None:
        """Run `call` on another thread for `actor`; `answered` hears on the world's thread how it ended."""
        ...
