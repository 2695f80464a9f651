"""The OAuth and Konnectivity servers of a control plane, as somebody meets them who looks whether they are there."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypershift_hub import PLACE, Hub

from labsim.controllers.hypershift.published_services import answer_konnectivity, answer_oauth
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import Program
from labsim.model.http import Request, Response, request_for_url
from labsim.model.kinds import HOSTED_CLUSTER, SECRET, SERVICE
from labsim.model.objects import dig

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


def test_a_hub_without_routes_refuses_a_cluster_that_has_them() -> None:
    hub = Hub()
    hub.add_storage_class()
    hub.create_cluster(api_server_publishing="LoadBalancer")
    hub.run_for(30)
    said = hub.says(HOSTED_CLUSTER, "clusters", "example", "ValidConfiguration")
    text = 'cluster does not support Routes, but service "Ignition" is exposed via a Route'
    assert said == ("False", "InvalidConfiguration", text)


def test_an_api_server_without_a_load_balancer_waits_and_is_made_for_its_address_then() -> None:
    hub = Hub(settings=HyperShiftSettings(routes_domain="apps.hub.example"))
    hub.add_storage_class()
    hub.create_cluster(api_server_publishing="LoadBalancer")
    hub.run_for(600)
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "InfrastructureReady")[:2] == (
        "False",
        "WaitingOnInfrastructureReady",
    )
    assert hub.find(SECRET, PLACE, "kas-server-crt") is None
    hub.set_status(SERVICE, PLACE, "kube-apiserver", {"loadBalancer": {"ingress": [{"ip": "192.0.2.200"}]}})
    hub.run_until(hub.available, 1200)
    cluster = hub.find(HOSTED_CLUSTER, "clusters", "example")
    assert dig(cluster, "status", "controlPlaneEndpoint") == {"host": "192.0.2.200", "port": 6443}
    assert dig(cluster, "status", "ignitionEndpoint") == "ignition-server-clusters-example.apps.hub.example"
    assert dig(cluster, "status", "oauthCallbackURLTemplate") == (
        "https://oauth-clusters-example.apps.hub.example:443/oauth2callback/[identity-provider-name]"
    )
