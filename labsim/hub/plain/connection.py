"""One authenticated way to a cluster's API: requests, and watches as streams. Any thread may use it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import yaml
from yaml import YAMLError

from labsim.controllers.runtime.effects import Unreachable
from labsim.edge_time import wait_s
from labsim.errors import LabError
from labsim.kube.errors import ApiError
from labsim.model.objects import Object

REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
POOLED_CONNECTIONS = 100  # a watch for each kind, and requests beside them
# As client-go does for 429 and for a server in trouble, where the answer says when to come again.
RETRIES = 10
LONGEST_RETRY_S = 5.0
USER_AGENT = "labsim"

_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
JSON = "application/json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """How to reach a cluster: a kubeconfig file, and one of its contexts ("" is the current one)."""

    kubeconfig: Path
    context: str = ""

    def text(self) -> str:
        """A kubeconfig that leads there from anywhere: the context is its current one, its files have whole paths."""
        document = yaml.safe_load(self.kubeconfig.read_text())
        if self.context:
            document["current-context"] = self.context
        folder = self.kubeconfig.resolve().parent
        for entry in (*(document.get("clusters") or ()), *(document.get("users") or ())):
            for part in ("cluster", "user"):
                named = entry.get(part) or {}
                named.update({field: str(folder / named[field]) for field in _FILES if named.get(field)})
        return str(yaml.safe_dump(document, sort_keys=False))


class ClusterConnection:
    """The API of one cluster, with the credentials of a kubeconfig."""

    def __init__(self, access: ClusterAccess) -> None:
        """Raises LabError where the kubeconfig cannot be used. Nothing is sent yet."""
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            config.load_kube_config(
                config_file=str(access.kubeconfig),
                context=access.context or None,
                client_configuration=configuration,
                persist_config=False,
            )
            if not str(configuration.host).startswith(("https://", "http://")):
                raise config.ConfigException(f"its server {configuration.host!r} is no URL")
        except (config.ConfigException, OSError, ValueError, YAMLError, TypeError, AttributeError, KeyError) as problem:
            said = " ".join(str(problem).split())
            raise LabError(
                f"the kubeconfig {access.kubeconfig} cannot be used: {said}",
                hint="give --kubeconfig FILE, and --context where its current context is not the one",
            ) from problem
        configuration.connection_pool_maxsize = POOLED_CONNECTIONS
        configuration.retries = False
        if not configuration.verify_ssl:  # the kubeconfig's own wish, once said
            _hush_insecure_requests()
        self.access = access
        self._configuration = configuration
        self.url: str = configuration.host
        self._client = client.ApiClient(configuration)
        self._pool = self._client.rest_client.pool_manager
        self._streams: set[Any] = set()
        self._lock = threading.Lock()
        self._closed = False

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        timeout_s: float = REQUEST_TIMEOUT_S,
        is_patient: bool = True,
    ) -> Object:
        """One request; the decoded answer. Raises ApiError for a refusal, Unreachable where nothing answers.

        `is_patient`: an answer that says when to come again is waited for, as client-go does.
        """
        data = None if body is None else orjson.dumps(body)
        response = self._send(method, path, query, data, content_type, timeout_s, stream=False, is_patient=is_patient)
        if response.status >= 300:
            raise refusal(response.status, response.data)
        decoded = orjson.loads(response.data) if response.data.startswith(b"{") else {}
        found: Object = decoded
        return found

    @property
    def ca_pem(self) -> str:
        """The authorities that the kubeconfig names; "" where the system's are meant."""
        file = self._configuration.ssl_ca_cert
        return Path(file).read_text() if file else ""

    def text(self, path: str) -> str:
        """A GET whose answer is no JSON (health, version)."""
        response = self._send("GET", path, None, None, JSON, REQUEST_TIMEOUT_S, stream=False)
        return str(response.data.decode(errors="replace"))

    def watch(self, path: str, query: Mapping[str, str], timeout_s: float) -> Iterator[Object]:
        """The events of a watch until it ends; raises as `call` does. `close` ends it too."""
        response = self._send("GET", path, {**query, "watch": "true"}, None, JSON, timeout_s, stream=True)
        if response.status >= 300:
            raise refusal(response.status, response.read())
        with self._lock:
            if self._closed:
                response.close()
                return
            self._streams.add(response)
        try:
            yield from self._events(response)
        finally:
            with self._lock:
                self._streams.discard(response)
            response.close()

    def close(self) -> None:
        """End every watch. Requests that are under way end by themselves."""
        with self._lock:
            self._closed = True
            streams, self._streams = self._streams, set()
        for stream in streams:
            _shut_down(stream)
        self._client.close()

    def _events(self, response: Any) -> Iterator[Object]:
        import urllib3

        rest = b""
        try:
            for chunk in response.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        yield orjson.loads(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as broken:
            raise Unreachable(f"the watch of {self.url} broke: {broken}") from broken

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        timeout_s: float,
        *,
        stream: bool,
        is_patient: bool = True,
    ) -> Any:
        headers: dict[str, str] = {"accept": JSON, "user-agent": USER_AGENT}
        if data is not None:
            headers["content-type"] = content_type
        for setting in self._configuration.auth_settings().values():  # asks an exec plugin again, where one is due
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        url = path + (f"?{urlencode(query)}" if query else "")
        for _ in range(RETRIES if is_patient else 0):
            response = self._once(method, url, data, headers, timeout_s, stream=stream)
            asked_s = response.headers.get("retry-after", "")
            if not (response.status == 429 or response.status >= 500) or not asked_s.isdigit():
                return response
            response.drain_conn()
            wait_s(min(float(asked_s), LONGEST_RETRY_S))
        return self._once(method, url, data, headers, timeout_s, stream=stream)

    def _once(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], timeout_s: float, *, stream: bool
    ) -> Any:
        import urllib3

        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s)
        try:
            return self._pool.request(
                method,
                self.url + url,
                body=data,
                headers=headers,
                timeout=timeout,
                preload_content=not stream,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            reason = str(problem).rpartition(": ")[2]  # what comes before names Python's own objects
            raise Unreachable(f"{method} {self.url}{url.partition('?')[0]}: {reason}") from problem


def _hush_insecure_requests() -> None:
    import urllib3

    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def refusal(status: int, data: bytes) -> ApiError:
    """The error that an answer says."""
    try:
        said = orjson.loads(data)
    except ValueError:
        said = {}
    if not isinstance(said, dict) or said.get("kind") != "Status":
        return ApiError(status, "", data.decode(errors="replace")[:300] or f"HTTP status {status}")
    return status_error(said, status)


def status_error(status: Object, code: int = 0) -> ApiError:
    """The error that a Status object says."""
    return ApiError(
        int(status.get("code") or code), status.get("reason", ""), status.get("message", ""), status.get("details")
    )


def _shut_down(response: Any) -> None:
    """Wake the thread that reads a stream: closing alone would leave it in its read."""
    import contextlib
    import socket

    connection = getattr(response, "connection", None) or getattr(response, "_connection", None)
    plug = getattr(connection, "sock", None)
    if plug is not None:
        with contextlib.suppress(OSError):
            plug.shutdown(socket.SHUT_RDWR)
