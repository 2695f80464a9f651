"""The pvc-protection controller: a claim that is deleted goes when no scheduled pod uses it any more.

The finalizer is put on by the API server's admission (StorageObjectInUseProtection), where it has one.
"""

from __future__ import annotations

from collections.abc import Iterator

from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, get, list_all, patch
from labsim.kube.errors import ApiError
from labsim.model.kinds import PERSISTENT_VOLUME_CLAIM, POD
from labsim.model.objects import Object, dig, finalizers_of, is_deleting, namespace_of

FINALIZER = "kubernetes.io/pvc-protection"


def claim_protection() -> Controller:
    return Controller(
        "pvc-protection", _reconcile, (Watch(PERSISTENT_VOLUME_CLAIM, when=_goes), Watch(POD, _claims_of, when=_ends))
    )


def _reconcile(key: Key) -> Program[Result]:
    claim = yield from get(PERSISTENT_VOLUME_CLAIM, key.namespace, key.name)
    if claim is None or not is_deleting(claim) or FINALIZER not in finalizers_of(claim):
        return DONE
    for pod in (yield from list_all(POD, key.namespace, live=True)):
        if dig(pod, "spec", "nodeName") and key in _claims_of(pod):
            return DONE  # its deletion wakes this key again
    kept = [entry for entry in finalizers_of(claim) if entry != FINALIZER]
    body = {"metadata": {"finalizers": kept, "resourceVersion": claim["metadata"]["resourceVersion"]}}
    try:
        yield from patch(PERSISTENT_VOLUME_CLAIM, key.namespace, key.name, body)
    except ApiError as error:
        if error.code != 404:
            raise
    return DONE


def _claims_of(pod: Object) -> Iterator[Key]:
    for volume in dig(pod, "spec", "volumes", default=()):
        name = dig(volume, "persistentVolumeClaim", "claimName")
        if name:
            yield Key(namespace_of(pod), str(name))


def _goes(before: Object | None, after: Object | None) -> bool:
    del before
    return after is not None and is_deleting(after) and FINALIZER in finalizers_of(after)


def _ends(before: Object | None, after: Object | None) -> bool:
    del before
    return after is None
