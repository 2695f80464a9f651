"""The garbage collector: dependents of absent owners go; foreground and orphan deletion are carried out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence

from labsim.controllers.kube.graph import FOREGROUND, ORPHAN, Item, OwnerGraph
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Enqueue,
    Key,
    Program,
    ReconcileError,
    Result,
    Watch,
    Write,
    get,
    patch,
)
from labsim.controllers.runtime.sieves import owners_changed
from labsim.kube.errors import ApiError
from labsim.model import kinds
from labsim.model.kinds import ALL_KINDS, Kind
from labsim.model.objects import Object, dig, finalizers_of, is_deleting, uid_of

# Kinds that a hub does not serve, or that upstream's collector leaves out.
_NOT_ON_HUB = (kinds.CLUSTER_OPERATOR, kinds.CLUSTER_VERSION, kinds.EVENT)
HUB_KINDS = tuple(kind for kind in ALL_KINDS if kind not in _NOT_ON_HUB)
HOSTED_KINDS = (kinds.NODE, kinds.DAEMON_SET, kinds.DEPLOYMENT, kinds.STATEFUL_SET, kinds.POD)

_BY_QUALIFIED = {kind.qualified: kind for kind in ALL_KINDS}
_BY_GROUP = {(kind.group, kind.kind): kind for kind in ALL_KINDS}
_ADMIN_KUBECONFIG = "admin-kubeconfig"
WORKERS = 20


class GarbageCollector:
    """Collects in one cluster: the hub, or with `hosted` in every hosted cluster, each with its own graph."""

    def __init__(self, kinds_followed: Sequence[Kind], *, hosted: bool = False) -> None:
        self._kinds = kinds_followed
        self._hosted = hosted
        self._name = "hosted-garbage-collector" if hosted else "garbage-collector"
        self._graphs: dict[str, OwnerGraph] = {}
        self._woken: list[Key] = []

    def controller(self) -> Controller:
        watches = [
            Watch(kind, self._take_woken, hosted=self._hosted, when=self._observer(kind), sieve=owners_changed)
            for kind in self._kinds
        ]
        if self._hosted:
            watches.append(Watch(kinds.SECRET, None))
        return Controller(self._name, self.reconcile, tuple(watches), WORKERS)

    def _observer(self, kind: Kind) -> Callable[..., bool]:
        def observe(before: Object | None, after: Object | None, owner: str = "") -> bool:
            self._woken = self.graph(owner).observe(kind, before, after)
            return bool(self._woken)

        return observe

    def _take_woken(self, obj: Object, owner: str = "") -> Iterable[Key]:
        woken, self._woken = self._woken, []
        return dict.fromkeys(woken)

    def graph(self, cluster: str) -> OwnerGraph:
        if cluster not in self._graphs:
            self._graphs[cluster] = OwnerGraph(cluster)
        return self._graphs[cluster]

    def reconcile(self, key: Key) -> Program[Result]:
        qualified, namespace, name = key.name.split("/", 2)
        kind = _BY_QUALIFIED[qualified]
        kubeconfig = (yield from _kubeconfig(key.namespace)) if self._hosted else None
        if self._hosted and kubeconfig is None:
            return DONE
        obj = yield from get(kind, namespace, name, live=True, at=kubeconfig)
        if obj is None:
            return DONE
        work = _Collection(self.graph(key.namespace), kind, obj, kubeconfig)
        woken = yield from work.run()
        for item in woken:
            if item.key(key.namespace) != key:
                yield Enqueue(self._name, item.key(key.namespace))
        return DONE


class _Collection:
    """One look at one object."""

    def __init__(self, graph: OwnerGraph, kind: Kind, obj: Object, kubeconfig: str | None) -> None:
        self._graph = graph
        self._kind = kind
        self._object = obj
        self._at = kubeconfig
        self._namespace = obj["metadata"].get("namespace", "")
        self._name = obj["metadata"]["name"]

    def run(self) -> Program[list[Item]]:
        """Do what has to be done; returns dependents that have to be looked at next."""
        finalizers = finalizers_of(self._object)
        if is_deleting(self._object):
            if ORPHAN in finalizers:
                yield from self._orphan_dependents()
            elif FOREGROUND in finalizers:
                return (yield from self._delete_in_foreground())
            return []
        yield from self._check_owners()
        return []

    def _orphan_dependents(self) -> Program[None]:
        for dependent in self._graph.dependents(uid_of(self._object)):
            found = yield from get(dependent.kind, dependent.namespace, dependent.name, live=True, at=self._at)
            if found is not None:
                yield from _drop_owners(dependent.kind, found, {uid_of(self._object)}, self._at)
        yield from self._drop_finalizer(ORPHAN)

    def _delete_in_foreground(self) -> Program[list[Item]]:
        blocking = self._graph.blocking(uid_of(self._object))
        if not blocking:
            yield from self._drop_finalizer(FOREGROUND)
            return []
        return [item for item in blocking if not item.deleting]

    def _drop_finalizer(self, finalizer: str) -> Program[None]:
        kept = [entry for entry in finalizers_of(self._object) if entry != finalizer]
        body = {
            "metadata": {"finalizers": kept, "resourceVersion": self._object["metadata"]["resourceVersion"]},
        }
        try:
            yield from patch(self._kind, self._namespace, self._name, body, at=self._at)
        except ApiError as error:
            if error.code != 404:
                raise

    def _check_owners(self) -> Program[None]:
        references = self._object["metadata"].get("ownerReferences") or []
        solid, waiting, dangling = [], [], []
        for reference in references:
            owner = yield from self._owner(reference)
            if owner is None:
                dangling.append(reference["uid"])
            elif is_deleting(owner) and FOREGROUND in finalizers_of(owner) and reference.get("blockOwnerDeletion"):
                waiting.append(reference["uid"])
            else:
                solid.append(reference["uid"])
        if solid and not waiting and not dangling:
            return
        if solid:
            yield from _drop_owners(self._kind, self._object, {*waiting, *dangling}, self._at)
        elif waiting and any(True for _ in self._graph.dependents(uid_of(self._object))):
            yield from self._delete("Foreground")
        elif references:
            yield from self._delete(_policy(self._object))

    def _owner(self, reference: Object) -> Program[Object | None]:
        """The owner that a reference means; None where it is gone, or has come again as another object."""
        group = reference["apiVersion"].partition("/")[0] if "/" in reference["apiVersion"] else ""
        kind = _BY_GROUP.get((group, reference["kind"]))
        if kind is None:
            raise ReconcileError(f"no matches for kind {reference['kind']} in version {reference['apiVersion']}")
        namespace = self._namespace if kind.namespaced else ""
        owner = yield from get(kind, namespace, reference["name"], live=True, at=self._at)
        return owner if owner is not None and uid_of(owner) == reference["uid"] else None

    def _delete(self, policy: str) -> Program[None]:
        options = {"propagationPolicy": policy, "preconditions": {"uid": uid_of(self._object)}}
        try:
            yield Write("delete", self._kind, self._namespace, self._name, options, at=self._at)
        except ApiError as error:
            if error.code not in (404, 409):
                raise


def _policy(obj: Object) -> str:
    if ORPHAN in finalizers_of(obj):
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers_of(obj) else "Background"


def _drop_owners(kind: Kind, obj: Object, uids: set[str], at: str | None) -> Program[None]:
    """Take owners out of an object's references, at the revision that was read."""
    metadata = obj["metadata"]
    kept = [entry for entry in metadata.get("ownerReferences") or () if entry["uid"] not in uids]
    body = {"metadata": {"ownerReferences": kept, "resourceVersion": metadata["resourceVersion"]}}
    try:
        yield from patch(kind, metadata.get("namespace", ""), metadata["name"], body, at=at)
    except ApiError as error:
        if error.code != 404:
            raise


def _kubeconfig(cluster: str) -> Program[str | None]:
    """How to reach a hosted cluster; None once its control plane's Secret is gone."""
    secret = yield from get(kinds.SECRET, cluster.partition("/")[0], _ADMIN_KUBECONFIG)
    encoded = dig(secret, "data", "kubeconfig")
    return base64.b64decode(encoded).decode() if encoded else None
