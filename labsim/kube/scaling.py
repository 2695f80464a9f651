"""Writing the scale subresource: the replicas of an object, by an autoscaling/v1 Scale."""

from __future__ import annotations

from labsim.kube import errors
from labsim.kube.errors import bad_request, cause
from labsim.kube.registry import ServedKind
from labsim.kube.scales import scale_shown
from labsim.kube.writes import WriteOptions, WritePath
from labsim.model.objects import Object, dig, thaw


def scaled(
    writes: WritePath, served: ServedKind, namespace: str, name: str, scale: Object, options: WriteOptions
) -> Object:
    """Write the replicas of a Scale into its object."""
    if served.scale is None:
        raise errors.not_found(served.kind, name)
    path = served.scale.spec_path
    replicas = dig(scale, "spec", "replicas", default=0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("spec.replicas of a Scale must be a whole number")
    problems = []
    if replicas < 0:
        text = f"Invalid value: {replicas}: should be a non-negative integer"
        problems.append(cause("FieldValueInvalid", text, "." + ".".join(path)))
    given = scale.get("metadata") or {}

    def change(old: Object) -> Object:
        new = thaw(old)
        node = new
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = replicas
        for field in ("name", "namespace", "resourceVersion", "uid"):
            if given.get(field):
                new["metadata"][field] = given[field]
        return new

    try:
        changed = writes.change(served, namespace, name, change, options, subresource="scale")
    except errors.ApiError as refused:
        if not problems or refused.code != 422:
            raise
        problems += [found for found in refused.details.get("causes", ()) if found not in problems]
        raise errors.invalid(served.kind, name, problems) from refused
    return scale_shown(served, changed)
