"""How the registries of upstream differ from kind to kind, where clients can see it."""

from __future__ import annotations

import dataclasses

from labsim.model.kinds import Kind


@dataclasses.dataclass(frozen=True, slots=True)
class Traits:
    """What is special about a kind.

    made_by_put: a PUT makes an object that is not there. needs_version: an update must say of which resourceVersion.
    shown_when_deleted: a DELETE answers with the object rather than with a Status. metadata_checks: how often an update
    looks at labels, annotations and owners, each time telling what is wrong. finalizer_checks: the same for finalizers.
    known_finalizers: a finalizer without a domain must be one of the well-known ones. registry: its keys in etcd.
    """

    registry: str = ""
    made_by_put: bool = False
    needs_version: bool = False
    shown_when_deleted: bool = False
    metadata_checks: int = 4
    finalizer_checks: int = 2
    known_finalizers: bool = True

    def storage_key(self, kind: Kind, namespace: str, name: str) -> str:
        """Where etcd would keep an object; errors of the storage name it."""
        place = self.registry or (f"{kind.group}/{kind.plural}" if self is CUSTOM else kind.plural)
        return "/registry/" + "/".join(part for part in (place, namespace, name) if part)


CUSTOM = Traits(needs_version=True, metadata_checks=3, finalizer_checks=1, known_finalizers=False)
_ROLE = Traits(made_by_put=True)
_WORKLOAD = Traits(metadata_checks=3, finalizer_checks=1)
_SHOWN = Traits(shown_when_deleted=True)
_TRAITS: dict[str, Traits] = {
    "Namespace": _SHOWN,
    "Pod": _SHOWN,
    "PersistentVolume": _SHOWN,
    "PersistentVolumeClaim": _SHOWN,
    "ServiceAccount": _SHOWN,
    "StorageClass": _SHOWN,
    "Service": Traits("services/specs", True, False, True, 3, 1),
    "Node": Traits("minions"),
    "Event": Traits(made_by_put=True, metadata_checks=2, finalizer_checks=1, known_finalizers=False),
    "Lease": Traits("", True, True, False, 3, 1, False),
    "CustomResourceDefinition": Traits(
        "apiextensions.k8s.io/customresourcedefinitions", False, True, False, 3, 1, False
    ),
    "Role": _ROLE,
    "RoleBinding": _ROLE,
    "ClusterRole": _ROLE,
    "ClusterRoleBinding": _ROLE,
    "Deployment": _WORKLOAD,
    "ReplicaSet": _WORKLOAD,
    "StatefulSet": _WORKLOAD,
    "DaemonSet": _WORKLOAD,
}
_ORDINARY = Traits()


def traits_of(kind: Kind) -> Traits:
    """The traits of a built-in kind."""
    return _TRAITS.get(kind.kind, _ORDINARY)
