"""What an API server serves: every resource with its names, verbs, subresources and columns.

Built-in kinds stand in a table here; custom ones come from the CustomResourceDefinitions that the server holds, so the
catalog is made anew when one of them changes.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from labsim.kube.builtin_columns import builtin_columns
from labsim.kube.protobuf_encoding import encodable
from labsim.kube.registry import PERSISTENT_VOLUME, PRIORITY_CLASS, REPLICA_SET
from labsim.kube.tables import CREATED_DESCRIPTION, Column, custom_columns
from labsim.model import kinds
from labsim.model.kinds import Kind
from labsim.model.objects import Object

BUILTIN_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
# The order in which upstream's discovery lists the verbs of custom resources.
CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
STATUS_VERBS = ("get", "patch", "update")
SCALE = ("autoscaling", "v1", "Scale")


@dataclasses.dataclass(frozen=True, slots=True)
class Subresource:
    """One subresource: its name, the (group, version, kind) that it speaks, and its verbs."""

    name: str
    speaks: tuple[str, str, str]
    verbs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Resource:
    """One resource in one version. `stored` is False for reviews, which are answered and forgotten.

    storage_version: the version that its objects are stored in, "" for this one.
    """

    kind: Kind
    singular: str
    list_kind: str
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    custom: bool = False
    stored: bool = True
    schema: Mapping[str, Any] | None = None
    printer_columns: tuple[Mapping[str, Any], ...] = ()
    scale_paths: Mapping[str, str] | None = None
    warning: str = ""
    selectable_fields: tuple[str, ...] = ()  # beyond metadata.name and metadata.namespace
    storage_version: str = ""

    @functools.cached_property
    def columns(self) -> tuple[Column, ...]:
        if self.custom:
            return custom_columns(self.printer_columns)
        return builtin_columns(self.kind.group, self.kind.kind)

    @functools.cached_property
    def protobuf(self) -> bool:
        """Whether its objects can be read and written as protobuf."""
        return not self.custom and encodable(self.kind.group, self.kind.version, self.kind.kind)

    def subresource(self, name: str) -> Subresource | None:
        return next((entry for entry in self.subresources if entry.name == name), None)

    @property
    def storage_version_hash(self) -> str:
        text = f"{self.kind.group}/{self.storage_version or self.kind.version}/{self.kind.kind}"
        return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


@dataclasses.dataclass(frozen=True, slots=True)
class _Builtin:
    kind: Kind
    short_names: tuple[str, ...] = ()
    in_all: bool = False
    extra: tuple[Subresource, ...] = ()
    has_status: bool = True
    scale: bool = False


def _review(group: str, kind: str, *, namespaced: bool = False) -> Resource:
    served = Kind(group, "v1", kind, kind.lower() + "s", namespaced)
    return Resource(served, kind.lower(), kind, ("create",), stored=False)


_NAMESPACE_FINALIZE = Subresource("finalize", ("", "v1", "Namespace"), ("update",))
_POD_EXTRA = (
    Subresource("binding", ("", "v1", "Binding"), ("create",)),
    Subresource("eviction", ("policy", "v1", "Eviction"), ("create",)),
)
_TOKEN = Subresource("token", ("authentication.k8s.io", "v1", "TokenRequest"), ("create",))
_APPROVAL = Subresource("approval", ("certificates.k8s.io", "v1", "CertificateSigningRequest"), STATUS_VERBS)

_BUILTINS: tuple[_Builtin, ...] = (
    _Builtin(kinds.CONFIG_MAP, ("cm",), has_status=False),
    _Builtin(kinds.EVENT, ("ev",), has_status=False),
    _Builtin(kinds.NAMESPACE, ("ns",), extra=(_NAMESPACE_FINALIZE,)),
    _Builtin(kinds.NODE, ("no",)),
    _Builtin(kinds.PERSISTENT_VOLUME_CLAIM, ("pvc",)),
    _Builtin(PERSISTENT_VOLUME, ("pv",)),
    _Builtin(kinds.POD, ("po",), in_all=True, extra=_POD_EXTRA),
    _Builtin(kinds.SECRET, has_status=False),
    _Builtin(kinds.SERVICE_ACCOUNT, ("sa",), has_status=False, extra=(_TOKEN,)),
    _Builtin(kinds.SERVICE, ("svc",), in_all=True),
    _Builtin(kinds.DAEMON_SET, ("ds",), in_all=True),
    _Builtin(kinds.DEPLOYMENT, ("deploy",), in_all=True, scale=True),
    _Builtin(REPLICA_SET, ("rs",), in_all=True, scale=True),
    _Builtin(kinds.STATEFUL_SET, ("sts",), in_all=True, scale=True),
    _Builtin(kinds.CERTIFICATE_SIGNING_REQUEST, ("csr",), extra=(_APPROVAL,)),
    _Builtin(kinds.CLUSTER_ROLE_BINDING, has_status=False),
    _Builtin(kinds.CLUSTER_ROLE, has_status=False),
    _Builtin(kinds.ROLE_BINDING, has_status=False),
    _Builtin(kinds.ROLE, has_status=False),
    _Builtin(kinds.STORAGE_CLASS, ("sc",), has_status=False),
    _Builtin(kinds.CUSTOM_RESOURCE_DEFINITION, ("crd", "crds")),
    _Builtin(kinds.LEASE, has_status=False),
    _Builtin(PRIORITY_CLASS, ("pc",), has_status=False),
)
REVIEWS: tuple[Resource, ...] = (
    _review("authentication.k8s.io", "SelfSubjectReview"),
    _review("authentication.k8s.io", "TokenReview"),
    _review("authorization.k8s.io", "LocalSubjectAccessReview", namespaced=True),
    _review("authorization.k8s.io", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "SubjectAccessReview"),
)
_SCALE_KIND = Kind("autoscaling", "v1", "Scale", "scales", True)
SCALE_OF_BUILTIN = Resource(_SCALE_KIND, "scale", "ScaleList", ())
# A custom resource's Scale is printed by the columns that every CRD's scale has.
SCALE_OF_CUSTOM = Resource(
    _SCALE_KIND,
    "scale",
    "ScaleList",
    (),
    custom=True,
    printer_columns=(
        {
            "name": "Desired",
            "type": "integer",
            "jsonPath": ".spec.replicas",
            "description": "Number of desired replicas",
        },
        {
            "name": "Available",
            "type": "integer",
            "jsonPath": ".status.replicas",
            "description": "Number of actual replicas",
        },
        {
            "name": "Age",
            "type": "date",
            "jsonPath": ".metadata.creationTimestamp",
            "description": CREATED_DESCRIPTION,
        },
    ),
)
BUILTIN_SCALE_PATHS = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}
_SELECTABLE: dict[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    "Event": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "Secret": ("type",),
    "Node": ("spec.unschedulable",),
    "Namespace": ("status.phase",),
    "Service": ("spec.clusterIP", "spec.type"),
    "CertificateSigningRequest": ("spec.signerName",),
}
# How upstream's aggregator orders the built-in groups; groups of custom resources follow by name.
GROUP_ORDER = (
    "",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "apiextensions.k8s.io",
    "coordination.k8s.io",
    "scheduling.k8s.io",
)


class Catalog:
    """Every resource of a server at one moment, by (group, version, plural)."""

    def __init__(self, crds: Iterable[Object]) -> None:
        resources = [*(_builtin(entry) for entry in _BUILTINS), *REVIEWS]
        for definition in crds:
            # A definition that lacks what serving needs serves nothing, and must not take the others with it.
            with contextlib.suppress(KeyError, TypeError, AttributeError):
                resources.extend(_custom(definition))
        self._by_path = {(r.kind.group, r.kind.version, r.kind.plural): r for r in resources}
        self.groups: dict[str, dict[str, list[Resource]]] = {}
        for resource in resources:
            versions = self.groups.setdefault(resource.kind.group, {})
            versions.setdefault(resource.kind.version, []).append(resource)
        order = {group: place for place, group in enumerate(GROUP_ORDER)}
        self.groups = {
            group: {
                version: sorted(self.groups[group][version], key=lambda r: r.kind.plural)
                for version in sorted(self.groups[group], key=version_priority)
            }
            for group in sorted(self.groups, key=lambda name: (order.get(name, len(order)), name))
        }

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def is_builtin(self, group: str) -> bool:
        return group in GROUP_ORDER


@functools.cache
def version_priority(version: str) -> tuple[int, int, int, str]:
    """A key that sorts versions as Kubernetes does: v10 > v2 > v1 > v11beta2 > v1alpha1 > others by name."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match.group(2)]
    return (stage, -int(match.group(1)), -int(match.group(3) or 0), "")


@functools.cache
def _builtin(entry: _Builtin) -> Resource:
    kind = entry.kind
    spoken = (kind.group, kind.version, kind.kind)
    subresources = list(entry.extra)
    if entry.scale:
        subresources.append(Subresource("scale", SCALE, STATUS_VERBS))
    if entry.has_status:
        subresources.append(Subresource("status", spoken, STATUS_VERBS))
    verbs: tuple[str, ...] = BUILTIN_VERBS
    if kind == kinds.NAMESPACE:
        verbs = tuple(verb for verb in verbs if verb != "deletecollection")
    return Resource(
        kind,
        kind.kind.lower(),
        f"{kind.kind}List",
        verbs,
        short_names=entry.short_names,
        categories=("all",) if entry.in_all else (),
        subresources=tuple(sorted(subresources, key=lambda s: s.name)),
        scale_paths=BUILTIN_SCALE_PATHS if entry.scale else None,
        selectable_fields=_SELECTABLE.get(kind.kind, ()),
    )


def _deprecation(spec: Object, kind: Kind) -> str:
    """What is said of a deprecated version: where there is a newer one that is not, it is named."""
    newer = [
        entry["name"]
        for entry in spec["versions"]
        if entry.get("served")
        and not entry.get("deprecated")
        and version_priority(entry["name"]) < version_priority(kind.version)
    ]
    text = f"{kind.api_version} {kind.kind} is deprecated"
    return f"{text}; use {kind.group}/{min(newer, key=version_priority)} {kind.kind}" if newer else text


def _custom(definition: Object) -> list[Resource]:
    spec = definition["spec"]
    names = spec["names"]
    storage = next((version["name"] for version in spec["versions"] if version.get("storage")), "")
    made = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        kind = kinds.kind_named(
            spec["group"], version["name"], names["kind"], names["plural"], spec["scope"] == "Namespaced"
        )
        declared = version.get("subresources") or {}
        subresources = []
        if "status" in declared:
            subresources.append(Subresource("status", (kind.group, kind.version, kind.kind), STATUS_VERBS))
        if declared.get("scale"):
            subresources.append(Subresource("scale", SCALE, STATUS_VERBS))
        warning = ""
        if version.get("deprecated"):
            warning = version.get("deprecationWarning") or _deprecation(spec, kind)
        made.append(
            Resource(
                kind,
                names.get("singular") or kind.kind.lower(),
                names.get("listKind") or f"{kind.kind}List",
                CUSTOM_VERBS,
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=tuple(subresources),
                custom=True,
                schema=(version.get("schema") or {}).get("openAPIV3Schema"),
                printer_columns=tuple(version.get("additionalPrinterColumns") or ()),
                scale_paths=declared.get("scale"),
                warning=warning,
                selectable_fields=tuple(
                    entry["jsonPath"].lstrip(".") for entry in version.get("selectableFields") or ()
                ),
                storage_version=storage,
            )
        )
    return made
