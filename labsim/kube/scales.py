"""The scale subresource: an autoscaling/v1 Scale made from an object, and a Scale that is written back."""

from __future__ import annotations

from labsim.kube.catalog import Resource
from labsim.kube.column_paths import first_at
from labsim.kube.errors import bad_request
from labsim.model.objects import Object, dig

_COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(resource: Resource, obj: Object) -> Object:
    """The Scale that shows an object's replicas; a Scale itself is passed on."""
    if obj.get("kind") == "Scale":
        return obj
    paths = resource.scale_paths or {}
    metadata = {key: obj["metadata"][key] for key in _COPIED if key in obj["metadata"]}
    spec_replicas = first_at(obj, paths["specReplicasPath"])
    status: Object = {"replicas": first_at(obj, paths["statusReplicasPath"]) or 0}
    selector_path = paths.get("labelSelectorPath")
    selector = first_at(obj, selector_path) if selector_path else None
    if not resource.custom:
        labels = dig(obj, "spec", "selector", "matchLabels", default={})
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    if selector:
        status["selector"] = selector
    spec: Object = {} if not spec_replicas else {"replicas": spec_replicas}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def patch_of_scale(scale: Object) -> Object:
    """The merge patch that writes a Scale which was PUT: its replicas, and the revision that it was read at."""
    replicas = dig(scale, "spec", "replicas", default=0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("spec.replicas of a Scale must be a whole number")
    made: Object = {"spec": {"replicas": replicas}}
    revision = dig(scale, "metadata", "resourceVersion")
    if revision:
        made["metadata"] = {"resourceVersion": revision}
    return made
