"""The autoscaling/v1 Scale of an object, and what replicas may be."""

from __future__ import annotations

from labsim.kube import errors
from labsim.kube.errors import cause
from labsim.kube.registry import ServedKind
from labsim.model.objects import Object, dig


def scale_shown(served: ServedKind, obj: Object, *, strict: bool = True) -> Object:
    """The Scale of an object. `strict`: a custom resource without the replicas field has none, which is an error."""
    paths = served.scale
    if paths is None:
        raise errors.not_found(served.kind, obj["metadata"]["name"])
    keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    metadata = {key: obj["metadata"][key] for key in keys if key in obj["metadata"]}
    replicas = dig(obj, *paths.spec_path)
    if replicas is None and served.is_custom and strict:
        problem = f'the spec replicas field ".{".".join(paths.spec_path)}" does not exist'
        details = {"causes": [{"message": problem}]}
        raise errors.ApiError(500, "InternalError", f"Internal error occurred: {problem}", details)
    status: Object = {"replicas": dig(obj, *paths.status_path, default=0)}
    selector = dig(obj, *paths.selector_path, default="") if paths.selector_path else ""
    if not served.is_custom:
        labels = dig(obj, "spec", "selector", "matchLabels", default={})
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    if selector:
        status["selector"] = selector
    spec: Object = {"replicas": replicas} if replicas else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def scale_problems(path: tuple[str, ...], obj: Object) -> list[dict[str, str]]:
    """Whatever its schema says, what can be scaled has no negative number of replicas."""
    replicas = dig(obj, *path)
    if type(replicas) is not int or replicas >= 0:
        return []
    text = f"Invalid value: {replicas}: should be a non-negative integer"
    return [cause("FieldValueInvalid", text, "." + ".".join(path))]
