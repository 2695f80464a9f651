"""Owner references, and whether something is paused: small rules that every controller of Cluster API shares."""

from __future__ import annotations

from labsim.controllers.capi.names import PAUSED_ANNOTATION
from labsim.model.objects import Object, annotations_of, dig, owner_reference, uid_of


def controller_of(obj: Object) -> Object | None:
    """The owner reference whose `controller` is true."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Object = reference
            return found
    return None


def is_owned_by(obj: Object, owner: Object) -> bool:
    return any(reference["uid"] == uid_of(owner) for reference in obj["metadata"].get("ownerReferences") or ())


def group_of(api_version: str) -> str:
    return api_version.partition("/")[0] if "/" in api_version else ""


def own(obj: Object, owner: Object, *, controller: bool = False) -> None:
    """Make sure of the owner reference; `obj` must be changeable."""
    wanted = owner_reference(owner, controller=controller)
    references = obj["metadata"].setdefault("ownerReferences", [])
    for number, present in enumerate(references):
        if present["uid"] == wanted["uid"]:
            references[number] = {**present, **wanted}
            return
    references.append(wanted)


def is_paused(cluster: Object | None, obj: Object) -> bool:
    """Paused by the Cluster, or by the annotation, whose mere presence counts."""
    return bool(dig(cluster, "spec", "paused")) or PAUSED_ANNOTATION in annotations_of(obj)
