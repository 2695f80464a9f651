"""What the creator of a built-in object owns of it: what it said, not what the server adds in nobody's name."""

from __future__ import annotations

from labsim.kube.builtin import EVENT_BLANKS, NODE_STATUS_BLANKS
from labsim.model.objects import Object

# What a typed server starts from: parts that every object of a built-in kind has, so that nobody owns them as such.
_BLANK: Object = {"spec": {}, "status": {}}
_BLANKS: dict[str, Object] = {
    "Pod": {"spec": {"containers": None}, "status": {}},
    "Deployment": {"spec": {"template": {"metadata": {}, "spec": {"containers": None}}, "strategy": {}}, "status": {}},
    "StatefulSet": {
        "spec": {"template": {"metadata": {}, "spec": {"containers": None}}, "updateStrategy": {}},
        "status": {},
    },
    "DaemonSet": {
        "spec": {"template": {"metadata": {}, "spec": {"containers": None}}, "updateStrategy": {}},
        "status": {},
    },
    "ReplicaSet": {"spec": {"template": {"metadata": {}, "spec": {"containers": None}}}, "status": {}},
    "CustomResourceDefinition": {"spec": {"names": {}}, "status": {}},
    "PersistentVolumeClaim": {"spec": {"resources": {}}, "status": {}},
    "Role": {"rules": None},
    "ClusterRole": {"rules": None},
    "Event": {"involvedObject": {}, **EVENT_BLANKS},
    "Node": {"spec": {}, "status": NODE_STATUS_BLANKS},
}
# What admission and allocation add belongs to nobody.
_NOT_THE_CREATORS = {
    "Pod": ("priority", "preemptionPolicy", "tolerations"),
    "Service": ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"),
    "Namespace": ("finalizers",),
    "Node": ("taints",),
}


def creators_part(kind: str, said: Object, new: Object) -> Object:
    """A new object of a built-in kind, without what its creator has not said and only the server adds."""
    part = new if kind == "Node" else {key: value for key, value in new.items() if key != "status"}
    added = _NOT_THE_CREATORS.get(kind)
    if added is not None:
        given = said.get("spec") or {}
        spec = {key: value for key, value in part["spec"].items() if key not in added or key in given}
        part = {**part, "spec": spec}
    return part


def starting_point(kind: str) -> Object:
    """The parts of a kind that nobody owns as such."""
    return _BLANKS.get(kind, _BLANK)
