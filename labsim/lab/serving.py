"""A lab's hub and hosted clusters on real sockets: for kubectl, for virtual machines, for anybody's own controllers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from labsim.edge_time import os_random
from labsim.errors import LabError
from labsim.hub.embedded.audit import AuditHeaders
from labsim.hub.embedded.clients import NAME_MAX, PATH_MAX
from labsim.hub.embedded.edge import MAX_BODY_BYTES, HttpsEdge, too_large
from labsim.hub.embedded.held_ports import HeldPorts
from labsim.hub.embedded.identity import HubAuthority, TlsIdentity, new_token
from labsim.hub.embedded.kubeconfig import write_kubeconfig
from labsim.hub.role import Role
from labsim.kube.authentication import bearer_token
from labsim.kube.http import KubeHttp
from labsim.kube.users import ADMIN, READER, User
from labsim.lab.lab import Lab
from labsim.lab.names import HUB_NAME, IMAGE_SERVICE_NAME, ROUTES_DOMAIN, SERVICE_NAME, Addresses, Stack
from labsim.model.http import Request, Response
from labsim.network.fabric import Endpoint
from labsim.network.name_server import NameServer
from labsim.network.zone import Zone

LOOPBACK = "127.0.0.1"
LOOPBACK6 = "::1"
# Every address of 127.0.0.0/8 is this host's own: what stands for a load balancer's.
LOAD_BALANCERS = tuple(f"127.0.0.{number}" for number in range(2, 22))
USER_MODE_HOST = "10.0.2.2"  # the host, as a machine in QEMU's user mode network sees it
NODE_ADDRESSES = (LOOPBACK, LOOPBACK6, USER_MODE_HOST)
SERVICE_PATHS = ("/api/assisted-install/",)
IMAGE_PATHS = ("/byapikey/", "/byid/", "/bytoken/", "/images/", "/boot-artifacts/")


class Serving:
    """The listeners of one lab. Made before the lab, because machines must know its port and its CA from the start.

    `hosts` are the addresses of this host at which machines look for the hub; the first of them is for people too.
    kept: the `identity` of an earlier process, whose clients and machines must not notice that it is gone.
    """

    def __init__(
        self,
        port: int = 0,
        hosts: Sequence[str] = (LOOPBACK,),
        node_ports: HeldPorts | None = None,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        self.authority = HubAuthority(kept=None if kept is None else (kept["key"], kept["ca"]))
        self.admin_token: str = new_token() if kept is None else kept["adminToken"]
        self.reader_token: str = new_token() if kept is None else kept["readerToken"]
        self._account_key = os_random(32) if kept is None else bytes.fromhex(kept["accountKey"])
        self._lab: Lab | None = None
        self._attaching = threading.Lock()
        self._early: list[tuple[Any, Future[Any]]] = []  # calls that came before the lab, and who waits for them
        self._hub: KubeHttp | None = None
        self._audit = AuditHeaders()
        self._hosts = tuple(hosts)
        self.node_ports = node_ports or HeldPorts(self._hosts)
        self._places: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self.edge = HttpsEdge(submit=self._submit)
        self._more_name_servers: list[NameServer] = []
        self._identity = self.authority.serving(
            [HUB_NAME, SERVICE_NAME, IMAGE_SERVICE_NAME, "localhost", *NODE_ADDRESSES, *hosts]
        )
        try:
            at = port if kept is None else kept["port"]
            self.port = self.edge.listen(self._hosts[0], at, self._handle, tls=self._identity, judges_size=True)
            for host in self._hosts[1:]:
                self.edge.listen(host, self.port, self._handle, tls=self._identity, judges_size=True)
            self.name_server = NameServer(self._zone, self._hosts[0], 0 if kept is None else kept["nameServerPort"])
        except BaseException:
            self.edge.close()
            raise

    def listen_at(self, hosts: Sequence[str], *, names: bool = False) -> None:
        """Serve everything at more addresses of this host, and the zone at the first of them where `names` is set.
        Before the lab is attached. Raises LabError where an address cannot be had."""
        for host in hosts:
            self.edge.listen(host, self.port, self._handle, tls=self._identity, judges_size=True)
        self._hosts += tuple(hosts)
        if names:
            self._more_name_servers.append(NameServer(self._zone, hosts[0], self.name_server.port))

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    def identity(self) -> dict[str, Any]:
        """Who this hub is and where: secrets, for the lab's own folder alone."""
        return {
            "key": self.authority.key_pem,
            "ca": self.authority.ca_pem,
            "adminToken": self.admin_token,
            "readerToken": self.reader_token,
            "accountKey": self._account_key.hex(),
            "port": self.port,
            "nameServerPort": self.name_server.port,
        }

    def attach(self, lab: Lab) -> None:
        """Serve this lab: its hub, its CIM, and everything that its fabric publishes with a certificate."""
        with self._attaching:
            self._lab = lab
        lab.serving = self
        for call, answer in self._early:
            lab.world.post(call).add_done_callback(functools.partial(_pass_on, answer))
        self._early.clear()
        if lab.world.hub_in_process is not None:
            hub = lab.world.hub_in_process
            self._hub = KubeHttp(hub, authenticate=self._authenticate, account_key=self._account_key, seam=lab.clients)
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
        for server in (self.name_server, *self._more_name_servers):
            server.close()
        self.edge.close()
        self.node_ports.close()

    def _zone(self) -> Zone:
        return Zone() if self._lab is None else self._lab.world.fabric.zone

    def _submit(self, call: Any, /) -> Future[Any]:
        """Run a call in the world; who comes before there is one waits for it."""
        with self._attaching:
            if self._lab is None:
                early: Future[Any] = Future()
                self._early.append((call, early))
                return early
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
            program = request.headers.get("user-agent", "")[:NAME_MAX]
            what = f"{request.method} {request.path[:PATH_MAX]}"
            self._lab.world.history.record("input", what=what, client=program)
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

        if self._lab is None:
            return outcome
        world = self._lab.world

        def done(value: Any, error: BaseException | None) -> None:
            if error is not None:
                world.tell(lambda: outcome.set_exception(error))
            else:
                world.tell(lambda: outcome.set_result(value))

        world.answer(endpoint, request, done)
        return outcome

    def _authenticate(self, request: Request) -> User | None:
        token = bearer_token(request)
        if not token:
            return None
        return ADMIN if token == self.admin_token else READER if token == self.reader_token else None

    def _published(self, endpoint: Endpoint) -> None:
        """Listen for an endpoint that has a certificate, at the addresses that machines reach it by."""
        key = (endpoint.host, endpoint.port)
        if not endpoint.certificate_pem or key in self._places or endpoint.host.endswith(f".{ROUTES_DOMAIN}"):
            return  # a Route is its router's business, which only simulated machines have
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

        places = self._places.setdefault(key, [])
        for host in self._listening_at(endpoint.host):
            try:
                held = self.node_ports.give(host, endpoint.port)
                port = self.edge.listen(host, endpoint.port, handle, tls=identity, judges_size=is_kube, held=held)
                places.append((host, port))
            except LabError as taken:
                if lab is not None:  # machines would take whoever is there for this lab's
                    lab.world.fail(taken)

    def reached_at(self, host: str) -> str:
        """The address at which somebody on this host reaches what is published at a host."""
        return self._listening_at(host)[0]

    def _listening_at(self, host: str) -> tuple[str, ...]:
        """Where to listen: at a load balancer's address if that is what a published host is, or leads to."""
        balanced = tuple(entry for entry in self._zone().resolve(host) if entry in LOAD_BALANCERS)
        return balanced or self._hosts

    def _withdrawn(self, endpoint: Endpoint) -> None:
        for place in self._places.pop((endpoint.host, endpoint.port), ()):
            self.edge.close_listener(*place)


def hosts_of(stack: Stack) -> tuple[str, ...]:
    """The loopback addresses that a lab of this stack is served at; people find its hub at the first."""
    return (LOOPBACK,) if stack == "IPv4" else (LOOPBACK, LOOPBACK6)


def loopback_addresses(serving: Serving | None = None) -> Addresses:
    """Where simulated machines find a hub that is served on the loopback addresses, or will be."""
    return Addresses(
        hub_ip=LOOPBACK,
        hub_ip6=LOOPBACK6,
        service_port=443 if serving is None else serving.port,
        load_balancers=LOAD_BALANCERS,
        name_server=None if serving is None else (LOOPBACK, serving.name_server.port),
    )


def _pass_on(answer: Future[Any], done: Future[Any]) -> None:
    problem = done.exception()
    if problem is not None:
        answer.set_exception(problem)
    else:
        answer.set_result(done.result())
