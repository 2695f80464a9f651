"""What of a shared cluster belongs to a lab: what carries its mark, and what lies in its namespaces."""

from __future__ import annotations

from labsim.hub.plain.marks import labs_of
from labsim.model.kinds import NAMESPACE, STORAGE_CLASS, Kind
from labsim.model.objects import Object


class Scope:
    """The sight of one lab. Its namespaces are known before anything can be made in them."""

    def __init__(self, lab_id: str) -> None:
        self.lab_id = lab_id
        self._namespaces: set[str] = set()

    def sees(self, kind: Kind, obj: Object) -> bool:
        """Whether a lab's components are shown an object: its own, and the storage that the cluster offers."""
        return kind == STORAGE_CLASS or self.owns(kind, obj)

    def owns(self, kind: Kind, obj: Object) -> bool:
        """Whether an object is the lab's to change."""
        labs = labs_of(obj)
        if labs:
            return self.lab_id in labs
        return kind.namespaced and obj["metadata"].get("namespace", "") in self._namespaces

    def add_namespace(self, name: str) -> None:
        self._namespaces.add(name)

    def saw(self, kind: Kind, obj: Object, *, gone: bool) -> None:
        """Keep up with the lab's namespaces."""
        if kind != NAMESPACE:
            return
        if gone:
            self._namespaces.discard(obj["metadata"]["name"])
        elif self.lab_id in labs_of(obj):
            self._namespaces.add(obj["metadata"]["name"])
