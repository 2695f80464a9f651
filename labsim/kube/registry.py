"""Which kinds an API server serves, and how each behaves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from labsim.kube.conversion import Conversions, bound_conversion
from labsim.kube.label_syntax import Problems, label_problems, path_segment_problems, subdomain_problems
from labsim.kube.schema import StructuralSchema
from labsim.kube.shapes import Shape, builtin_shape, schema_shape
from labsim.kube.traits import CUSTOM, Traits, traits_of
from labsim.model.kinds import ALL_KINDS, Kind, kind_named
from labsim.model.objects import Object, thaw

REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets")
PERSISTENT_VOLUME = Kind("", "v1", "PersistentVolume", "persistentvolumes", False)
PRIORITY_CLASS = Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False)

# Built-in kinds whose metadata.generation is set, those without a status subresource, and those that can be scaled.
GENERATION = frozenset(("Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "CustomResourceDefinition"))
NO_STATUS = frozenset(
    (
        *("ConfigMap", "Secret", "Lease", "Event", "ServiceAccount", "StorageClass", "PriorityClass"),
        *("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    )
)
SCALABLE = frozenset(("Deployment", "StatefulSet", "ReplicaSet"))
BUILT_IN_GROUPS = frozenset(
    (
        *("", "apps", "rbac.authorization.k8s.io", "storage.k8s.io", "coordination.k8s.io"),
        *("certificates.k8s.io", "apiextensions.k8s.io"),
    )
)
# Kinds whose objects are not named like a DNS subdomain.
_NAMES: dict[str, Problems] = {
    "Namespace": label_problems,
    "Service": label_problems,
    "Event": path_segment_problems,
    "Role": path_segment_problems,
    "RoleBinding": path_segment_problems,
    "ClusterRole": path_segment_problems,
    "ClusterRoleBinding": path_segment_problems,
}
_FIELD_SELECTORS = {
    "Pod": (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
        *("status.phase", "status.podIP", "status.nominatedNodeName"),
    ),
    "Event": (
        *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid"),
        *("involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath"),
        *("reason", "reportingComponent", "source", "type"),
    ),
    "Secret": ("type",),
    "Node": ("spec.unschedulable",),
    "Namespace": ("status.phase",),
    "Service": ("spec.clusterIP", "spec.type"),
    "CertificateSigningRequest": ("spec.signerName",),
    "ReplicaSet": ("status.replicas",),
}
_ALWAYS_SELECTABLE = ("metadata.name", "metadata.namespace")


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """Where a scale subresource reads and writes: paths below the object, as in a CRD."""

    spec_path: tuple[str, ...] = ("spec", "replicas")
    status_path: tuple[str, ...] = ("status", "replicas")
    selector_path: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ServedKind:
    """One served version of a kind. `stored` is the version that its objects are kept in.

    storage_version: the version whose schema what is stored follows; that of `stored` unless the definition has changed
    the version that it stores.
    since: the revision from which this schema holds; what was stored before is defaulted again when it is read.
    conversion: gives an object another version of its kind; None where the versions differ in nothing but their names.
    versions: every served version of the kind, by its apiVersion, where there is a conversion.
    """

    kind: Kind
    stored: Kind
    schema: dict[str, Any] | None = None
    storage_schema: dict[str, Any] | None = None
    storage_version: str = ""
    has_status: bool = True
    has_generation: bool = True
    scale: Scale | None = None
    selectable: tuple[str, ...] = _ALWAYS_SELECTABLE
    warning: str = ""
    since: int = 0
    conversion: Callable[[Object, Kind], Object] | None = None
    versions: Mapping[str, ServedKind] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def is_custom(self) -> bool:
        return self.schema is not None

    @functools.cached_property
    def is_stored_version(self) -> bool:
        """Whether objects are stored just as this version shows them."""
        return self.kind.version == self.stored.version and self.storage_version in ("", self.kind.version)

    @functools.cached_property
    def traits(self) -> Traits:
        return CUSTOM if self.is_custom else traits_of(self.kind)

    @functools.cached_property
    def checker(self) -> StructuralSchema | None:
        """The compiled schema of this version; None for a built-in kind."""
        return None if self.schema is None else StructuralSchema(self.schema)

    @functools.cached_property
    def storage_checker(self) -> StructuralSchema | None:
        """The compiled schema of the version that is stored, where that is another one."""
        return None if self.is_stored_version or self.storage_schema is None else StructuralSchema(self.storage_schema)

    def shown(self, stored: Object) -> Object:
        """An object of the stored version, which is this method's own to change, as this version shows it."""
        if self.conversion is None:
            stored["apiVersion"] = self.kind.api_version
            made = stored
        else:
            if self.storage_checker is not None:
                self.storage_checker.complete(stored)
            made = self.conversion(stored, self.kind)
        if self.checker is not None:
            self.checker.complete(made)
        return made

    def as_stored(self, obj: Object) -> Object:
        """An object of this version, which is this method's own to change, as it is stored."""
        if self.conversion is None:
            obj["apiVersion"] = self.stored.api_version
            made = obj
        else:
            made = thaw(self.conversion(obj, self.stored))  # shares parts with a state that has been handed out
        if self.storage_checker is not None:
            self.storage_checker.complete(made)
        return made

    def in_version(self, api_version: str, obj: Object) -> tuple[Object, Shape] | None:
        """An object of this kind as another served version has it, with that one's shape.

        None where it is of that version already, and where versions are not converted: what is owned in one is the
        same in the other.
        """
        other = self.versions.get(api_version)
        if self.conversion is None or other is None or obj["apiVersion"] == api_version:
            return None
        return self.conversion(obj, other.kind), other.shape

    @functools.cached_property
    def shape(self) -> Shape:
        """How fields are owned and merged."""
        return builtin_shape(self.kind) if self.schema is None else schema_shape(self.schema)

    @functools.cached_property
    def name_problems(self) -> Problems:
        if self.is_custom:
            return subdomain_problems
        return _NAMES.get(self.kind.kind, subdomain_problems)

    def field_selector_problem(self, path: str) -> str:
        """What is wrong with a field selector's path; "" where objects can be selected by it."""
        if path in self.selectable:
            return ""
        if self.is_custom or self.kind.kind in _FIELD_SELECTORS:
            return f"field label not supported: {path}"
        return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'


class Registry:
    """The kinds that one server serves, by group, version and plural."""

    def __init__(self, conversions: Conversions | None = None) -> None:
        self._served: dict[tuple[str, str, str], ServedKind] = dict(_builtins())
        self._by_kind: dict[Kind, ServedKind] = {}
        self._conversions = conversions or {}
        self._definitions: dict[tuple[str, str], Object] = {}
        self._stored: dict[tuple[str, str], Kind] = {}

    def found_stored(self, kinds: Iterable[Kind]) -> None:
        """The versions that objects of custom kinds are stored in already, before anything is served."""
        self._stored.update({(kind.group, kind.plural): kind for kind in kinds})

    def find(self, group: str, version: str, plural: str) -> ServedKind | None:
        return self._served.get((group, version, plural))

    def of(self, kind: Kind) -> ServedKind | None:
        """The served kind, found again quickly."""
        found = self._by_kind.get(kind)
        if found is None:
            found = self._served.get((kind.group, kind.version, kind.plural))
            if found is not None:
                self._by_kind[kind] = found
        return found

    def all(self) -> Iterator[ServedKind]:
        return iter(self._served.values())

    def serve(self, crd: Object, since: int = 0) -> None:
        """Serve the versions of a CRD object, instead of what an earlier one of its name served.

        What is there stays where it is when another version is to be stored from now on, and so does what comes: no
        client can see which version that is, and who listens in the process goes on to hear of all of it.
        """
        spec = crd["spec"]
        self._withdraw_versions(crd)
        names, namespaced = spec["names"], spec["scope"] == "Namespaced"
        self._definitions[spec["group"], names["kind"]] = crd
        conversion = bound_conversion(crd, self._conversions, lambda group, kind: self._definitions.get((group, kind)))
        versions: dict[str, ServedKind] = {}
        storage = next(entry for entry in spec["versions"] if entry.get("storage"))
        first = ((crd.get("status") or {}).get("storedVersions") or [storage["name"]])[0]
        stored = self._stored.setdefault(
            (spec["group"], names["plural"]),
            kind_named(spec["group"], first, names["kind"], names["plural"], namespaced),
        )
        if conversion is not None:
            no_schema = {"name": stored.version}  # of a version that the definition has dropped
            storage = next((entry for entry in spec["versions"] if entry["name"] == stored.version), no_schema)
        for entry in spec["versions"]:
            if not entry.get("served", True):
                continue
            subresources = entry.get("subresources") or {}
            fields = (field["jsonPath"].lstrip(".") for field in entry.get("selectableFields") or ())
            kind = kind_named(spec["group"], entry["name"], names["kind"], names["plural"], namespaced)
            self._served[spec["group"], entry["name"], names["plural"]] = versions[kind.api_version] = ServedKind(
                kind=kind,
                stored=stored,
                schema=(entry.get("schema") or {}).get("openAPIV3Schema") or {},
                storage_schema=(storage.get("schema") or {}).get("openAPIV3Schema"),
                storage_version=storage["name"],
                has_status="status" in subresources,
                scale=_scale(subresources.get("scale")),
                selectable=(*_ALWAYS_SELECTABLE, *fields),
                warning=_warning(crd, entry),
                since=since,
                conversion=conversion,
                versions=versions,
            )

    def withdraw(self, crd: Object) -> None:
        """Serve none of a CRD's versions any more: it has gone, with all its objects."""
        spec = crd["spec"]
        self._definitions.pop((spec["group"], spec["names"]["kind"]), None)
        self._stored.pop((spec["group"], spec["names"]["plural"]), None)
        self._withdraw_versions(crd)

    def _withdraw_versions(self, crd: Object) -> None:
        spec = crd["spec"]
        self._by_kind.clear()
        for key in [key for key in self._served if key[0] == spec["group"] and key[2] == spec["names"]["plural"]]:
            del self._served[key]


def _builtins() -> Iterator[tuple[tuple[str, str, str], ServedKind]]:
    present = {kind.qualified for kind in ALL_KINDS}
    extra = [kind for kind in (REPLICA_SET, PERSISTENT_VOLUME, PRIORITY_CLASS) if kind.qualified not in present]
    for kind in (*(kind for kind in ALL_KINDS if kind.group in BUILT_IN_GROUPS), *extra):
        yield (kind.group, kind.version, kind.plural), _builtin(kind)


@functools.cache
def _builtin(kind: Kind) -> ServedKind:
    return ServedKind(
        kind=kind,
        stored=kind,
        has_status=kind.kind not in NO_STATUS,
        has_generation=kind.kind in GENERATION,
        scale=Scale() if kind.kind in SCALABLE else None,
        selectable=(*_ALWAYS_SELECTABLE, *_FIELD_SELECTORS.get(kind.kind, ())),
    )


def _warning(crd: Object, version: Object) -> str:
    if not version.get("deprecated"):
        return ""
    spec = crd["spec"]
    return str(
        version.get("deprecationWarning") or f"{spec['group']}/{version['name']} {spec['names']['kind']} is deprecated"
    )


def _scale(entry: dict[str, Any] | None) -> Scale | None:
    if entry is None:
        return None

    def path(text: str) -> tuple[str, ...]:
        return tuple(text.lstrip(".").split(".")) if text else ()

    return Scale(
        path(entry["specReplicasPath"]), path(entry["statusReplicasPath"]), path(entry.get("labelSelectorPath", ""))
    )
