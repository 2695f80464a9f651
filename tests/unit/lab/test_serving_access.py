"""Who reaches what on a lab's port: nobody, an administrator, a reader, an agent."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import yaml

from labsim.hub.embedded.edge import MAX_BODY_BYTES
from labsim.hub.role import Role
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.serving import Serving
from labsim.model.http import Request, Response, request_for_url
from labsim.model.kinds import INFRA_ENV
from labsim.model.objects import Object, new
from labsim.model.scenario import load_scenario

SPEC = load_scenario(Path(__file__).parents[3] / "scenarios" / "label-selector.yaml").spec.lab
AGENTS = "/apis/agent-install.openshift.io/v1beta1/agents"
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
SERVICE = "/api/assisted-install/v2"
SETTLED_S = 600.0


class Asked:
    """A lab that is served, asked without sockets."""

    def __init__(self, folder: Path) -> None:
        self.serving = Serving()
        self.lab = Lab(SPEC, LabOptions(name="one", folder=folder))
        self.lab.make()
        self.serving.attach(self.lab)
        self.lines: list[dict[str, Any]] = []
        self.lab.world.history.listen(self.lines.append)

    def ask(self, method: str, url: str, token: str = "", body: Any = None, **headers: str) -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["authorization"] = f"Bearer {token}"
        request = request_for_url(method, f"https://hub{url}", headers=sent)
        request.body = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.given(request)

    def given(self, request: Request) -> Response:
        answer = self.serving._handle(request)
        if isinstance(answer, Future):
            world = self.lab.world
            world.run_until(answer.done, world.now() + SETTLED_S)
            return answer.result(0)
        return answer

    def infra_env(self, name: str) -> Object:
        """An InfraEnv with its image."""
        namespace = SPEC.namespace
        spec = {"pullSecretRef": {"name": "pull-secret"}, "cpuArchitecture": "x86_64"}
        present = self.lab.hub.get(INFRA_ENV, namespace, name)
        if present is None:
            self.lab.hub.create(new(INFRA_ENV, namespace, name, spec=spec), INFRA_ENV)
        world = self.lab.world
        world.run_until(lambda: bool(self._image_url(name)), world.now() + SETTLED_S)
        found = self.lab.hub.get(INFRA_ENV, namespace, name)
        assert found is not None
        return found

    def _image_url(self, name: str) -> str:
        found = self.lab.hub.get(INFRA_ENV, SPEC.namespace, name) or {}
        return str(found.get("status", {}).get("isoDownloadURL", ""))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    made = Asked(tmp_path_factory.mktemp("lab"))
    try:
        yield made
    finally:
        made.serving.close()


def message(answer: Response) -> tuple[int, str]:
    return answer.status, answer.json()["message"]


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
def test_nobody_sees_health_and_version(asked: Asked, path: str) -> None:
    assert asked.ask("GET", path).status == 200


@pytest.mark.parametrize("path", ["/api", "/apis", "/openapi/v3", AGENTS, "/api/v1/secrets", "/metrics"])
def test_nobody_sees_anything_else(asked: Asked, path: str) -> None:
    assert asked.ask("GET", path).status == 403
    assert asked.ask("GET", path, "wrong").status == 401
    assert asked.ask("GET", path, authorization="Basic YTpi").status == 403, "Basic names nobody that is known"


def test_a_reader_reads_everything_but_secrets(asked: Asked) -> None:
    reader = asked.serving.reader_token
    for path in (AGENTS, "/api/v1/namespaces", "/api/v1/namespaces/default/configmaps?watch=true", "/api", "/version"):
        assert asked.ask("GET", path, reader).status == 200, path
    told = 'User "labsim:reader" cannot {} resource "secrets" in API group "" at the cluster scope'
    assert message(asked.ask("GET", "/api/v1/secrets", reader)) == (403, "secrets is forbidden: " + told.format("list"))
    refused = message(asked.ask("GET", "/api/v1/secrets?watch=1", reader))
    assert refused == (403, "secrets is forbidden: " + told.format("watch"))


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [("POST", "", "create"), ("PUT", "/a", "update"), ("PATCH", "/a", "patch"), ("DELETE", "/a", "delete")],
)
def test_a_reader_writes_nothing(asked: Asked, method: str, path: str, verb: str) -> None:
    space = "/apis/agent-install.openshift.io/v1beta1/namespaces/default/agents"
    name = ' "a"' if path else ""
    assert message(asked.ask(method, space + path, asked.serving.reader_token, {})) == (
        403,
        f'agents.agent-install.openshift.io{name} is forbidden: User "labsim:reader" cannot {verb} resource "agents" '
        'in API group "agent-install.openshift.io" in the namespace "default"',
    )


def test_a_reader_can_ask_what_he_may(asked: Asked) -> None:
    def may(verb: str, resource: str) -> bool:
        body = {"spec": {"resourceAttributes": {"verb": verb, "resource": resource}}}
        return bool(asked.ask("POST", REVIEW, asked.serving.reader_token, body).json()["status"]["allowed"])

    assert [may("list", "pods"), may("list", "secrets"), may("create", "pods")] == [True, False, False]
    rules = REVIEW.replace("access", "rules")
    listed = asked.ask("POST", rules, asked.serving.reader_token, {"spec": {"namespace": "default"}}).json()["status"]
    core = next(rule["resources"] for rule in listed["resourceRules"] if rule["apiGroups"] == [""])
    assert ("pods" in core, "secrets" in core) == (True, False)
    assert "exceptResources" not in str(listed)


def test_tokens_are_not_those_of_somebody_else(asked: Asked) -> None:
    """An administrator's token opens nothing of CIM, and an agent's nothing of the Kubernetes API."""
    infra_env = asked.infra_env("lab")
    agent = infra_env["status"]["isoDownloadURL"].split("/byapikey/")[1].split("/")[0]
    assert asked.ask("GET", AGENTS, agent).status == 401
    assert asked.ask("GET", "/version", agent).status == 401
    uid = infra_env["status"]["debugInfo"]["eventsURL"].split("infra_env_id=")[1].split("&")[0]
    hosts = f"{SERVICE}/infra-envs/{uid}/hosts"
    for token in (asked.serving.admin_token, asked.serving.reader_token):
        assert asked.ask("POST", hosts, token, {}).status == 401
        assert asked.ask("POST", hosts, "", {}, x_secret_key=token).status == 401
        assert asked.ask("GET", f"{SERVICE}/events?infra_env_id={uid}&api_key={token}").status == 401
    assert asked.ask("POST", hosts, "", {}, x_secret_key=agent).status == 400, "let in: a host_id is missing"


def test_an_agents_token_reaches_only_its_infraenv_where_upstreams_does(asked: Asked) -> None:
    """Upstream binds a token in a URL to its InfraEnv; the header of an agent is good for any."""
    first, second = (asked.infra_env(name) for name in ("lab", "other"))
    events = [each["status"]["debugInfo"]["eventsURL"] for each in (first, second)]
    queries = [dict(pair.split("=") for pair in url.partition("?")[2].split("&")) for url in events]
    own, others = (query["infra_env_id"] for query in queries)
    token = queries[0]["api_key"]
    for path, status in (
        (f"/events?infra_env_id={own}&api_key={token}", 200),
        (f"/events?infra_env_id={others}&api_key={token}", 404),
        (f"/infra-envs/{own}/downloads/files?file_name=discovery.ign&api_key={token}", 200),
        (f"/infra-envs/{others}/downloads/files?file_name=discovery.ign&api_key={token}", 404),
        (f"/infra-envs/{others}?api_key={token}", 404),
        (f"/events?infra_env_id={own}", 401),
        (f"/infra-envs/{own}", 401),
    ):
        assert asked.ask("GET", SERVICE + path).status == status, path
    header = asked.ask("GET", f"{SERVICE}/events?infra_env_id={others}", x_secret_key=token)
    assert header.status == 200
    image = first["status"]["isoDownloadURL"].partition("/byapikey/")[2].split("/", 1)[1]
    assert asked.ask("GET", f"/byapikey/x.y.z/{image}").status == 404
    tampered = token[:-8] + ("A" * 8)
    assert asked.ask("GET", f"/byapikey/{tampered}/{image}").status == 401


def test_users_of_the_rest_api_act_through_objects(asked: Asked) -> None:
    host = f"{SERVICE}/infra-envs/{'0' * 8}-0000-0000-0000-{'0' * 12}/hosts/{'1' * 8}-0000-0000-0000-{'0' * 12}"
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/actions/bind")):
        assert asked.ask(method, host + path, x_secret_key="x").status == 401


def test_a_body_that_is_too_large_is_refused_by_cim_too(asked: Asked) -> None:
    assert asked.ask("POST", f"{SERVICE}/infra-envs/x/hosts", "", b"x" * (MAX_BODY_BYTES + 1)).status == 413


def test_each_role_has_a_kubeconfig_of_its_own(asked: Asked, tmp_path: Path) -> None:
    tokens = []
    for role in Role:
        asked.serving.write_kubeconfig(tmp_path / role, role)
        config = yaml.safe_load((tmp_path / role).read_text())
        assert config["current-context"] == f"labsim-{role}"
        assert (tmp_path / role).stat().st_mode & 0o777 == 0o600
        tokens.append(config["users"][0]["user"]["token"])
    assert tokens == [asked.serving.admin_token, asked.serving.reader_token]


def test_no_token_stands_in_history_or_log(asked: Asked, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    agent = asked.infra_env("lab")["status"]["isoDownloadURL"].split("/byapikey/")[1].split("/")[0]
    for token in (asked.serving.admin_token, asked.serving.reader_token, agent):
        asked.ask("POST", f"/api/v1/namespaces/{token}/configmaps", token, {"kind": token})
        asked.ask("GET", f"/byapikey/{token}/x/y/z")
        written = asked.lab.world.history.redacted(json.dumps(asked.lines).encode()).decode()
        assert token not in written
        assert token not in caplog.text


def test_what_a_client_says_is_kept_in_short(asked: Asked) -> None:
    """Found: each of a thousand clients could leave a megabyte, and a line of the history each."""
    known = len(asked.lines)
    for token in ("", asked.serving.admin_token):
        asked.ask("POST", f"/api/v1/{'a' * 100_000}?x={'b' * 100_000}", token, user_agent="c" * 100_000)
    assert len(asked.lines) >= known + 4
    assert len(json.dumps(asked.lines[known:])) < 20_000
    assert asked.lab.clients is not None
    assert len(str(asked.lab.clients._counts)) < 5_000
