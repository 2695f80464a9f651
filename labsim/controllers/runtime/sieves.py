"""What a watch lets through: whether an object has changed in a part that a controller looks at."""

from __future__ import annotations

from labsim.model.objects import Object, condition_of

# What somebody can want with an object's metadata; the rest is the server's book-keeping.
_METADATA = ("labels", "annotations", "ownerReferences", "finalizers", "deletionTimestamp")


def metadata_changed(before: Object, after: Object) -> bool:
    """Whether labels, annotations, owners, finalizers or the deletion time have changed."""
    old, new = before["metadata"], after["metadata"]
    return any(old.get(field) != new.get(field) for field in _METADATA)


def owners_changed(before: Object, after: Object) -> bool:
    """Whether owners, finalizers or the deletion time have changed: what garbage collection looks at."""
    old, new = before["metadata"], after["metadata"]
    return bool(
        old.get("finalizers") != new.get("finalizers")
        or old.get("ownerReferences") != new.get("ownerReferences")
        or old.get("deletionTimestamp") != new.get("deletionTimestamp")
    )


def conditions_changed(before: Object, after: Object, *kinds: str) -> bool:
    """Whether one of these conditions has changed."""
    return before.get("status") is not after.get("status") and any(
        condition_of(before, kind) != condition_of(after, kind) for kind in kinds
    )
