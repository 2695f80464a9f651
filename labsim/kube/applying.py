"""Server-side apply: what a manager wants of an object, merged into it and owned."""

from __future__ import annotations

import functools
from typing import Any

from labsim.kube import deletion, errors, ownership
from labsim.kube.object_identity import checked_apply
from labsim.kube.registry import ServedKind
from labsim.kube.store import Store
from labsim.kube.writes import WriteOptions, WritePath
from labsim.model.objects import Object, dig


def applied(
    store: Store,
    writes: WritePath,
    served: ServedKind,
    namespace: str,
    name: str,
    body: Any,
    subresource: str,
    force: bool,
    options: WriteOptions,
) -> Object:
    """Server-side apply: merge what is wanted, own it, and give up what is not wanted any more."""
    kind = served.kind
    given_namespace = str(dig(body, "metadata", "namespace", default=""))
    body = checked_apply(kind, namespace, name, body)
    deletion.check_apply_fields(served, body, given_namespace)
    body.get("metadata", {}).pop("managedFields", None)
    present = store.get(served.stored, namespace if kind.namespaced else "", name)
    if subresource == "status":
        body = {key: body[key] for key in ("apiVersion", "kind", "metadata", "status") if key in body}
        body["metadata"] = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
    merge = functools.partial(
        ownership.applied,
        body=body,
        shape=served.shape,
        manager=options.manager or "labsim",
        force=force,
        now=writes.now(),
        subresource=subresource,
        reset=("status",) if served.has_status and not subresource else (),
        in_version=served.in_version,
    )
    if present is not None:
        wanted_version = body["metadata"].get("resourceVersion")
        if wanted_version and wanted_version != present.object["metadata"]["resourceVersion"]:
            raise errors.conflict(kind, name)
        return writes.change(
            served, namespace, name, merge, options, subresource=subresource, is_patch=True, is_apply=True
        )
    if subresource:
        raise errors.not_found(kind, name)
    if body["metadata"].get("uid"):
        text = f"uid mismatch: the provided object specified uid {body['metadata']['uid']}, and no existing object "
        raise errors.conflict(kind, name, f"{text}was found")
    body["metadata"].pop("resourceVersion", None)
    return writes.create(served, merge(None), options)
