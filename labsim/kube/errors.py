"""The errors of the API, as clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from labsim.model.kinds import Kind


class ApiError(Exception):
    """An answer that is no success: HTTP code, reason ("" for none), message and details of its Status.

    `details` of None leaves them out of the Status, an empty mapping shows them empty.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.metadata = metadata or {}
        self._shows_details = details is not None

    def status(self) -> dict[str, Any]:
        """The Status object that says this."""
        body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": self.metadata, "status": "Failure"}
        body["message"] = self.message
        if self.reason:
            body["reason"] = self.reason
        if self.details or self._shows_details:
            body["details"] = self.details
        return {**body, "code": self.code}


class Undecodable(ApiError):
    """400 for a body that is no object of its kind; `problem` is what is wrong, without the words about whose it is."""

    def __init__(self, kind: Kind, problem: str) -> None:
        text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {problem}'
        super().__init__(400, "BadRequest", text)
        self.problem = problem


def _details(kind: Kind, name: str, what: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name} if name else {}
    if kind.group:
        found["group"] = kind.group
    return {**found, "kind": what or kind.plural}


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.qualified} "{name}" not found', _details(kind, name))


def no_resource() -> ApiError:
    """Nothing is served at this path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str, *, deleting: bool = False) -> ApiError:
    text = f'{kind.qualified} "{name}" already exists'
    return ApiError(
        409, "AlreadyExists", f"object is being deleted: {text}" if deleting else text, _details(kind, name)
    )


def conflict(kind: Kind, name: str, message: str = "") -> ApiError:
    text = message or "the object has been modified; please apply your changes to the latest version and try again"
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on {kind.qualified} "{name}": {text}', _details(kind, name)
    )


def precondition_failed(kind: Kind, name: str, message: str) -> ApiError:
    """A conflict that storage finds: it names the Kind, not the resource."""
    what = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    text = f'Operation cannot be fulfilled on {what} "{name}": {message}'
    return ApiError(409, "Conflict", text, _details(kind, name, kind.kind))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(kind: Kind, name: str, message: str) -> ApiError:
    return ApiError(403, "Forbidden", f'{kind.qualified} "{name}" is forbidden: {message}', _details(kind, name))


def method_not_allowed(kind: Kind, action: str) -> ApiError:
    text = f'{action} is not supported on resources of kind "{kind.qualified}"'
    return ApiError(405, "MethodNotAllowed", text, _details(kind, ""))


def invalid(kind: Kind, name: str, causes: Sequence[dict[str, str]], *, what: str = "") -> ApiError:
    """422 for causes that have reason, message and field. `what` names the kind otherwise than by its Kind."""
    texts = list(dict.fromkeys(f"{cause['field']}: {cause['message']}" for cause in causes))
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    named = what or kind.kind
    shown = f"{named}.{kind.group}" if kind.group else named
    details = {**_details(kind, name, named), "causes": list(causes)}
    return ApiError(422, "Invalid", f'{shown} "{name}" is invalid: {text}', details)


def invalid_options(options: str, field: str, reason: str, message: str) -> ApiError:
    """422 for an option of a request (`DeleteOptions`, `PatchOptions`, ...)."""
    cause = {"reason": reason, "message": message, "field": field}
    details = {"group": "meta.k8s.io", "kind": options, "causes": [cause]}
    return ApiError(422, "Invalid", f'{options}.meta.k8s.io "" is invalid: {field}: {message}', details)


def invalid_patch(shown: str, problem: str) -> ApiError:
    """422 for a patch that does not make an object of its kind; `shown` is what it made, or the patch itself."""
    text = f"Invalid value: {orjson.dumps(shown).decode()}: {problem}"
    details = {"causes": [cause("FieldValueInvalid", text, "patch")]}
    return ApiError(422, "Invalid", f' "" is invalid: patch: {text}', details)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def cause(reason: str, message: str, field: str) -> dict[str, str]:
    """One cause of an Invalid answer."""
    return {"reason": reason, "message": message, "field": field}
