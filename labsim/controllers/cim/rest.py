"""assisted-service's REST API, as far as the node side and the image service use it (host-lifecycle section 3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import orjson

from labsim.controllers.cim.access import Access, Unauthenticated
from labsim.controllers.cim.agent_creation import ensure_agent
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.documents import (
    API_PREFIX,
    cluster_document,
    host_document,
)
from labsim.controllers.cim.downloads import Downloads
from labsim.controllers.cim.errors import ServiceError, auth_error_response, error_response
from labsim.controllers.cim.instructions import Instructions
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.monitor import HostMonitor
from labsim.controllers.cim.replies import StepReplies
from labsim.controllers.cim.rows import Host, InfraEnv
from labsim.controllers.runtime.effects import Program, now
from labsim.kube.errors import ApiError
from labsim.model.http import Request, Response, json_response

_UUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_INT64 = re.compile(r"^[+-]?\d{1,18}$", re.ASCII)
LOGS_STATES = ("requested", "collecting", "completed", "timeout")
PLATFORMS = ["baremetal", "none"]
_USER_ACTIONS = ("bind", "unbind", "install", "reset")
_REGISTER = ("POST", "infra-envs", "*", "hosts")

Route = Callable[[Request, list[str], float], Response]


class RestApi:
    """The handler "assisted-service"."""

    def __init__(
        self,
        *,
        lifecycle: HostLifecycle,
        monitor: HostMonitor,
        instructions: Instructions,
        replies: StepReplies,
        access: Access,
        downloads: Downloads,
    ) -> None:
        self._lifecycle = lifecycle
        self._database: Database = lifecycle.database
        self._settings = lifecycle.settings
        self._monitor = monitor
        self._instructions = instructions
        self._replies = replies
        self._access = access
        self._downloads = downloads
        # Everything but a registration, which creates an Agent. By method and path, with * for an element that
        # varies; the elements come in order.
        self._routes: dict[tuple[str, ...], Route] = {
            ("GET", "infra-envs", "*", "hosts", "*", "instructions"): self._poll,
            ("POST", "infra-envs", "*", "hosts", "*", "instructions"): self._reply,
            ("PUT", "infra-envs", "*", "hosts", "*", "progress"): self._progress,
            ("PUT", "infra-envs", "*", "hosts", "*", "logs-progress"): self._logs_progress,
            ("GET", "infra-env", "*", "hosts", "*", "downloads", "ignition"): self._host_ignition,
            ("GET", "infra-envs", "*"): self._downloads.infra_env,
            ("GET", "infra-envs", "*", "downloads", "files"): self._downloads.files,
            ("GET", "infra-envs", "*", "downloads", "minimal-initrd"): self._downloads.minimal_initrd,
            ("GET", "clusters", "*"): self._cluster,
            ("GET", "clusters", "*", "supported-platforms"): self._platforms,
            ("POST", "clusters", "*", "logs"): self._upload_logs,
            ("GET", "events"): self._events,
        }
        self._host_routes = {
            (pattern[0], pattern[5]): route
            for pattern, route in self._routes.items()
            if pattern[1:5] == ("infra-envs", "*", "hosts", "*") and len(pattern) == 6
        }

    def handle(self, request: Request) -> Program[Response]:
        """Answer one request; whatever is wrong with it becomes a status and a body."""
        now_s = yield from now()
        try:
            response: Response = yield from self._routed(request, now_s)
        except Unauthenticated as error:
            response = auth_error_response(error.code, error.message)
        except ServiceError as error:
            response = error_response(error)
        # A refused request may have left an event behind, which wakes somebody too.
        if self._database.has_wakes:
            yield from self._database.wakes()
        yield from self._monitor.wake(now_s)
        return response

    def _routed(self, request: Request, now_s: float) -> Program[Response]:
        if not request.path.startswith(API_PREFIX + "/v2/"):
            if request.path in ("/health", "/ready"):
                return Response()
            return auth_error_response(404, f"path {request.path} was not found")
        parts = request.path[len(API_PREFIX) + 4 :].split("/")
        if "%" in request.path:
            parts = [unquote(part) for part in parts]
        if len(parts) == 5 and parts[2] == "hosts" and parts[0] == "infra-envs":
            route = self._host_routes.get((request.method, parts[4]))  # what agents ask for every minute
            if route is not None:
                return route(request, [parts[1], parts[3]], now_s)
        elements = parts[1::2] if parts[0] in ("infra-envs", "infra-env", "clusters") else []
        if parts[0] in ("infra-envs", "infra-env") and len(parts) > 4:
            elements = [parts[1], parts[3]] if parts[2] == "hosts" else [parts[1]]
        pattern = [request.method, *parts]
        if elements:
            pattern[2] = "*"
        if len(parts) > 4 and parts[2] == "hosts":
            pattern[4] = "*"
        if tuple(pattern) == _REGISTER:
            return (yield from self._register(request, elements, now_s))
        route = self._routes.get(tuple(pattern))
        if route is None:
            return self._unrouted(request, parts)
        return route(request, elements, now_s)

    def _unrouted(self, request: Request, parts: list[str]) -> Response:
        """Endpoints of users answer 401 whatever is sent: with local authentication, users act through resources."""
        is_host = len(parts) >= 4 and parts[0] == "infra-envs" and parts[2] == "hosts"
        is_action = len(parts) == 6 and parts[4] == "actions" and parts[5] in _USER_ACTIONS
        if is_host and (len(parts) == 4 or is_action):
            raise Unauthenticated()
        known = {pattern[1:] for pattern in (*self._routes, _REGISTER)}
        generic = tuple("*" if _UUID.match(part) else part for part in parts)
        if generic in known:
            return auth_error_response(405, f"method {request.method} is not allowed")
        return auth_error_response(404, f"path {request.path} was not found")

    # -- finding ----------------------------------------------------------------------------------------------------

    def _infra_env(self, infra_env_id: str) -> InfraEnv:
        row = self._database.infra_envs.get(infra_env_id)
        if row is None:
            _check_uuid(infra_env_id, "infra_env_id in path")
            raise ServiceError(404, f"Failed to find infra env {infra_env_id}")
        return row

    def _host(self, elements: list[str]) -> Host:
        host = self._database.hosts.get((elements[0], elements[1]))
        if host is None:
            _check_uuid(elements[0], "infra_env_id in path")
            _check_uuid(elements[1], "host_id in path")
            raise ServiceError(404, f"Host {elements[1]} was not found in infra-env {elements[0]}")
        return host

    # -- the agent --------------------------------------------------------------------------------------------------

    def _register(self, request: Request, elements: list[str], now_s: float) -> Program[Response]:
        self._access.agent(request, now_s)
        body = _body(request)
        host_id = _field(body, "host_id", required=True).lower()
        _check_uuid(host_id, "host_id in body")
        version = _field(body, "discovery_agent_version")
        infra_env = self._infra_env(elements[0])
        is_new = (infra_env.id, host_id) not in self._database.hosts
        host = self._lifecycle.register(infra_env, host_id, version, now_s)
        try:
            yield from ensure_agent(self._lifecycle, infra_env, host, now_s)
        except ApiError as error:
            if is_new:
                self._lifecycle.deregister(host, now_s)
            raise ServiceError(500, f"failed to create Agent {host_id}: {error.message}") from error
        document = host_document(host)
        runner = {
            "agent_version": self._settings.agent_image,
            "host_id": host.id,
            "infra_env_id": host.infra_env_id,
        }
        document["next_step_runner_command"] = {"args": [orjson.dumps(runner).decode()]}
        return json_response(201, document)

    def _poll(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        host = self._host(elements)
        timestamp = request.param("timestamp", "0")
        if not _INT64.match(timestamp):
            raise ServiceError(400, f"timestamp in query must be of type int64: {timestamp!r}")
        version = request.headers.get("discovery_agent_version", "")
        self._database.check_in(host, now_s, int(timestamp), version)
        answer = self._instructions.answer(host)
        steps = answer["instructions"]
        if steps and steps[0]["step_type"] == "upgrade-agent":
            self._lifecycle.upgrade_started(host, now_s)
        return json_response(200, answer)

    def _reply(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        host = self._host(elements)
        self._replies.take(host, _body(request), now_s)
        return Response(status=204)

    def _progress(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        host = self._host(elements)
        body = _body(request)
        stage = _field(body, "current_stage", required=True)
        if not host.cluster_id:
            raise ServiceError(400, f"Host {host.id} is not bound to any cluster, cannot update progress")
        self._lifecycle.progress(host, stage, _field(body, "progress_info"), now_s)
        return Response(status=200)

    def _logs_progress(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        host = self._host(elements)
        state = _field(_body(request), "logs_state", required=True)
        if state not in LOGS_STATES:
            raise ServiceError(400, f"logs_state in body should be one of {' '.join(LOGS_STATES)}")
        self._database.update_host(host, now_s, logs_state=state)
        return Response(status=204)

    def _host_ignition(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        host = self._host(elements)
        if not host.cluster_id:
            raise ServiceError(404, f"host {host.id} in infra-env {host.infra_env_id} is not bound to any cluster")
        if not host.pointer_ignition:
            raise ServiceError(409, f"host {host.id} has no ignition: its installation has not started")
        return Response(
            headers={
                "content-type": "application/octet-stream",
                "content-disposition": f'attachment; filename="{host.effective_role}-{host.id}.ign"',
            },
            body=host.pointer_ignition,
        )

    # -- clusters and events ----------------------------------------------------------------------------------------

    def _cluster(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        cluster = self._database.clusters.get(elements[0])
        if cluster is None:
            _check_uuid(elements[0], "cluster_id in path")
            raise ServiceError(404, f"cluster {elements[0]} was not found")
        document = cluster_document(cluster)
        if request.param("exclude-hosts") != "true":
            document["hosts"] = [host_document(host) for host in self._database.cluster_hosts(cluster)]
        return json_response(200, document)

    def _platforms(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        if elements[0] not in self._database.clusters:
            raise ServiceError(404, f"cluster {elements[0]} was not found")
        return json_response(200, PLATFORMS)

    def _upload_logs(self, request: Request, elements: list[str], now_s: float) -> Response:
        self._access.agent(request, now_s)
        if elements[0] not in self._database.clusters:
            raise ServiceError(404, f"cluster {elements[0]} was not found")
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ServiceError(400, "request Content-Type isn't multipart/form-data")
        if b'name="upfile"' not in request.body:
            raise ServiceError(400, "upfile in formData is required")
        if request.param("logs_type") == "host":
            host = self._host([request.param("infra_env_id"), request.param("host_id")])
            self._database.update_host(host, now_s, logs_collected_at_s=now_s)
            message = f"Uploaded logs for host {host.display_name} cluster {elements[0]}"
            self._database.host_event(host, "host_logs_uploaded", "info", message, now_s)
        return Response(status=204)

    def _events(self, request: Request, _elements: list[str], now_s: float) -> Response:
        infra_env_id, cluster_id = request.param("infra_env_id"), request.param("cluster_id")
        host_id = request.param("host_id")
        self._access.either(request, now_s, infra_env_id=infra_env_id, cluster_id=cluster_id)
        for field, value in (("host_id", host_id), ("cluster_id", cluster_id), ("infra_env_id", infra_env_id)):
            if value:
                return json_response(200, [event.document() for event in self._database.events(field, value)])
        raise ServiceError(400, "one of infra_env_id, host_id, cluster_id must be given")


def _body(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError as error:
        raise ServiceError(400, f"parsing body body from {request.body[:80]!r} failed: {error}") from error
    if not isinstance(body, dict):
        raise ServiceError(400, "body in body must be of type object")
    return body


def _field(body: dict[str, Any], name: str, *, required: bool = False) -> str:
    value = body.get(name)
    if value is None:
        if required:
            raise ServiceError(400, f"{name} in body is required")
        return ""
    if not isinstance(value, str):
        raise ServiceError(400, f"{name} in body must be of type string")
    return value


def _check_uuid(text: str, where: str) -> None:
    if not _UUID.match(text):
        raise ServiceError(400, f"{where} must be of type uuid: {text!r}")
