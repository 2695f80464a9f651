"""A control plane's OAuth server and Konnectivity server: they speak enough to be reached, and to be missed."""

from __future__ import annotations

import orjson

from labsim.controllers.runtime.effects import Program
from labsim.model.http import Request, Response

_JSON = {"content-type": "application/json"}


def answer_oauth(request: Request) -> Program[Response]:
    """Health, discovery (RFC 8414), and the challenge that a login begins with. Nobody is let in: it has no users."""
    yield from ()
    if request.path in ("/healthz", "/readyz", "/livez"):
        return Response(status=200, body=b"ok")
    if request.path == "/.well-known/oauth-authorization-server":
        return Response(status=200, headers=_JSON, body=orjson.dumps(_metadata(f"https://{request.host}")))
    if request.path == "/oauth/authorize":
        return Response(status=401, headers={"www-authenticate": 'Basic realm="openshift"'})
    return Response(status=404, body=b"404 page not found\n")


def answer_konnectivity(request: Request) -> Program[Response]:
    """What a gRPC server says to a client that speaks HTTP/1.1: it is there."""
    yield from ()
    return Response(status=400, body=b"gRPC requires HTTP/2\n")


def _metadata(issuer: str) -> dict[str, object]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "scopes_supported": ["user:check-access", "user:full", "user:info", "user:list-projects"],
        "response_types_supported": ["code", "token"],
        "grant_types_supported": ["authorization_code", "implicit"],
        "code_challenge_methods_supported": ["plain", "S256"],
    }
