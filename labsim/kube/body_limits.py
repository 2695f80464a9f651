"""How large, how deep and how many: what a request's body may be, with the answers of a real server.

Upstream reads 10,000 levels; the JSON library here writes 254, so what is deeper than MAX_DEPTH is refused where
upstream would take it. An object that etcd would not take is refused as etcd refuses it: sizes are those of the JSON
text, where etcd's are those of the stored form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from labsim.kube.errors import ApiError, bad_request
from labsim.model.http import Request
from labsim.model.objects import Object

MAX_BODY_BYTES = 3 * 1024 * 1024
MAX_JSON_PATCH_OPERATIONS = 10_000
MAX_COPIED_BYTES = MAX_BODY_BYTES  # by the copy operations of one JSON patch
MAX_DEPTH = 200
MAX_STORED_BYTES = 1_572_864  # etcd's 1.5 MiB for a request
MAX_MESSAGE_BYTES = 2_097_152  # of gRPC, which never reaches etcd
_ENVELOPE_BYTES = 100  # of such a request, beside key and value
_WRITTEN_DEPTH = 254  # that the JSON library writes
LOOKED_AT_FROM_BYTES = 1 << 20  # what can grow beyond this by a write is written in a dry run first


def check_size(request: Request) -> None:
    """Raise the 413 for a body above the limit."""
    if len(request.body) > MAX_BODY_BYTES:
        raise too_large(f"limit is {MAX_BODY_BYTES}")


def too_large(what: str) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {what}")


def check_operations(operations: list[Any]) -> None:
    """Raise the 413 for a JSON patch of too many operations."""
    if len(operations) > MAX_JSON_PATCH_OPERATIONS:
        told = f"The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {len(operations)}"
        raise too_large(told)


def is_too_deep(document: Any) -> bool:
    """Whether a tree goes deeper than MAX_DEPTH."""
    for _ in range(_WRITTEN_DEPTH - MAX_DEPTH):
        document = [document]
    try:
        orjson.dumps(document)
    except TypeError:
        return True
    return False


def could_be_deep(body: bytes) -> bool:
    """Whether a text has the brackets for it: counting costs a hundredth of reading."""
    return body.count(b"[") + body.count(b"{") > MAX_DEPTH


def check_stored(obj: Object) -> None:
    """Raise what a real server answers where etcd does not take an object of this size."""
    size = len(orjson.dumps(obj)) + _ENVELOPE_BYTES
    if size > MAX_MESSAGE_BYTES:
        told = f"trying to send message larger than max ({size} vs. {MAX_MESSAGE_BYTES})"
        raise ApiError(500, "", f"rpc error: code = ResourceExhausted desc = {told}")
    if size > MAX_STORED_BYTES:
        raise ApiError(500, "", "etcdserver: request is too large")


def possible_bytes(request: Request) -> int:
    """How much text a body can make: aliases of YAML and copies of a JSON patch make more than there is."""
    body = request.body
    multiplies = b'"copy"' in body or ("yaml" in request.headers.get("content-type", "") and b"*" in body)
    return len(body) + (LOOKED_AT_FROM_BYTES if multiplies else 0)


def fits(write: Callable[[bool], Object], *, possible_bytes: int, dry_run: bool, warnings: list[str]) -> Object:
    """What `write`(dry run?) makes, once it is known that it is not too large to be stored.

    warnings: where `write` tells them; those of a write that is made twice are told once.
    """
    if possible_bytes > LOOKED_AT_FROM_BYTES and not dry_run:
        before = list(warnings)
        check_stored(write(True))
        warnings[:] = before
    return write(dry_run)


def too_deep(told: str = "") -> ApiError:
    return bad_request(f"{told}exceeded max depth of {MAX_DEPTH}")
