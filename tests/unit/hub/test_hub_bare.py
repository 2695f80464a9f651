"""The API alone: users from a file, anonymous requests, nothing that collects garbage."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labsim.errors import InvalidFile, UsageError
from labsim.hub.embedded.bare import BareHub
from labsim.hub.embedded.token_file import read_token_file

TOKENS = """
# who may do what
admin-token,admin,admin-uid,"system:masters"
user-token,alice,alice-uid,"developers,testers"
"""


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.csv"
    path.write_text(TOKENS)
    return path


@pytest.fixture
def hub(token_file: Path) -> Iterator[BareHub]:
    made = BareHub(read_token_file(token_file))
    try:
        yield made
    finally:
        made.close()


def ask(hub: BareHub, method: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
    context = ssl.create_default_context(cadata=hub.ca_pem)
    connection = http.client.HTTPSConnection("127.0.0.1", hub.port, timeout=10, context=context)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    is_json = response.headers["Content-Type"].startswith("application/json")
    return response.status, json.loads(data) if is_json else data


def test_users_are_those_of_the_file(hub: BareHub) -> None:
    assert ask(hub, "GET", "/api/v1/namespaces", "admin-token")[0] == 200
    code, refused = ask(hub, "GET", "/api/v1/namespaces", "user-token")
    assert (code, 'User "alice" cannot list' in refused["message"]) == (403, True)
    code, refused = ask(hub, "GET", "/api/v1/namespaces")
    assert (code, "system:anonymous" in refused["message"]) == (403, True)
    assert ask(hub, "GET", "/api/v1/namespaces", "another")[0] == 401
    assert ask(hub, "GET", "/readyz") == (200, b"ok")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    made = ask(hub, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "user-token", review)[1]
    known = made["status"]["userInfo"]
    assert (known["uid"], known["groups"]) == ("alice-uid", ["developers", "testers", "system:authenticated"])


def test_nothing_runs_behind_the_api(hub: BareHub) -> None:
    groups = ask(hub, "GET", "/apis", "admin-token")[1]["groups"]
    assert not [group["name"] for group in groups if "agent" in group["name"]]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab"}}
    assert ask(hub, "POST", "/api/v1/namespaces", "admin-token", space)[0] == 201
    assert ask(hub, "DELETE", "/api/v1/namespaces/lab", "admin-token")[0] == 200
    left = ask(hub, "GET", "/api/v1/namespaces/lab", "admin-token")[1]
    assert left["status"]["phase"] == "Terminating"
    space["spec"] = {"finalizers": []}
    assert ask(hub, "PUT", "/api/v1/namespaces/lab/finalize", "admin-token", space)[0] == 200
    assert ask(hub, "GET", "/api/v1/namespaces/lab", "admin-token")[0] == 404


def test_the_kubeconfig_is_that_of_one_user(hub: BareHub, tmp_path: Path) -> None:
    hub.write_kubeconfig(tmp_path / "kubeconfig", "user-token", "alice")
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert config["clusters"][0]["cluster"]["server"] == hub.url
    assert config["users"][0]["user"] == {"token": "user-token"}


def test_every_wrong_line_of_a_token_file_is_told_without_its_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text("s3cret-a,alice\ns3cret-b,bob,1\ns3cret-b,carol,2\n,dave,3\ns3cret-e,eve,4,g1,g2\n")
    with pytest.raises(InvalidFile) as wrong:
        read_token_file(path)
    assert [place for place, _, _ in wrong.value.problems] == ["line 1", "line 3", "line 4", "line 5"]
    assert "s3cret" not in wrong.value.message
    for missing in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_token_file(missing)
    path.write_text("# nobody\n")
    with pytest.raises(UsageError, match="names nobody"):
        read_token_file(path)


def test_a_method_that_nobody_knows_is_refused_as_such(hub: BareHub) -> None:
    assert ask(hub, "FROB", "/api/v1/namespaces", "admin-token")[0] == 405
    assert ask(hub, "GET", "/api/v1/namespaces", "admin-token")[0] == 200


def test_every_answer_can_be_found_again(hub: BareHub) -> None:
    context = ssl.create_default_context(cadata=hub.ca_pem)
    connection = http.client.HTTPSConnection("127.0.0.1", hub.port, timeout=10, context=context)
    seen = []
    for headers in ({}, {"Audit-ID": "mine"}, {"Authorization": "Bearer wrong"}):
        connection.request("GET", "/version", headers=headers)
        response = connection.getresponse()
        response.read()
        seen.append((response.headers["Audit-Id"], "X-Kubernetes-Pf-FlowSchema-UID" in response.headers))
    connection.close()
    assert len(seen[0][0]) == 36
    assert (seen[0][1], seen[1], seen[2][1]) == (True, ("mine", True), False)
