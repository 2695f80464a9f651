"""The form that a client wants an answer in: plain objects, Tables, or metadata only; JSON or YAML."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import orjson
import yaml

from labsim.kube.catalog import Resource
from labsim.kube.errors import ApiError
from labsim.kube.tables import partial_metadata, table
from labsim.model.http import Response
from labsim.model.kinds import Kind
from labsim.model.objects import Object

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
# Protobuf is read but not written: every known client that asks for it names JSON too, or takes it unasked.
_WRITTEN = {JSON: JSON, "application/*": JSON, "*/*": JSON, YAML: YAML, "text/html": "", PROTOBUF: ""}


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """A negotiated form. `shape` is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList"."""

    media_type: str = JSON
    shape: str = ""
    version: str = "v1"

    @property
    def is_table(self) -> bool:
        return self.shape == "Table"

    @property
    def is_partial(self) -> bool:
        return self.shape.startswith("PartialObjectMetadata")


PLAIN = Form()


@functools.lru_cache(maxsize=256)
def negotiate(accept: str, *, builtin: bool) -> Form:
    """The first form of an Accept header that can be given; raises the 406 of kube-apiserver where there is none.

    A client that takes nothing but protobuf is answered in JSON for built-in kinds: client-go reads it by its media
    type. For custom resources it is refused, as upstream does.
    """
    if not accept.strip():
        return PLAIN
    only_protobuf = False
    for clause in accept.split(","):
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        options = dict(part.partition("=")[::2] for part in parameters)
        shape, version = options.get("as", ""), options.get("v", "v1")
        if media_type == PROTOBUF:
            only_protobuf = only_protobuf or not shape
        if shape and (options.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1")):
            continue
        if shape not in ("", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
            continue
        written = _WRITTEN.get(media_type)
        if written:
            return Form(written, shape, version)
    if only_protobuf and builtin:
        return PLAIN
    raise not_acceptable()


def not_acceptable() -> ApiError:
    types = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {types}")


def encode(document: Any, media_type: str) -> bytes:
    """A document in a media type."""
    if media_type == YAML:
        return yaml.dump(document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False).encode()
    return orjson.dumps(document)


def answer(status: int, document: Any, form: Form = PLAIN, headers: dict[str, str] | None = None) -> Response:
    """A response with a document, and the headers that every answer of the API has."""
    all_headers = {"content-type": form.media_type, "cache-control": "no-cache, private"}
    if headers:
        all_headers.update(headers)
    return Response(status=status, headers=all_headers, body=encode(document, form.media_type))


def text_answer(status: int, text: bytes) -> Response:
    """The answer whose JSON text is there already."""
    return Response(status=status, headers={"content-type": JSON, "cache-control": "no-cache, private"}, body=text)


def list_text(resource: Resource, texts: list[bytes], metadata: Object) -> bytes:
    """What `shaped_list` makes in the plain form, from the texts of the objects."""
    kind = resource.kind
    if resource.custom:
        metadata = {"continue": "", **metadata}
    else:
        prefixes = _prefixes(kind)
        texts = [_item_text(text, prefixes) for text in texts]
    head = orjson.dumps({"kind": resource.list_kind, "apiVersion": kind.api_version, "metadata": metadata})
    return b"".join((head[:-1], b',"items":[', b",".join(texts), b"]}"))


@functools.lru_cache(maxsize=256)
def _prefixes(kind: Kind) -> tuple[bytes, ...]:
    """How the text of an object begins, as a rule."""
    version, name = orjson.dumps(kind.api_version), orjson.dumps(kind.kind)
    return (
        b'{"apiVersion":%b,"kind":%b,' % (version, name),
        b'{"kind":%b,"apiVersion":%b,' % (name, version),
    )


def _item_text(text: bytes, prefixes: tuple[bytes, ...]) -> bytes:
    """An object of a built-in kind as a list shows it: without kind and apiVersion."""
    for prefix in prefixes:
        if text.startswith(prefix):
            return b"{" + text[len(prefix) :]
    return orjson.dumps({key: value for key, value in orjson.loads(text).items() if key not in ("kind", "apiVersion")})


def in_version(kind: Kind, obj: Object) -> Object:
    """The object under the version that was asked for: the only conversion between versions of a custom resource."""
    return obj if obj.get("apiVersion") == kind.api_version else {**obj, "apiVersion": kind.api_version}


def shaped_object(form: Form, resource: Resource, obj: Object, *, now_s: float, include: str = "Metadata") -> Object:
    """One object in the wanted form."""
    if form.is_table:
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return table(resource.columns, [obj], now_s=now_s, metadata=metadata, include=include, version=form.version)
    return partial_metadata(obj, form.version) if form.is_partial else obj


def shaped_list(
    form: Form, resource: Resource, objects: list[Object], metadata: Object, *, now_s: float, include: str = "Metadata"
) -> Object:
    """A list of objects in the wanted form."""
    if form.is_table:
        return table(resource.columns, objects, now_s=now_s, metadata=metadata, include=include, version=form.version)
    if form.is_partial:
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"meta.k8s.io/{form.version}",
            "metadata": metadata,
            "items": [partial_metadata(obj, form.version) for obj in objects],
        }
    kind = resource.kind
    if resource.custom:
        items = objects
        metadata = {"continue": "", **metadata}
    else:  # items of a list of a built-in kind carry neither kind nor apiVersion
        items = [{key: obj[key] for key in obj if key not in ("kind", "apiVersion")} for obj in objects]
    return {"kind": resource.list_kind, "apiVersion": kind.api_version, "metadata": metadata, "items": items}
