"""Who may do what: tokens, client certificates, RBAC, reviews, impersonation."""

from __future__ import annotations

import pytest
from kubehttp_api import ALICE_TOKEN, NOW_S, Api

from labsim.entropy import Entropy
from labsim.kube.authentication import certificate_header, user_of_certificate
from labsim.kube.certificates import Identity, issue, self_signed_ca

MAPS = "/api/v1/namespaces/default/configmaps"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CA = self_signed_ca(Entropy(1), "ca", "clients", NOW_S)
OTHER_CA = self_signed_ca(Entropy(2), "ca", "clients", NOW_S)


@pytest.fixture
def api() -> Api:
    made = Api()
    made.client_ca = CA.cert_pem
    return made


def certificate(name: str, *groups: str, ca: Identity = CA, client: bool = True) -> str:
    made = issue(
        ca,
        Entropy(3),
        name,
        name,
        organizations=groups,
        client=client,
        server=not client,
        now_s=NOW_S,
    )
    return certificate_header(made.cert_pem)


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version", "/version/"])
def test_health_and_version_need_no_token(api: Api, path: str) -> None:
    assert api.ask("GET", path, token="").status == 200


@pytest.mark.parametrize("path", [MAPS, "/api", "/apis", "/openapi/v3", "/api/v1"])
def test_nothing_else_is_shown_to_nobody(api: Api, path: str) -> None:
    assert api.document("GET", path, token="", code=403)["reason"] == "Forbidden"
    assert api.document("GET", path, token="wrong", code=401)["reason"] == "Unauthorized"


def test_a_client_certificate_names_user_and_groups(api: Api) -> None:
    user = user_of_certificate(certificate("system:node:w0", "system:nodes"), CA.cert_pem)
    assert user is not None
    assert (user.name, user.groups) == ("system:node:w0", ("system:nodes", "system:authenticated"))


def test_certificates_of_others_and_serving_certificates_are_nobody(api: Api) -> None:
    foreign = certificate("system:admin", "system:masters", ca=OTHER_CA)
    serving = certificate("system:admin", "system:masters", client=False)
    for header in (foreign, serving, "rubbish"):
        assert api.ask("GET", MAPS, token="", x_remote_cert_pem=header).status == 403
    own = certificate("system:admin", "system:masters")
    assert api.ask("GET", MAPS, token="", x_remote_cert_pem=own).status == 200


def test_kubelets_have_the_rights_of_nodes(api: Api) -> None:
    identity = {"token": "", "x_remote_cert_pem": certificate("system:node:w0", "system:nodes")}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w0"}}
    assert api.ask("POST", "/api/v1/nodes", node, **identity).status == 201
    assert api.ask("GET", "/api/v1/pods", **identity).status == 200
    assert api.ask("DELETE", "/api/v1/nodes/w0", **identity).status == 403
    assert api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "x"}}, **identity).status == 403


def test_joining_nodes_may_ask_for_certificates_only(api: Api) -> None:
    identity = {"token": "", "x_remote_cert_pem": certificate("system:bootstrap:abc", "system:bootstrappers")}
    assert api.ask("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests", **identity).status == 200
    assert api.ask("GET", "/api/v1/nodes", **identity).status == 403


def grant(api: Api, kind: str, place: str, role: dict[str, str], subject: dict[str, str]) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "grant"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", **role},
        "subjects": [subject],
    }
    api.document("POST", f"{RBAC}{place}", binding, code=201)


def test_a_role_binding_opens_its_namespace_and_verbs_only(api: Api) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}],
    }
    api.document("POST", f"{RBAC}/namespaces/default/roles", role, code=201)
    place = "/namespaces/default/rolebindings"
    grant(api, "RoleBinding", place, {"kind": "Role", "name": "reader"}, {"kind": "User", "name": "alice"})
    assert api.ask("GET", MAPS, token=ALICE_TOKEN).status == 200
    for method, url in (
        ("GET", MAPS + "?watch=true"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps"),
        ("GET", "/api/v1/configmaps"),
        ("GET", "/api/v1/namespaces/default/secrets"),
        ("DELETE", MAPS),
    ):
        assert api.ask(method, url, token=ALICE_TOKEN).status == 403, url


def test_a_cluster_role_that_nobody_stored_can_be_bound(api: Api) -> None:
    role = {"kind": "ClusterRole", "name": "cluster-admin"}
    grant(api, "ClusterRoleBinding", "/clusterrolebindings", role, {"kind": "Group", "name": "developers"})
    assert api.ask("GET", "/api/v1/secrets", token=ALICE_TOKEN).status == 200


def test_reviews(api: Api) -> None:
    group = "/apis/authorization.k8s.io/v1"
    body = {"spec": {"resourceAttributes": {"verb": "create", "resource": "secrets", "namespace": "default"}}}
    own = group + "/selfsubjectaccessreviews"
    assert api.document("POST", own, body, code=201)["status"]["allowed"] is True
    assert api.document("POST", own, body, code=201, token=ALICE_TOKEN)["status"]["allowed"] is False
    asked = {"spec": {"user": "bob", "groups": ["system:masters"], **body["spec"]}}
    assert api.document("POST", group + "/subjectaccessreviews", asked, code=201)["status"]["allowed"] is True
    assert api.ask("POST", group + "/subjectaccessreviews", asked, token=ALICE_TOKEN).status == 403
    who = api.document("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, code=201, token=ALICE_TOKEN)
    assert who["status"]["userInfo"] == {
        "username": "alice",
        "uid": "alice-uid",
        "groups": ["developers", "system:authenticated"],
    }
    tokens = "/apis/authentication.k8s.io/v1/tokenreviews"
    known = api.document("POST", tokens, {"spec": {"token": ALICE_TOKEN}}, code=201)
    assert known["status"]["authenticated"] is True
    unknown = api.document("POST", tokens, {"spec": {"token": "x"}}, code=201)
    assert unknown["status"] == {"user": {}, "error": "invalid bearer token"}


def test_impersonation_is_for_those_who_may(api: Api) -> None:
    assert api.ask("GET", MAPS, impersonate_user="bob").status == 403
    assert api.ask("GET", MAPS, impersonate_user="bob", impersonate_group="system:masters").status == 200
    refused = api.ask("GET", MAPS, token=ALICE_TOKEN, impersonate_user="bob", impersonate_group="system:masters")
    assert refused.status == 403
