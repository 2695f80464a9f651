"""An API server's store as records of a durability log, and back."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from labsim.kube.server import ApiServer
from labsim.kube.store import Revision, Store
from labsim.model.kinds import Kind, kind_named

Record = dict[str, Any]
PRESENT, DELETED = "PRESENT", "DELETED"


class StoreKeeper:
    """The changes of one server's store since they were last taken, in order."""

    def __init__(self, name: str, server: ApiServer) -> None:
        self._server = server
        self._begin = orjson.dumps({"store": name})[:-1] + b',"event":"'
        self._name = name

    def change(self, revision: Revision) -> bytes:
        """The record of one change."""
        return self._record(revision.type, revision)

    def everything(self) -> Iterator[bytes]:
        """The records that make the store as it is; changes before now are not in them."""
        store = self._server.store
        for kind in store.kinds():
            for entry in store.list(kind):
                yield self._record(PRESENT, entry)
        yield orjson.dumps({"store": self._name, "revision": store.revision})

    def _record(self, event: str, revision: Revision) -> bytes:
        return b"".join((self._begin, event.encode(), _kind_text(revision.kind), revision.data, b"}"))


class KeptStore:
    """What the records of one store make: `labsim.kube.server.Kept`."""

    def __init__(self, records: Iterable[Record], life: str) -> None:
        self._records = list(records)
        self.life = life

    def restore(self, store: Store) -> None:
        for record in self._records:
            if "revision" in record:
                store.begin_at(record["revision"])
            else:
                store.restore(_kind(*record["kind"]), record["object"], deleted=record["event"] == DELETED)
        self._records.clear()


_kind = functools.lru_cache(maxsize=1024)(kind_named)


@functools.lru_cache(maxsize=1024)
def _kind_text(kind: Kind) -> bytes:
    coordinates = orjson.dumps([kind.group, kind.version, kind.kind, kind.plural, kind.namespaced])
    return b'","kind":' + coordinates + b',"object":'
