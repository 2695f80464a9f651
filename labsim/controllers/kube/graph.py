"""Who owns whom: the garbage collector's graph, kept up to date by watches, with an index from owner to dependents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from labsim.controllers.runtime.effects import Key
from labsim.model.kinds import Kind
from labsim.model.objects import Object, finalizers_of, is_deleting, name_of, namespace_of, uid_of

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """One owner reference, as far as collecting goes."""

    uid: str
    blocks: bool  # the owner's foreground deletion waits for this dependent


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One object of the graph."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    owners: tuple[Owner, ...]
    deleting: bool
    waits: bool  # deleted in the foreground, or orphaning its dependents

    def key(self, cluster: str) -> Key:
        """`cluster` is "" for the hub, else the owner of a hosted cluster."""
        return Key(cluster, f"{self.kind.qualified}/{self.namespace}/{self.name}")


def item_of(kind: Kind, obj: Object) -> Item:
    owners = tuple(
        Owner(reference["uid"], bool(reference.get("blockOwnerDeletion")))
        for reference in obj["metadata"].get("ownerReferences") or ()
    )
    deleting = is_deleting(obj)
    waits = deleting and any(entry in (FOREGROUND, ORPHAN) for entry in finalizers_of(obj))
    return Item(kind, namespace_of(obj), name_of(obj), uid_of(obj), owners, deleting, waits)


class OwnerGraph:
    """The objects of one cluster by uid, and the dependents of each owner."""

    def __init__(self, cluster: str = "") -> None:
        self._cluster = cluster
        self._items: dict[str, Item] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def item(self, uid: str) -> Item | None:
        return self._items.get(uid)

    def dependents(self, uid: str) -> Iterator[Item]:
        """Objects that name this owner, in the order in which they were seen."""
        for dependent in list(self._dependents.get(uid, ())):
            item = self._items.get(dependent)
            if item is not None:
                yield item

    def blocking(self, uid: str) -> list[Item]:
        """Dependents that the owner's foreground deletion has to wait for."""
        return [
            item for item in self.dependents(uid) if any(owner.uid == uid and owner.blocks for owner in item.owners)
        ]

    def observe(self, kind: Kind, before: Object | None, after: Object | None) -> list[Key]:
        """Take in an event; returns what has to be looked at because of it."""
        if after is None:
            assert before is not None
            return self._removed(uid_of(before))
        new = item_of(kind, after)
        old = self._items.get(new.uid)
        if old == new:
            return []
        woken = [] if old is not None or before is None else self._removed(uid_of(before))
        self._items[new.uid] = new
        self._link(new, () if old is None else old.owners)
        owners_changed = bool(new.owners) and (old is None or old.owners != new.owners)
        if new.waits or (owners_changed and self._is_doubtful(new, old)):
            woken.append(new.key(self._cluster))
        if old is not None:
            woken += self._waiting_owners(old)
        return woken

    def _link(self, item: Item, former: Iterable[Owner]) -> None:
        for owner in former:
            if owner not in item.owners:
                self._dependents.get(owner.uid, {}).pop(item.uid, None)
        for owner in item.owners:
            self._dependents.setdefault(owner.uid, {})[item.uid] = None

    def _is_doubtful(self, item: Item, old: Item | None) -> bool:
        """An owner that has not been seen, or that goes: the references have to be looked up."""
        if old is not None and len(item.owners) < len(old.owners):
            return True
        for owner in item.owners:
            known = self._items.get(owner.uid)
            if known is None or known.waits:
                return True
        return False

    def _removed(self, uid: str) -> list[Key]:
        item = self._items.pop(uid, None)
        if item is None:
            return []
        for owner in item.owners:
            siblings = self._dependents.get(owner.uid, {})
            siblings.pop(uid, None)
            if not siblings:
                self._dependents.pop(owner.uid, None)
        woken = [dependent.key(self._cluster) for dependent in self.dependents(uid)]
        return woken + self._waiting_owners(item)

    def _waiting_owners(self, item: Item) -> list[Key]:
        owners = (self._items.get(owner.uid) for owner in item.owners)
        return [owner.key(self._cluster) for owner in owners if owner is not None and owner.waits]
