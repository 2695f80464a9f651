"""Requests that are nearly what an API server serves: made from its own OpenAPI documents, each a little wrong."""

from __future__ import annotations

import copy
import json
import random  # noqa: TID251 - hypothesis hands out the seeds
from typing import Any

import yaml

from labsim.kube.protobuf_encoding import encode_document

Json = Any
WORDS = [
    *(
        "",
        "a",
        "one",
        "two",
        "default",
        "A b",
        "é",
        "\x00",
        "\ufffd",
        "a" * 70,
        "x" * 300,
        "-a",
        "a/b",
        "a.b/c",
        "Always",
    ),
    *(
        "10Gi",
        "1",
        "-1",
        "0",
        "100m",
        "1e3",
        "2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00.000000Z",
        "aGk=",
        "a=b",
        "true",
    ),
    *(
        "1.2.3.4",
        "http://x",
        "worker",
        "Node",
        "kubernetes.io/metadata.name",
        "$patch",
        ".",
        "..",
        "%",
        "{}",
        "^(a+)+$",
    ),
]
NUMBERS = [0, 1, -1, 2, 5, 80, 65_536, 2**31, 2**53 + 1, 2**63 - 1, 2**64, 1.0, 1.5, -0.0, 1e300]
KEYS = [*WORDS, "name", "spec", "status", "metadata", "items", "type", "kind"]
METADATA = ["name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "uid"]
METADATA += ["resourceVersion", "managedFields", "creationTimestamp", "deletionTimestamp", "generation", "selfLink"]
PARAMETERS = {
    "limit": ["1", "2", "0"],
    "continue": ["", "abc", "e30"],
    "resourceVersion": ["0", "1", "105", "999999999", "x"],
    "resourceVersionMatch": ["Exact", "NotOlderThan", "x"],
    "watch": ["true", "false"],
    "timeoutSeconds": ["1"],
    "labelSelector": ["a=b", "a in (b,c)", "!a", "a", "a!=b", "a>1", "(", ","],
    "fieldSelector": ["metadata.name=one", "metadata.namespace=default", "status.phase=x", "spec.x=1", "a"],
    "fieldManager": ["m", "n", "\x00", "x" * 200],
    "fieldValidation": ["Strict", "Warn", "Ignore", "x"],
    "force": ["true", "false", "x"],
    "dryRun": ["All", "x"],
    "propagationPolicy": ["Foreground", "Background", "Orphan", "x"],
    "gracePeriodSeconds": ["0", "5", "-1", "x"],
    "allowWatchBookmarks": ["true"],
    "sendInitialEvents": ["true", "false"],
    "includeObject": ["Object", "None", "x"],
    "pretty": ["true"],
    "timeout": ["1s", "x"],
    "orphanDependents": ["true"],
}
ACCEPTS = [
    *("application/json", "*/*", "application/yaml", "application/vnd.kubernetes.protobuf,application/json", "x", ";"),
    *(f"application/{form};as={shape};v=v1;g=meta.k8s.io" for form in ("json", "yaml", "vnd.kubernetes.protobuf")
      for shape in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")),
]  # fmt: skip
SUBRESOURCES = ("status", "scale", "finalize", "approval", "binding", "eviction", "token", "log", "x")
PATCHES = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


def anything(rnd: random.Random, depth: int = 0) -> Json:
    """Any JSON value."""
    choice = rnd.randrange(8 if depth < 3 else 5)
    if choice == 0:
        return None
    if choice == 1:
        return rnd.random() < 0.5
    if choice == 2:
        return rnd.choice(NUMBERS)
    if choice in (3, 4):
        return rnd.choice(WORDS)
    if choice == 5:
        return [anything(rnd, depth + 1) for _ in range(rnd.randrange(3))]
    return {rnd.choice(KEYS): anything(rnd, depth + 1) for _ in range(rnd.randrange(3))}


class Kind:
    """A kind as the documents tell it."""

    def __init__(self, document: Json, path: str, kind: Json, schema: Json) -> None:
        self._schemas = document["components"]["schemas"]
        self.collection = path
        self.is_namespaced = "{namespace}" in path
        self.api_version = f"{kind['group']}/{kind['version']}" if kind["group"] else kind["version"]
        self.name = kind["kind"]
        self.schema = schema

    def object(self, rnd: random.Random, wrong: float) -> Json:
        """An object of the kind; `wrong` is how often a value is none of its type."""
        made = self._value(self.schema, rnd, wrong, 0)
        if not isinstance(made, dict):
            made = {}
        if rnd.random() > wrong:
            made["apiVersion"], made["kind"] = self.api_version, self.name
        metadata = made.get("metadata")
        kept = {key: metadata[key] for key in METADATA if key in metadata} if isinstance(metadata, dict) else {}
        kept = {key: value for key, value in kept.items() if rnd.random() < 0.3}
        if rnd.random() > wrong:
            kept["name"] = rnd.choice(("one", "two"))
            kept.pop("namespace", None)
            kept.pop("resourceVersion", None)
        if rnd.random() < 0.2:
            kept["labels"] = {"a": "b"}
        made["metadata"] = kept if rnd.random() > wrong / 2 else anything(rnd)
        return made

    def _value(self, schema: Json, rnd: random.Random, wrong: float, depth: int) -> Json:
        if rnd.random() < wrong:
            return anything(rnd)
        schema = self._resolved(schema)
        if "enum" in schema:
            return rnd.choice(schema["enum"])
        kind = schema.get("type")
        if schema.get("x-kubernetes-int-or-string") or "oneOf" in schema:
            return rnd.choice([rnd.choice(WORDS), rnd.choice(NUMBERS)])
        if kind == "object" or "properties" in schema:
            return self._object(schema, rnd, wrong, depth)
        if kind == "array":
            items = [self._value(schema.get("items", {}), rnd, wrong, depth + 1) for _ in range(rnd.randrange(3))]
            return items + items[:1] if rnd.random() < 0.1 else items
        if kind in ("integer", "number"):
            return rnd.choice(NUMBERS)
        if kind == "boolean":
            return rnd.random() < 0.5
        return rnd.choice(WORDS) if kind == "string" else anything(rnd)

    def _object(self, schema: Json, rnd: random.Random, wrong: float, depth: int) -> Json:
        made = {}
        required = schema.get("required", ())
        for name, inner in schema.get("properties", {}).items():
            if rnd.random() < (0.95 if name in required else 0.8 if depth == 0 else 0.5 / depth):
                made[name] = self._value(inner, rnd, wrong, depth + 1)
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            made |= {rnd.choice(KEYS): self._value(more, rnd, wrong, depth + 1) for _ in range(rnd.randrange(3))}
        if rnd.random() < wrong:
            made[rnd.choice(KEYS)] = anything(rnd)
        return made

    def _resolved(self, schema: Json) -> Json:
        while True:
            if "$ref" in schema:
                schema = self._schemas[schema["$ref"].rpartition("/")[2]]
            elif "allOf" in schema:
                schema = schema["allOf"][0]
            else:
                return schema


def kinds_of(document: Json) -> list[Kind]:
    """The kinds of one OpenAPI v3 document."""
    found = []
    for path, item in document["paths"].items():
        kind = item.get("post", {}).get("x-kubernetes-group-version-kind")
        if kind and "{name}" not in path:
            schema = next(iter(item["post"]["requestBody"]["content"].values()))["schema"]
            found.append(Kind(document, path, kind, schema))
    return found


def definition(rnd: random.Random) -> Json:
    """A CustomResourceDefinition with a schema of its own."""

    def schema(depth: int) -> Json:
        kind = rnd.choice(["object", "object", "string", "integer", "array", "boolean", "number"])
        made: Json = {"type": "object" if depth == 0 else kind}
        if made["type"] == "object" and depth < 4:
            names = rnd.sample(["a", "b", "c", "spec", "status", "replicas"], 3)
            made["properties"] = {name: schema(depth + 1) for name in names}
        if made["type"] == "array":
            made["items"] = schema(depth + 1) if rnd.random() < 0.9 else [schema(depth + 1)]
        extras: dict[str, Json] = {
            "default": anything(rnd),
            "nullable": True,
            "enum": [rnd.choice(WORDS), rnd.choice(NUMBERS)],
            "pattern": rnd.choice(["^a", "(", "\\d{2,1}", "[", ".*"]),
            "format": rnd.choice(["date-time", "int32", "byte", "uuid", "x", "duration"]),
            "minimum": rnd.choice(NUMBERS),
            "maxLength": rnd.choice(NUMBERS),
            "required": [rnd.choice(["a", "b", "x"])],
            "x-kubernetes-preserve-unknown-fields": True,
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-list-type": rnd.choice(["map", "set", "atomic", "x"]),
            "x-kubernetes-list-map-keys": ["a"],
            "x-kubernetes-validations": [
                {"rule": rnd.choice(["self == oldSelf", "self.a > 1", "size(self) < 3", "1", "self.x.y == 2", "("])}
            ],
            "additionalProperties": rnd.choice([True, {"type": "string"}]),
            "oneOf": [{"type": "string"}],
            "anyOf": [{"required": ["a"]}, {"properties": {"a": {"enum": [1]}}}],
            "not": {"required": ["b"]},
        }
        for name, value in extras.items():
            if rnd.random() < 0.06:
                made[name] = value
        return made

    version: Json = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema(0)}}
    if rnd.random() < 0.5:
        version["subresources"] = {"status": {}}
        if rnd.random() < 0.5:
            version["subresources"]["scale"] = {
                "specReplicasPath": rnd.choice([".spec.replicas", ".a", "x", ".spec.a.b"]),
                "statusReplicasPath": ".status.replicas",
            }
    if rnd.random() < 0.3:
        path = rnd.choice([".spec.a", ".a", ".metadata.name", "x", ".spec.a[0]", ".a[?(@.b=='c')].d"])
        version["additionalPrinterColumns"] = [{"name": "A", "type": rnd.choice(["string", "date"]), "jsonPath": path}]
    if rnd.random() < 0.2:
        version["selectableFields"] = [{"jsonPath": rnd.choice([".spec.a", ".a", "x"])}]
    versions = [version]
    if rnd.random() < 0.3:
        versions.append({**copy.deepcopy(version), "name": "v2", "storage": rnd.random() < 0.1})
    spec = {
        "group": "fuzz.test",
        "names": {"kind": "Thing", "plural": "things", "listKind": "ThingList", "singular": "thing"},
        "scope": rnd.choice(["Namespaced", "Namespaced", "Cluster"]),
        "versions": versions,
    }
    if rnd.random() < 0.1:
        spec[rnd.choice(["names", "scope", "versions", "conversion"])] = anything(rnd)
    name = "things.fuzz.test" if rnd.random() < 0.95 else "x"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": spec,
    }


def patch(rnd: random.Random, patch_type: str, obj: Json, wrong: float) -> Json:
    """A patch that fits objects like this one, more or less."""
    if patch_type == "application/json-patch+json":
        return [_operation(rnd, obj, wrong) for _ in range(rnd.randrange(1, 4))]
    if patch_type != "application/apply-patch+yaml":
        obj = {key: value for key, value in obj.items() if rnd.random() < 0.6}
        if rnd.random() < 0.3 and obj:
            obj[rnd.choice(list(obj))] = None
        if "strategic" in patch_type:
            _direct(rnd, obj, 0.1)
    return obj


def _direct(rnd: random.Random, value: Json, often: float) -> None:
    """Put directives of strategic merge patches into a tree."""
    if isinstance(value, list):
        for item in value:
            _direct(rnd, item, often)
        return
    if not isinstance(value, dict):
        return
    for key in list(value):
        _direct(rnd, value[key], often)
        if rnd.random() < often:
            directive = rnd.choice(["$setElementOrder/", "$deleteFromPrimitiveList/"])
            value[directive + key] = rnd.choice([[{"name": "a"}], ["a"], None, 1, "a", [1], [None]])
    if rnd.random() < often:
        value["$patch"] = rnd.choice(["delete", "replace", "merge", "x", 1, None])
    if rnd.random() < often / 2:
        value["$retainKeys"] = rnd.choice([list(value)[:1], ["a"], "a", [1], None])


def _operation(rnd: random.Random, obj: Json, wrong: float) -> Json:
    if rnd.random() < wrong:
        return anything(rnd)
    made = {"op": rnd.choice(["add", "remove", "replace", "move", "copy", "test"]), "path": _pointer(rnd, obj)}
    if made["op"] in ("move", "copy"):
        made["from"] = _pointer(rnd, obj)
    else:
        made["value"] = anything(rnd)
    if rnd.random() < wrong:
        made[rnd.choice(["op", "path", "from"])] = anything(rnd)
    return made


def _pointer(rnd: random.Random, value: Json) -> str:
    steps = ""
    while isinstance(value, (dict, list)) and value and rnd.random() < 0.85:
        key = rnd.choice(list(value)) if isinstance(value, dict) else rnd.randrange(len(value))
        steps += "/" + str(key).replace("~", "~0").replace("/", "~1")
        value = value[key]
    return steps + rnd.choice(["", "", "", "/-", "/x", "/0", "/~2", "x"])


def encoded(rnd: random.Random, document: Json, *, plain_only: bool) -> tuple[str, bytes]:
    """A document as a body, with its media type; sometimes with bytes that have changed on the way."""
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    kind = "application/json"
    choice = rnd.random()
    if choice < 0.1:
        kind, text = "application/yaml", yaml.dump(document, Dumper=yaml.SafeDumper).encode()
    elif choice < 0.25 and not plain_only and isinstance(document, dict):
        try:
            kind, text = "application/vnd.kubernetes.protobuf", encode_document(document)
        except Exception:  # what is wrong with a document may keep it from being written so
            kind = "application/vnd.kubernetes.protobuf"
            text = b"k8s\x00" + text
    if rnd.random() < 0.15 and text:
        text = damaged(rnd, text)
    return kind, text


def damaged(rnd: random.Random, data: bytes) -> bytes:
    """Bytes with one place changed, cut, doubled or put in."""
    at = rnd.randrange(len(data))
    change = rnd.randrange(4)
    if change == 0:
        return data[:at] + bytes([rnd.randrange(256)]) + data[at + 1 :]
    if change == 1:
        return data[:at]
    if change == 2:
        return data[:at] + data[at : at + 20] * 2 + data[at + 20 :]
    return data[:at] + bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 5))) + data[at:]
