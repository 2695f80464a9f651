"""Reading and building Kubernetes objects, which stay plain JSON trees: a server keeps fields that it does not know.

Objects that come from a cache are shared and must not be changed: `thaw` gives a copy to change.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from labsim.model.kinds import Kind

Object = dict[str, Any]  # a JSON tree; Any because a server must carry fields that it does not know


def new(kind: Kind, namespace: str | None, name: str, **fields: Any) -> Object:
    """A new object with kind, apiVersion and metadata; `fields` are top-level (spec, data, ...)."""
    metadata: Object = {"name": name}
    if namespace and kind.namespaced:
        metadata["namespace"] = namespace
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}


def thaw(obj: Object) -> Object:
    """A copy that may be changed."""
    result: Object = orjson.loads(orjson.dumps(obj))
    return result


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def namespace_of(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", ""))


def uid_of(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def finalizers_of(obj: Object) -> list[str]:
    return obj["metadata"].get("finalizers") or []


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def dig(obj: Any, *path: str, default: Any = None) -> Any:
    """The value at a path of keys, or `default` where any step is absent or null."""
    for key in path:
        if type(obj) is not dict and not isinstance(obj, Mapping):
            return default
        obj = obj.get(key)
        if obj is None:
            return default
    return obj


def condition_of(obj: Object, kind: str) -> Object | None:
    """The entry of `status.conditions` whose type is `kind`."""
    status = obj.get("status")
    for entry in (status.get("conditions") if status else None) or ():
        if entry.get("type") == kind:
            result: Object = entry
            return result
    return None


def condition_status(obj: Object, kind: str) -> str:
    """ "True", "False", "Unknown", or "" where the condition is absent."""
    entry = condition_of(obj, kind)
    return "" if entry is None else str(entry.get("status", ""))


def owner_reference(owner: Object, *, controller: bool = False, block: bool = False) -> Object:
    """An ownerReferences entry that points to `owner` (which must have a uid)."""
    reference: Object = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
    }
    if controller:
        reference["controller"] = True
    if block or controller:
        reference["blockOwnerDeletion"] = True
    return reference


def owner_named(obj: Object, kind: str) -> Object | None:
    """The first ownerReferences entry of a kind."""
    references: Iterable[Object] = obj["metadata"].get("ownerReferences") or ()
    return next((entry for entry in references if entry.get("kind") == kind), None)


def timestamp(epoch_s: float) -> str:
    """Kubernetes' form of a time: UTC, whole seconds, `2026-01-02T03:04:05Z`."""
    return _second_text(int(epoch_s))


@functools.lru_cache(maxsize=512)
def _second_text(epoch_s: int) -> str:
    return datetime.datetime.fromtimestamp(epoch_s, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.lru_cache(maxsize=4096)
def parse_timestamp(text: str) -> float:
    """The epoch seconds of an RFC 3339 time (with or without fraction)."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
