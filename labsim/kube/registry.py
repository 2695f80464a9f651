"""Which kinds an API server serves, and how each behaves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from labsim.kube.schema import StructuralSchema
from labsim.model.kinds import ALL_KINDS, Kind
from labsim.model.objects import Object

# Built-in kinds whose metadata.generation is never set, and those without a status subresource.
NO_GENERATION = frozenset(
    "ConfigMap Secret Namespace Node Lease Event Service ServiceAccount PersistentVolumeClaim Role RoleBinding "
    "ClusterRole ClusterRoleBinding StorageClass CertificateSigningRequest".split()
)
NO_STATUS = frozenset(
    "ConfigMap Secret Lease Event ServiceAccount Role RoleBinding ClusterRole ClusterRoleBinding StorageClass".split()
)
BUILT_IN_GROUPS = frozenset(
    {
        "",
        "apps",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "coordination.k8s.io",
        "certificates.k8s.io",
        "apiextensions.k8s.io",
    }
)
SCALABLE = frozenset({"Deployment", "StatefulSet"})


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """Where a scale subresource reads and writes: paths below the object, as in a CRD."""

    spec_path: tuple[str, ...] = ("spec", "replicas")
    status_path: tuple[str, ...] = ("status", "replicas")
    selector_path: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServedKind:
    """One served version of a kind. `stored` is the version that its objects are kept in."""

    kind: Kind
    stored: Kind
    schema: dict[str, Any] | None = None
    has_status: bool = True
    has_generation: bool = True
    scale: Scale | None = None
    warning: str = ""

    @property
    def is_custom(self) -> bool:
        return self.schema is not None

    def checker(self) -> StructuralSchema | None:
        return None if self.schema is None else _compiled(id(self.schema), _Box(self.schema))


class _Box:
    """Lets a schema be a cache argument: equal to any other box, because the id before it tells schemas apart."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Box) and other.schema is self.schema


@functools.lru_cache(maxsize=512)
def _compiled(_identity: int, box: _Box) -> StructuralSchema:
    return StructuralSchema(box.schema)


class Registry:
    """The kinds that one server serves, by group, version and plural."""

    def __init__(self) -> None:
        self._served: dict[tuple[str, str, str], ServedKind] = {}
        for kind in ALL_KINDS:
            if kind.group in BUILT_IN_GROUPS:
                self._served[kind.group, kind.version, kind.plural] = ServedKind(
                    kind=kind,
                    stored=kind,
                    has_status=kind.kind not in NO_STATUS,
                    has_generation=kind.kind not in NO_GENERATION,
                    scale=Scale() if kind.kind in SCALABLE else None,
                )

    def find(self, group: str, version: str, plural: str) -> ServedKind | None:
        return self._served.get((group, version, plural))

    def all(self) -> Iterator[ServedKind]:
        return iter(self._served.values())

    def serve(self, crd: Object) -> None:
        """Serve the versions of a CRD object, instead of what an earlier one of its name served."""
        spec = crd["spec"]
        self.withdraw(crd)
        names, namespaced = spec["names"], spec["scope"] == "Namespaced"
        storage = next(entry["name"] for entry in spec["versions"] if entry.get("storage"))
        for entry in spec["versions"]:
            if not entry.get("served", True):
                continue
            subresources = entry.get("subresources") or {}
            self._served[spec["group"], entry["name"], names["plural"]] = ServedKind(
                kind=Kind(spec["group"], entry["name"], names["kind"], names["plural"], namespaced),
                stored=Kind(spec["group"], storage, names["kind"], names["plural"], namespaced),
                schema=(entry.get("schema") or {}).get("openAPIV3Schema") or {},
                has_status="status" in subresources,
                scale=_scale(subresources.get("scale")),
                warning=str(entry.get("deprecationWarning", "")) if entry.get("deprecated") else "",
            )

    def withdraw(self, crd: Object) -> None:
        spec = crd["spec"]
        for key in [key for key in self._served if key[0] == spec["group"] and key[2] == spec["names"]["plural"]]:
            del self._served[key]


def _scale(entry: dict[str, Any] | None) -> Scale | None:
    if entry is None:
        return None

    def path(text: str) -> tuple[str, ...]:
        return tuple(text.lstrip(".").split(".")) if text else ()

    return Scale(
        path(entry["specReplicasPath"]), path(entry["statusReplicasPath"]), path(entry.get("labelSelectorPath", ""))
    )
