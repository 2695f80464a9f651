"""The API alone: no simulated component, no garbage collector, no namespace controller; only what stores and answers.

For tests of anybody's own controllers, as they would use envtest, and for comparisons with a real kube-apiserver.
Requests are answered on the edge's own thread, one after the other, so nothing is handed from thread to thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from labsim.edge_time import os_random, real_s
from labsim.entropy import Entropy
from labsim.hub.embedded.audit import AuditHeaders
from labsim.hub.embedded.edge import HttpsEdge
from labsim.hub.embedded.identity import HubAuthority
from labsim.hub.embedded.kubeconfig import write_kubeconfig
from labsim.kube.authentication import authenticator
from labsim.kube.bootstrap_roles import bootstrap_bindings, bootstrap_roles
from labsim.kube.crds import hub_conversions
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import User
from labsim.model.http import Request, Response
from labsim.model.kinds import CLUSTER_ROLE, CLUSTER_ROLE_BINDING
from labsim.model.objects import Object

LOOPBACK = "127.0.0.1"


class _MachineClock:
    def now(self) -> float:
        return real_s()


class BareHub:
    """A served API until `close`. `tokens` are the users that it knows; whoever has none is system:anonymous."""

    def __init__(self, tokens: Mapping[str, User], *, port: int = 0, crds: Iterable[Object] = ()) -> None:
        # Nothing here is repeated from a seed: a restarted server must not hand out the uids of the one before.
        entropy = Entropy(os_random(16).hex())
        self.server = ApiServer(
            name="hub", clock=_MachineClock(), entropy=entropy, crds=crds, conversions=hub_conversions()
        )
        for role in bootstrap_roles():
            self.server.create(role, CLUSTER_ROLE)
        for binding in bootstrap_bindings():
            self.server.create(binding, CLUSTER_ROLE_BINDING)
        self._authority = HubAuthority()
        self._http = KubeHttp(self.server, authenticate=authenticator(tokens), account_key=os_random(32))
        self._audit = AuditHeaders()
        self._edge = HttpsEdge(submit=_at_once)
        try:
            identity = self._authority.serving(["localhost", LOOPBACK])
            self.port = self._edge.listen(LOOPBACK, port, self._handle, tls=identity, judges_size=True)
        except BaseException:
            self._edge.close()
            raise

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def ca_pem(self) -> str:
        return self._authority.ca_pem

    def write_kubeconfig(self, path: Path, token: str, user: str) -> None:
        """Write a kubeconfig for the user of a token. Raises LabError where it cannot be written."""
        write_kubeconfig(path, self.url, ca_pem=self.ca_pem, token=token, user=user)

    def close(self) -> None:
        self._edge.close()

    def _handle(self, request: Request) -> Response:
        return self._audit.on(request, self._http.handle(request))


def _at_once(call: Callable[[], Any], /) -> Future[Any]:
    done: Future[Any] = Future()
    try:
        done.set_result(call())
    except Exception as problem:
        done.set_exception(problem)
    return done
