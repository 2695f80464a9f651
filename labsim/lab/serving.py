"""A lab's hub and hosted clusters on real sockets: for kubectl, for virtual machines, for anybody's own controllers."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from labsim.edge_time import os_random
from labsim.errors import LabError
from labsim.hub.embedded.audit import AuditHeaders
from labsim.hub.embedded.edge import MAX_BODY_BYTES, HttpsEdge, too_large
from labsim.hub.embedded.identity import HubAuthority, TlsIdentity, new_token
from labsim.hub.embedded.kubeconfig import write_kubeconfig
from labsim.hub.role import Role
from labsim.kube.authentication import bearer_token
from labsim.kube.http import KubeHttp
from labsim.kube.users import ADMIN, READER, User
from labsim.lab.lab import Lab
from labsim.lab.names import HUB_DOMAIN, IMAGE_SERVICE_NAME, SERVICE_NAME
from labsim.model.http import Request, Response
from labsim.network.fabric import Endpoint

LOOPBACK = "127.0.0.1"
USER_MODE_HOST = "10.0.2.2"  # the host, as a machine in QEMU's user mode network sees it
SERVICE_PATHS = ("/api/assisted-install/",)
IMAGE_PATHS = ("/byapikey/", "/byid/", "/bytoken/", "/images/", "/boot-artifacts/")


class Serving:
    """The listeners of one lab. Made before the lab, because machines must know its port and its CA from the start."""

    def __init__(self, port: int = 0) -> None:
        self.authority = HubAuthority()
        self.admin_token, self.reader_token = new_token(), new_token()
        self._lab: Lab | None = None
        self._hub: KubeHttp | None = None
        self._audit = AuditHeaders()
        self._ports: dict[tuple[str, int], int] = {}
        self.edge = HttpsEdge(submit=self._submit)
        names = ["hub." + HUB_DOMAIN, SERVICE_NAME, IMAGE_SERVICE_NAME, "localhost", LOOPBACK, USER_MODE_HOST]
        try:
            identity = self.authority.serving(names)
            self.port = self.edge.listen(LOOPBACK, port, self._handle, tls=identity, judges_size=True)
        except BaseException:
            self.edge.close()
            raise

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    def attach(self, lab: Lab) -> None:
        """Serve this lab: its hub, its CIM, and everything that its fabric publishes with a certificate."""
        self._lab = lab
        if lab.world.hub_in_process is not None:
            hub = lab.world.hub_in_process
            self._hub = KubeHttp(hub, authenticate=self._authenticate, account_key=os_random(32), seam=lab.clients)
        lab.world.history.hide([self.admin_token, self.reader_token])
        lab.world.fabric.on_publish.append(self._published)
        lab.world.fabric.on_withdraw.append(self._withdrawn)
        for endpoint in lab.world.fabric.endpoints():
            self._published(endpoint)

    def write_kubeconfig(self, path: Path, role: Role = Role.ADMINISTRATOR) -> None:
        """Write how to reach the hub with the rights of a role. Raises LabError where it cannot be written."""
        token = self.admin_token if role is Role.ADMINISTRATOR else self.reader_token
        write_kubeconfig(path, self.url, ca_pem=self.authority.ca_pem, token=token, user=role.value)

    def close(self) -> None:
        self.edge.close()

    def _submit(self, call: Any, /) -> Future[Any]:
        if self._lab is None:
            raise RuntimeError("the lab is not made yet")
        return self._lab.world.post(call)

    def _handle(self, request: Request) -> Response | Future[Response]:
        if self._lab is None:
            return Response(status=503, body=b"starting")
        if request.path.startswith(SERVICE_PATHS):
            return self._component(request, SERVICE_NAME)
        if request.path.startswith(IMAGE_PATHS):
            return self._component(request, IMAGE_SERVICE_NAME)
        if self._hub is None:
            return Response(status=404, body=b"the hub of this lab is a cluster of its own\n")
        if request.method not in ("GET", "HEAD"):
            program = request.headers.get("user-agent", "")
            self._lab.world.history.record("input", what=f"{request.method} {request.path}", client=program)
        assert self._lab.clients is not None
        return self._lab.clients.handle(request, self._answered)

    def _answered(self, request: Request) -> Response:
        assert self._hub is not None
        return self._audit.on(request, self._hub.handle(request))

    def _component(self, request: Request, name: str) -> Response | Future[Response]:
        lab = self._lab
        if lab is None:
            return Response(status=503)
        if len(request.body) > MAX_BODY_BYTES:
            return too_large(MAX_BODY_BYTES)
        endpoint = lab.world.fabric.find(f"{name}:{lab.options.addresses.service_port}")
        return Response(status=503) if endpoint is None else self._answer(endpoint, request)

    def _answer(self, endpoint: Endpoint, request: Request) -> Future[Response]:
        outcome: Future[Response] = Future()

        def done(value: Any, error: BaseException | None) -> None:
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(value)

        if self._lab is not None:
            self._lab.world.answer(endpoint, request, done)
        return outcome

    def _authenticate(self, request: Request) -> User | None:
        token = bearer_token(request)
        if not token:
            return None
        return ADMIN if token == self.admin_token else READER if token == self.reader_token else None

    def _published(self, endpoint: Endpoint) -> None:
        """Listen for an endpoint that has a certificate, on the loopback address that machines reach as their host."""
        key = (endpoint.host, endpoint.port)
        if not endpoint.certificate_pem or key in self._ports:
            return
        lab = self._lab
        authentication = None if lab is None else lab.world.hosted_authentication(endpoint.owner)
        is_kube = endpoint.service == "kube-apiserver"
        client_ca = authentication.client_ca_pem if authentication and is_kube else ""
        identity = TlsIdentity(endpoint.certificate_pem, endpoint.key_pem, client_ca)
        if endpoint.serve == "none":

            def handle(request: Request) -> Response | Future[Response]:
                return Response(status=404, body=b"404 page not found\n")
        else:

            def handle(request: Request) -> Response | Future[Response]:
                return self._answer(endpoint, request)

        try:
            port = self.edge.listen(LOOPBACK, endpoint.port, handle, tls=identity, judges_size=is_kube)
            self._ports[key] = port
        except LabError as taken:
            if lab is not None:
                lab.world.history.record("note", actor="edge", text=taken.message)

    def _withdrawn(self, endpoint: Endpoint) -> None:
        port = self._ports.pop((endpoint.host, endpoint.port), None)
        if port is not None:
            self.edge.close_listener(port)


def loopback_port_is_free(port: int) -> bool:
    """Whether a loopback port can be bound now."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
