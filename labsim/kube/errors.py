"""The errors of the API, as clients see them."""

from __future__ import annotations

from typing import Any

from labsim.model.kinds import Kind


class ApiError(Exception):
    """An answer that is no success: HTTP code, reason, message and details of its Status."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> dict[str, Any]:
        """The Status object that says this."""
        body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body.update(message=self.message, reason=self.reason)
        if self.details:
            body["details"] = self.details
        return {**body, "code": self.code}


def _details(kind: Kind, name: str, what: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    if kind.group:
        found["group"] = kind.group
    return {**found, "kind": what or kind.plural}


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.qualified} "{name}" not found', _details(kind, name))


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, message: str = "") -> ApiError:
    text = message or "the object has been modified; please apply your changes to the latest version and try again"
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on {kind.qualified} "{name}": {text}', _details(kind, name)
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(kind: Kind, name: str, message: str) -> ApiError:
    return ApiError(403, "Forbidden", f'{kind.qualified} "{name}" is forbidden: {message}', _details(kind, name))


def invalid(kind: Kind, name: str, causes: list[dict[str, str]]) -> ApiError:
    """`causes` have reason, message and field."""
    texts = [f"{cause['field']}: {cause['message']}" for cause in causes]
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    what = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details = {**_details(kind, name, kind.kind), "causes": causes}
    return ApiError(422, "Invalid", f'{what} "{name}" is invalid: {text}', details)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)
