"""What the service answers when it cannot do something: a status code and upstream's text."""

from __future__ import annotations

from labsim.model.http import Response, json_response


class ServiceError(Exception):
    """An error of the service's API. `code` is the HTTP status: 4xx is the caller's input, others our backend."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def is_input_error(self) -> bool:
        return 400 <= self.code < 500


class UntypedError(ServiceError):
    """An error without a status of its own: the API answers 500, controllers call it a backend error."""

    def __init__(self, message: str) -> None:
        super().__init__(500, message)


def error_response(error: ServiceError) -> Response:
    """The service's error document (host-lifecycle 3.1)."""
    return json_response(
        error.code,
        {"kind": "Error", "id": error.code, "href": "", "code": str(error.code), "reason": error.message},
    )


def auth_error_response(code: int, message: str) -> Response:
    """The other shape, for requests that were not let in."""
    return json_response(code, {"code": code, "message": message})
