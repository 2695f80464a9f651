"""Discovery documents: what kubectl and other clients ask first. Aggregated (v2) and plain forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labsim.kube.catalog import Catalog, Resource, Subresource

Document = dict[str, Any]
AGGREGATED_MEDIA_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def aggregated(catalog: Catalog, *, core: bool) -> Document:
    """APIGroupDiscoveryList of the core group (`/api`) or of all others (`/apis`)."""
    items = [
        {
            "metadata": {"name": group} if group else {},
            "versions": [
                {"version": version, "freshness": "Current", "resources": [_aggregated(r) for r in resources]}
                for version, resources in versions.items()
            ],
        }
        for group, versions in catalog.groups.items()
        if (group == "") == core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def api_versions(address: str) -> Document:
    """The plain answer of `/api`."""
    by_client = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": by_client}


def api_group_list(catalog: Catalog) -> Document:
    """The plain answer of `/apis`."""
    groups = [_group(name, versions) for name, versions in catalog.groups.items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(catalog: Catalog, group: str) -> Document | None:
    """The plain answer of `/apis/GROUP`; None for an unknown group."""
    versions = catalog.groups.get(group)
    return None if not versions else {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}


def api_resource_list(catalog: Catalog, group: str, version: str) -> Document | None:
    """The plain answer of `/api/v1` and `/apis/GROUP/VERSION`; None for an unknown version."""
    resources = catalog.groups.get(group, {}).get(version)
    if resources is None:
        return None
    entries: list[Document] = []
    for resource in resources:
        entries.append(_entry(resource))
        entries.extend(_subentry(resource, subresource) for subresource in resource.subresources)
    made: Document = {"kind": "APIResourceList"}
    if group:
        made["apiVersion"] = "v1"
    return {**made, "groupVersion": f"{group}/{version}" if group else version, "resources": entries}


def _group(name: str, versions: Iterable[str]) -> Document:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _aggregated(resource: Resource) -> Document:
    kind = resource.kind
    made: Document = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        made["shortNames"] = list(resource.short_names)
    if resource.categories:
        made["categories"] = list(resource.categories)
    if resource.subresources:
        made["subresources"] = [
            {
                "subresource": entry.name,
                "responseKind": dict(zip(("group", "version", "kind"), entry.speaks, strict=True)),
                "verbs": list(entry.verbs),
            }
            for entry in resource.subresources
        ]
    return made


def _entry(resource: Resource) -> Document:
    made: Document = {
        "name": resource.kind.plural,
        "singularName": resource.singular,
        "namespaced": resource.kind.namespaced,
        "kind": resource.kind.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        made["shortNames"] = list(resource.short_names)
    if resource.categories:
        made["categories"] = list(resource.categories)
    if resource.stored:
        made["storageVersionHash"] = resource.storage_version_hash
    return made


def _subentry(resource: Resource, subresource: Subresource) -> Document:
    group, version, kind = subresource.speaks
    made: Document = {
        "name": f"{resource.kind.plural}/{subresource.name}",
        "singularName": "",
        "namespaced": resource.kind.namespaced,
        "kind": kind,
        "verbs": list(subresource.verbs),
    }
    if (group, version) != (resource.kind.group, resource.kind.version) and kind != "Binding":
        made.update(group=group, version=version)
    return made
