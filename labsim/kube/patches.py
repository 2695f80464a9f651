"""The patch types that change an object as it is: JSON patch, merge patch, strategic merge patch."""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer
import orjson

from labsim.kube.body_limits import MAX_COPIED_BYTES, is_too_deep, too_deep
from labsim.kube.errors import ApiError, bad_request
from labsim.kube.go_json import kind_of
from labsim.kube.merging import merge_patched, strategically_merged
from labsim.kube.shapes import Shape

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_REJECTED = "the server rejected our request due to an error in our request"


def patched(obj: Any, body: Any, patch_type: str, *, is_custom: bool, shape: Shape) -> Any:
    """The object with a patch applied; `obj` may be changed. Raises ApiError for a patch that does not fit."""
    if patch_type == JSON_PATCH:
        return _json_patched(obj, body)
    accepted = [JSON_PATCH, MERGE_PATCH, *([] if is_custom else [STRATEGIC_MERGE_PATCH]), APPLY_PATCH]
    if patch_type not in accepted:
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}",
        )
    if not isinstance(body, dict):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    if patch_type == STRATEGIC_MERGE_PATCH:
        return strategically_merged(obj, body, shape)
    return merge_patched(obj, body)


def _json_patched(obj: Any, body: Any) -> Any:
    if not isinstance(body, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    copied_bytes = 0
    try:
        for operation in body:
            if operation.get("op") == "replace" and _is_missing(obj, str(operation.get("path"))):
                operation = {**operation, "op": "add"}  # upstream's library replaces what is not there, too
            if operation.get("op") == "copy" and _is_missing(obj, str(operation.get("from"))):
                operation = {"op": "add", "path": operation.get("path"), "value": None}  # and copies it as null
            if operation.get("op") == "copy":
                copied_bytes += _copied_bytes(obj, str(operation["from"]))
                if copied_bytes > MAX_COPIED_BYTES:
                    raise ApiError(422, "Invalid", _REJECTED, {})
            obj = jsonpatch.apply_patch(obj, [operation], in_place=True)
        if not isinstance(obj, dict):
            raise bad_request(f"json: cannot unmarshal {kind_of(obj)} into Go value of type map[string]interface {{}}")
        if is_too_deep(obj):
            raise too_deep()
        return obj
    except (
        jsonpatch.JsonPatchException,
        jsonpointer.JsonPointerException,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as problem:
        raise ApiError(422, "Invalid", _REJECTED, {}) from problem


def _copied_bytes(obj: Any, path: str) -> int:
    """How much text a copy makes: a patch that copies what it has copied would grow without end."""
    return len(orjson.dumps(jsonpointer.resolve_pointer(obj, path)))


def _is_missing(obj: Any, path: str) -> bool:
    """Whether the last step of a path is absent from the object that it leads to."""
    if not path:
        return False
    parent, _, key = path.rpartition("/")
    holder = jsonpointer.resolve_pointer(obj, parent, None)
    return isinstance(holder, dict) and key.replace("~1", "/").replace("~0", "~") not in holder
