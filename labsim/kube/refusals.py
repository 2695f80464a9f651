"""Refusals in upstream's words: of a method, a form, a revision."""

from __future__ import annotations

from labsim.kube.catalog import Resource
from labsim.kube.errors import ApiError

NO_METHOD = "the server does not allow this method on the requested resource"


def not_a_list(resource: Resource) -> ApiError:
    if resource.custom:
        return ApiError(500, "", "content is not a list")
    text = f"you requested PartialObjectMetadataList, but the requested object is not a list ({_go_object(resource)})"
    return ApiError(406, "NotAcceptable", text)


def is_a_list(resource: Resource) -> ApiError:
    shown = _go_object(resource, "List")
    text = f"you requested PartialObjectMetadata, but the requested object is a list ({shown})"
    return ApiError(406, "NotAcceptable", text)


def _go_object(resource: Resource, suffix: str = "") -> str:
    """What Go calls an object of a resource, as it is in memory."""
    if resource.custom:
        return f"*unstructured.Unstructured{suffix}"
    package = resource.kind.group.partition(".")[0] or "core"
    return f"*{package}.{resource.kind.kind}{suffix}"


def no_method() -> ApiError:
    return ApiError(405, "MethodNotAllowed", NO_METHOD, {})


def too_large(wanted: int, current: int) -> ApiError:
    """A resourceVersion of the future. Upstream waits some seconds before it says so; here the client waits."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    return ApiError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})
