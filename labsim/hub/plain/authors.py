"""Who made a change that a watch tells of: the lab's own components are known by the answers to their writes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from labsim.kube.store import Revision
from labsim.model.kinds import Kind
from labsim.model.objects import Object

Place = tuple[Kind, str, str]
OUTSIDE = "outside"
LAST = "last"  # in place of a version
REMEMBERED = 10_000


class Authors:
    """Remembers the versions that answers told, and which writes are still under way; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_version: OrderedDict[tuple[Place, str], str] = OrderedDict()
        self._under_way: dict[Place, list[str]] = {}

    def began(self, place: Place, actor: str) -> None:
        with self._lock:
            self._under_way.setdefault(place, []).append(actor)

    def ended(self, place: Place, actor: str, answer: Object) -> None:
        metadata = answer.get("metadata") or {}
        with self._lock:
            writers = self._under_way[place]
            writers.remove(actor)
            if not writers:
                del self._under_way[place]
            # A deletion's answer tells no version: whoever wrote last to what is gone has made it go.
            named = (place[0], place[1], str(metadata.get("name", place[2])))
            for version in (str(metadata.get("resourceVersion", "")), LAST):
                if version and answer:
                    self._by_version[named, version] = actor
                    self._by_version.move_to_end((named, version))
            while len(self._by_version) > REMEMBERED:
                self._by_version.popitem(last=False)

    def of(self, revision: Revision) -> str:
        """The actor of a change: by its version, or whoever is writing to that object just now."""
        place = (revision.kind, revision.namespace, revision.name)
        with self._lock:
            known = self._by_version.pop((place, str(revision.revision)), None)
            if known is not None:
                return known
            writers = self._under_way.get(place)
            if writers:
                return writers[0]
            return self._by_version.pop((place, LAST), OUTSIDE) if revision.type == "DELETED" else OUTSIDE
