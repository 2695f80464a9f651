"""The form that a client wants an answer in: plain objects, Tables, or metadata only; JSON, YAML or protobuf."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import orjson
import yaml

from labsim.kube.catalog import Resource
from labsim.kube.errors import ApiError
from labsim.kube.protobuf_encoding import encode_document
from labsim.kube.short_texts import cached_if_short
from labsim.kube.tables import partial_metadata, table
from labsim.model.http import Response
from labsim.model.kinds import Kind
from labsim.model.objects import Object

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_WRITTEN = {JSON: JSON, "application/*": JSON, "*/*": JSON, YAML: YAML, PROTOBUF: PROTOBUF}


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


@cached_if_short(256)
def negotiate(accept: str, *, protobuf: bool, builtin: bool = True) -> Form:
    """The first form of an Accept header that can be given; raises the 406 of kube-apiserver where there is none.

    `protobuf`: whether whole objects can be written so. Custom resources cannot, their bare metadata can.
    """
    if not accept.strip():
        return PLAIN
    known = False
    for clause in accept.split(","):
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        options = dict(part.partition("=")[::2] for part in parameters)
        shape, version = options.get("as", ""), options.get("v", "")
        written = _WRITTEN.get(media_type)
        known = known or written is not None
        if shape and (options.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1")):
            continue
        if shape not in ("", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
            continue
        if written == PROTOBUF and (shape == "Table" or not (protobuf or shape)):
            continue
        if written:
            return Form(written, shape, version or "v1")
    if builtin and not known:  # the router of built-in kinds refuses what nothing of the API is written in
        raise ApiError(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {_TYPES}")
    raise not_acceptable()


_TYPES = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


def not_acceptable() -> ApiError:
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {_TYPES}")


def encode(document: Any, media_type: str) -> bytes:
    """A document in a media type."""
    if media_type == YAML:
        return yaml.dump(document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False).encode()
    if media_type == PROTOBUF:
        return encode_document(document)
    return orjson.dumps(document)


def error_media_type(accept: str) -> str:
    """What an error is written in: the first media type that is asked for and can be given, whatever its shape."""
    for clause in accept.split(","):
        written = _WRITTEN.get(clause.partition(";")[0].strip())
        if written and ";as=" not in clause.replace(" ", ""):
            return written
    return JSON


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
            "items": [partial_metadata(obj, form.version) for obj in objects] or None,
        }
    kind = resource.kind
    if resource.custom:
        items = objects
        metadata = {"continue": "", **metadata}
    else:  # items of a list of a built-in kind carry neither kind nor apiVersion
        items = [{key: obj[key] for key in obj if key not in ("kind", "apiVersion")} for obj in objects]
    return {"kind": resource.list_kind, "apiVersion": kind.api_version, "metadata": metadata, "items": items}
