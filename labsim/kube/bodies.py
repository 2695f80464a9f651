"""Request bodies: JSON, YAML and protobuf, each to a JSON tree; and the patches that clients send."""

from __future__ import annotations

from typing import Any

import orjson
import yaml

from labsim.kube.errors import ApiError, bad_request
from labsim.kube.protobuf import BadProtobuf, decode_body
from labsim.model.http import Request

MAX_BODY_BYTES = 3 * 1024 * 1024
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY_PATCH,
)
_CUSTOM_PATCH_TYPES = tuple(name for name in PATCH_TYPES if "strategic" not in name)
_JSON_TYPES = ("", "application/json")
_YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
_PROTOBUF = "application/vnd.kubernetes.protobuf"


def media_type(request: Request) -> str:
    """The body's media type without parameters, "" where none is given."""
    given = request.headers.get("content-type", "")
    return given if given in PATCH_TYPES else given.partition(";")[0].strip().lower()


def check_size(request: Request) -> None:
    """Raise the 413 for a body above the limit."""
    if len(request.body) > MAX_BODY_BYTES:
        raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY_BYTES}")


def object_body(request: Request, *, builtin: bool) -> dict[str, Any]:
    """The object that a request carries. Protobuf is understood for built-in kinds only, as upstream does."""
    kind = media_type(request)
    if kind in _JSON_TYPES:
        document = _json(request.body)
    elif kind in _YAML_TYPES:
        document = _yaml(request.body)
    elif kind == _PROTOBUF and builtin:
        try:
            document = decode_body(request.body)
        except BadProtobuf as problem:
            raise bad_request(f"the body of the request could not be decoded: {problem}") from problem
    else:
        raise _unsupported(kind, ("application/json", "application/yaml", _PROTOBUF))
    if not isinstance(document, dict):
        raise bad_request("the object provided is unrecognized (must be of type Object): it is no JSON object")
    return document


def patch_body(request: Request, *, builtin: bool) -> tuple[str, Any]:
    """(patch type, decoded patch) of a PATCH."""
    kind = media_type(request)
    allowed = PATCH_TYPES if builtin else _CUSTOM_PATCH_TYPES
    if kind not in allowed:
        raise _unsupported(kind, allowed)
    document = _yaml(request.body) if kind == APPLY_PATCH else _json(request.body)
    wanted = list if kind == "application/json-patch+json" else dict
    if not isinstance(document, wanted):
        what = "a JSON patch must be a list of operations" if wanted is list else "a patch must be an object"
        raise bad_request(f"error decoding patch: {what}")
    return kind, document


def _json(body: bytes) -> Any:
    if not body:
        raise bad_request("the request has no body: an object is expected")
    try:
        return orjson.loads(body)
    except ValueError as problem:
        raise bad_request(f"the body of the request is not valid JSON: {problem}") from problem


def _yaml(body: bytes) -> Any:
    try:  # clients send JSON under the name of YAML, and JSON is read a hundred times faster
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        return yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError as problem:
        raise bad_request(f"the body of the request is not valid YAML: {problem}") from problem


def _unsupported(kind: str, accepted: tuple[str, ...]) -> ApiError:
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
        + (f" (it was {kind})" if kind and kind not in accepted else ""),
    )
