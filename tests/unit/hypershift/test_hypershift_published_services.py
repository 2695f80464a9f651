"""The OAuth and Konnectivity servers of a control plane, as somebody meets them who looks whether they are there."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from labsim.controllers.hypershift.published_services import answer_konnectivity, answer_oauth
from labsim.controllers.runtime.effects import Program
from labsim.model.http import Request, Response, request_for_url

OAUTH = "https://api.example.krnl.es:30443"


def answered(serve: Callable[[Request], Program[Response]], url: str) -> Response:
    program = serve(request_for_url("GET", url))
    with pytest.raises(StopIteration) as ended:
        next(program)
    response = ended.value.value
    assert isinstance(response, Response)
    return response


def test_oauth_is_healthy_and_tells_where_logins_go() -> None:
    assert answered(answer_oauth, f"{OAUTH}/healthz").body == b"ok"
    told = orjson.loads(answered(answer_oauth, f"{OAUTH}/.well-known/oauth-authorization-server").body)
    assert told["issuer"] == OAUTH
    assert told["authorization_endpoint"] == f"{OAUTH}/oauth/authorize"


def test_a_login_is_challenged() -> None:
    challenge = answered(answer_oauth, f"{OAUTH}/oauth/authorize?client_id=openshift-challenging-client")
    assert (challenge.status, challenge.headers["www-authenticate"]) == (401, 'Basic realm="openshift"')
    assert answered(answer_oauth, f"{OAUTH}/nothing").status == 404


def test_konnectivity_wants_http_2() -> None:
    answer = answered(answer_konnectivity, "https://api.example.krnl.es:30091/")
    assert (answer.status, answer.body) == (400, b"gRPC requires HTTP/2\n")
