"""OpenAPI documents: v3 (an index, and one document per group version) and v2, as far as clients read them.

kubectl finds a kind's schema by `x-kubernetes-group-version-kind`, and in `paths` the media types of PATCH and the
query parameters that it may use. The hash in an index entry changes with the document, so clients may keep it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from labsim.kube.catalog import Catalog, Resource
from labsim.kube.messages import META, message_name
from labsim.kube.openapi_schemas import (
    API_VERSION,
    KIND,
    REFERENCE,
    Schema,
    list_schema,
    reference,
    typed_object,
    with_references,
)

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_BUILTIN_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_CUSTOM_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
_META_KINDS = {META + name for name in ("DeleteOptions", "ListMeta", "ObjectMeta", "Patch", "Status")}
_SCALE = "io.k8s.api.autoscaling.v1.Scale"


class OpenApi:
    """The documents of one catalog, each made when it is first asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._documents: dict[str, bytes] = {}
        self._v2: bytes | None = None

    def index(self) -> dict[str, Any]:
        """The answer of `/openapi/v3`."""
        paths = {}
        for key in self._keys():
            url = f"/openapi/v3/{key}?hash={content_hash(self.document(key) or b'')}"
            paths[key] = {"serverRelativeURL": url}
        return {"paths": paths}

    def document(self, key: str) -> bytes | None:
        """The encoded document of `api/v1` or `apis/GROUP/VERSION`; None for an unknown one."""
        made = self._documents.get(key)
        if made is None:
            resources = self._keys().get(key)
            if resources is None:
                return None
            made = self._documents[key] = orjson.dumps(_document(resources))
        return made

    def v2(self) -> bytes:
        """The Swagger 2.0 document of everything, as JSON."""
        if self._v2 is None:
            self._v2 = orjson.dumps(_swagger([r for resources in self._keys().values() for r in resources]))
        return self._v2

    def v2_protobuf(self) -> bytes:
        """A Swagger document in protobuf that names no definitions.

        kubectl asks for this form only. Where a kind has no definition in it, it falls back to what it does without a
        schema: merge patches for custom resources.
        """
        info = _length_delimited(1, b"Kubernetes") + _length_delimited(2, b"unversioned")
        return _length_delimited(1, b"2.0") + _length_delimited(2, info) + _length_delimited(8, b"")

    def _keys(self) -> dict[str, list[Resource]]:
        return {
            f"apis/{group}/{version}" if group else f"api/{version}": resources
            for group, versions in self._catalog.groups.items()
            for version, resources in versions.items()
        }


def content_hash(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()[:32].upper()


def _document(resources: list[Resource]) -> Schema:
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": _paths(resources),
        "components": {"schemas": _schemas(resources)},
    }


def schema_name(resource: Resource) -> str:
    """Under which name a kind's schema is published; custom kinds by their reversed group."""
    kind = resource.kind
    if resource.custom:
        return f"{'.'.join(reversed(kind.group.split('.')))}.{kind.version}.{kind.kind}"
    return message_name(kind.group, kind.version, kind.kind)


def _gvk(resource: Resource) -> Schema:
    kind = resource.kind
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _schemas(resources: list[Resource]) -> dict[str, Schema]:
    found: dict[str, Schema] = with_references(
        _META_KINDS
        | {schema_name(r) for r in resources if not r.custom}
        | ({_SCALE} if any(r.scale_paths for r in resources) else set())
    )
    for resource in resources:
        name, gvk = schema_name(resource), _gvk(resource)
        if resource.custom:
            found[name] = _custom_schema(resource, gvk)
        else:
            # Kinds without a table entry (CustomResourceDefinition) are described by their metadata alone.
            known = found.get(name) or {"type": "object", "properties": {"metadata": reference(META + "ObjectMeta")}}
            if "spec" not in known.get("properties", {}) and resource.kind.kind == "CustomResourceDefinition":
                known = {**known, "x-kubernetes-preserve-unknown-fields": True}
            found[name] = typed_object(known, gvk)
        if resource.stored:
            found[name + "List"] = list_schema(name, {**gvk, "kind": resource.list_kind})
    options = found[META + "DeleteOptions"]
    versions = [{"group": "", "kind": "DeleteOptions", "version": "v1"}]
    found[META + "DeleteOptions"] = {**options, "x-kubernetes-group-version-kind": versions}
    return found


def _custom_schema(resource: Resource, gvk: Schema) -> Schema:
    schema: Schema = dict(resource.schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    properties = {
        **schema.get("properties", {}),
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": reference(META + "ObjectMeta"),
    }
    return {**schema, "type": "object", "properties": properties, "x-kubernetes-group-version-kind": [gvk]}


def _paths(resources: list[Resource]) -> Schema:
    paths: Schema = {}
    for resource in resources:
        collection = resource.kind.path("{namespace}")
        if not resource.stored:
            paths[collection] = {"post": _operation(resource, "post", "create")}
            continue
        namespaced = [_path_parameter("namespace")] if resource.kind.namespaced else []
        paths[collection] = {
            "parameters": namespaced,
            "get": _operation(resource, "list", "get"),
            "post": _operation(resource, "post", "create"),
            "delete": _operation(resource, "deletecollection", "delete"),
        }
        if resource.kind.namespaced:
            paths[resource.kind.path()] = {"get": _operation(resource, "list", "get")}
        one = _one(resource, [*namespaced, _path_parameter("name")])
        paths[collection + "/{name}"] = one
        for subresource in resource.subresources:
            if subresource.name in ("status", "scale"):
                kept = {key: one[key] for key in ("parameters", "get", "put", "patch")}
                paths[f"{collection}/{{name}}/{subresource.name}"] = kept
    return paths


def _one(resource: Resource, parameters: list[Schema]) -> Schema:
    return {
        "parameters": parameters,
        "get": _operation(resource, "get", "get"),
        "put": _operation(resource, "put", "update"),
        "patch": _operation(resource, "patch", "patch"),
        "delete": _operation(resource, "delete", "delete"),
    }


def _operation(resource: Resource, action: str, verb: str) -> Schema:
    body = {"schema": {"$ref": REFERENCE + schema_name(resource)}}
    answer = {"description": "OK", "content": {"application/json": body}}
    made: Schema = {
        "operationId": operation_id(resource, action),
        "responses": {"200": answer},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(resource),
    }
    if verb in ("create", "update", "patch"):
        made["parameters"] = [_query_parameter(name) for name in _WRITE_PARAMETERS]
    if verb == "patch":
        made["parameters"].append(_query_parameter("force"))
        types = _CUSTOM_PATCHES if resource.custom else _BUILTIN_PATCHES
        patch = {"schema": {"$ref": f"{REFERENCE}{META}Patch"}}
        made["requestBody"] = {"content": dict.fromkeys(types, patch), "required": True}
    elif verb in ("create", "update"):
        made["requestBody"] = {"content": {"*/*": body}, "required": True}
    elif verb == "delete":
        made["parameters"] = [_query_parameter("dryRun")]
    return made


def operation_id(resource: Resource, action: str) -> str:
    """Upstream's name of an operation: `readCoreV1NamespacedConfigMap`."""
    words = {"get": "read", "list": "list", "post": "create", "put": "replace", "patch": "patch",
             "delete": "delete", "deletecollection": "deleteCollection"}  # fmt: skip
    group = resource.kind.group or "core"
    name = "".join(part[:1].upper() + part[1:] for part in group.removesuffix(".k8s.io").split("."))
    version = resource.kind.version[:1].upper() + resource.kind.version[1:]
    scope = "Namespaced" if resource.kind.namespaced else ""
    return f"{words[action]}{name}{version}{scope}{resource.kind.kind}"


def _path_parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}


def _query_parameter(name: str) -> Schema:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}


def _swagger(resources: list[Resource]) -> Schema:
    paths: Schema = {}
    for path, item in _paths(resources).items():
        paths[path] = {method: _swagger_operation(operation) for method, operation in item.items()
                       if method != "parameters"}  # fmt: skip
    schemas = orjson.dumps(_schemas(resources)).replace(REFERENCE.encode(), b"#/definitions/")
    definitions = {name: _swagger_schema(schema) for name, schema in orjson.loads(schemas).items()}
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions,
    }


def _swagger_operation(operation: Schema) -> Schema:
    made = {key: operation[key] for key in operation if key.startswith(("operationId", "x-"))}
    body = operation.get("requestBody")
    if body:
        made["consumes"] = list(body["content"])
    made["responses"] = {"200": {"description": "OK"}}
    return made


def _swagger_schema(schema: Any) -> Any:
    """A schema in the terms of Swagger 2.0: plain references, no oneOf, no nullable."""
    if isinstance(schema, list):
        return [_swagger_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    references = schema.get("allOf")
    if references and len(references) == 1 and "$ref" in references[0]:
        kept = {key: value for key, value in schema.items() if key not in ("allOf", "default")}
        return {**kept, **references[0]}
    if "oneOf" in schema and "type" not in schema:
        kept = {key: value for key, value in schema.items() if key != "oneOf"}
        return {**kept, "type": "string"}
    return {key: _swagger_schema(value) for key, value in schema.items() if key not in ("nullable", "anyOf", "oneOf")}


def _length_delimited(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes((number << 3 | 2, len(data))) + data
