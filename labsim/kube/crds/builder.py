"""A short way to write CustomResourceDefinitions: structural schemas as nested calls, one call per property.

For example `crd(AGENT, spec=obj({"approved": boolean(), "role": string()}, required=["approved"]), columns=[...])`.
"""

from __future__ import annotations

from typing import Any

from labsim.model.kinds import Kind

Schema = dict[str, Any]  # one node of an OpenAPI v3 structural schema


def string(**extra: Any) -> Schema:
    return {"type": "string", **extra}


def enum(*values: str, **extra: Any) -> Schema:
    return {"type": "string", "enum": list(values), **extra}


def integer(**extra: Any) -> Schema:
    return {"type": "integer", "format": "int64", **extra}


def int32(**extra: Any) -> Schema:
    return {"type": "integer", "format": "int32", **extra}


def boolean(**extra: Any) -> Schema:
    return {"type": "boolean", **extra}


def time(**extra: Any) -> Schema:
    return {"type": "string", "format": "date-time", **extra}


def array(items: Schema, **extra: Any) -> Schema:
    return {"type": "array", "items": items, **extra}


def map_of(values: Schema, **extra: Any) -> Schema:
    return {"type": "object", "additionalProperties": values, **extra}


def int_or_string(**extra: Any) -> Schema:
    return {"x-kubernetes-int-or-string": True, **extra}


def obj(properties: dict[str, Schema] | None = None, *, required: list[str] | None = None, **extra: Any) -> Schema:
    """An object with these properties; others are pruned."""
    schema: Schema = {"type": "object", "properties": dict(properties or {})}
    if required:
        schema["required"] = required
    schema.update(extra)
    return schema


def anything(**extra: Any) -> Schema:
    """An object whose fields are all kept."""
    return {"type": "object", "x-kubernetes-preserve-unknown-fields": True, **extra}


def open_obj(properties: dict[str, Schema], *, required: list[str] | None = None, **extra: Any) -> Schema:
    """An object that checks these properties and keeps all others: for kinds with more fields than this flow uses."""
    return obj(properties, required=required, **{"x-kubernetes-preserve-unknown-fields": True}, **extra)


def rule(expression: str, message: str = "", **extra: Any) -> dict[str, Any]:
    """One entry of x-kubernetes-validations."""
    return {"rule": expression, **({"message": message} if message else {}), **extra}


def local_reference() -> Schema:
    """`{name}`: an object in the same namespace."""
    return obj({"name": string(default="")})


def conditions(**extra: Schema) -> Schema:
    """A list of conditions, merged by type when applied. `extra` adds properties (severity, lastProbeTime, ...)."""
    item = obj(
        {
            "type": string(),
            "status": string(),
            "reason": string(),
            "message": string(),
            "lastTransitionTime": time(),
            "observedGeneration": integer(),
            **extra,
        },
        required=["type", "status"],
    )
    return array(item, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})


def column(name: str, path: str, kind: str = "string", *, wide: bool = False, description: str = "") -> Schema:
    """One printer column; wide ones show with `-o wide` only."""
    made: Schema = {"name": name, "type": kind, "jsonPath": path}
    if description:
        made["description"] = description
    if wide:
        made["priority"] = 1
    return made


AGE = column("Age", ".metadata.creationTimestamp", "date")


def version(
    name: str,
    *,
    spec: Schema | None = None,
    status: Schema | None = None,
    columns: list[Schema] | None = None,
    scale: Schema | None = None,
    status_subresource: bool = True,
    storage: bool = True,
    served: bool = True,
    deprecation_warning: str = "",
    root: dict[str, Schema] | None = None,
    required: list[str] | None = None,
    selectable_fields: list[str] | None = None,
) -> Schema:
    """One entry of spec.versions. `root` adds top-level properties beside spec and status."""
    properties: dict[str, Schema] = {"apiVersion": string(), "kind": string(), "metadata": {"type": "object"}}
    if spec is not None:
        properties["spec"] = spec
    if status is not None:
        properties["status"] = status
    properties.update(root or {})
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    made: Schema = {"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": schema}}
    if deprecation_warning:
        made.update(deprecated=True, deprecationWarning=deprecation_warning)
    subresources: Schema = {}
    if status_subresource:
        subresources["status"] = {}
    if scale:
        subresources["scale"] = scale
    if subresources:
        made["subresources"] = subresources
    if columns:
        made["additionalPrinterColumns"] = columns
    if selectable_fields:
        made["selectableFields"] = [{"jsonPath": path} for path in selectable_fields]
    return made


def crd(
    kind: Kind,
    versions: list[Schema],
    *,
    short_names: list[str] | None = None,
    categories: list[str] | None = None,
    labels: dict[str, str] | None = None,
) -> Schema:
    """The CustomResourceDefinition object (apiextensions.k8s.io/v1) of a kind."""
    names: Schema = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
    }
    if short_names:
        names["shortNames"] = short_names
    if categories:
        names["categories"] = categories
    metadata: Schema = {"name": kind.qualified}
    if labels:
        metadata["labels"] = labels
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": versions,
            "conversion": {"strategy": "None"},
        },
    }
