"""Objects by the value of a field: what keeps a kubelet's list of its own pods from being a walk over everybody's.

A real API server indexes the same field, for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from labsim.model.kinds import POD, Kind
from labsim.model.objects import Object, dig

INDEXED: dict[Kind, str] = {POD: "spec.nodeName"}


def index_text(path: str, obj: Object) -> str:
    """The text that an object is found by."""
    return str(dig(obj, *path.split("."), default=""))


class FieldIndex:
    """The keys of a kind's objects by the text of one field."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._keys: dict[str, set[str]] = {}
        self._values: dict[str, str] = {}

    def keys(self, value: str) -> Sequence[str]:
        """The keys of the objects with this value, in order."""
        return sorted(self._keys.get(value, ()))

    def put(self, key: str, obj: Object) -> None:
        value = index_text(self._path, obj)
        if self._values.get(key) != value:
            self.drop(key)
            self._values[key] = value
            self._keys.setdefault(value, set()).add(key)

    def drop(self, key: str) -> None:
        before = self._values.pop(key, None)
        if before is not None:
            keys = self._keys[before]
            keys.discard(key)
            if not keys:
                del self._keys[before]
