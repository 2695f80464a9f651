"""A hub with HyperShift and the importer on it, for tests: the engine, an API server, and hosted ones on request."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from labsim.clock import EventQueue
from labsim.controllers.hypershift import HyperShift, HyperShiftSettings
from labsim.controllers.hypershift.create_cluster import CreateClusterOptions, create_cluster_agent_objects
from labsim.controllers.importer import Importer
from labsim.controllers.runtime.effects import Program, Publish, Unreachable, Withdraw
from labsim.controllers.runtime.engine import Actor, Engine
from labsim.entropy import Entropy
from labsim.history import History
from labsim.kube.crds import hosted_crds, hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.model.http import Request, Response, request_for_url
from labsim.model.kinds import HOSTED_CLUSTER, NAMESPACE, STORAGE_CLASS, Kind, kind_of
from labsim.model.objects import Object, condition_of, new

RELEASE = "quay.io/openshift-release-dev/ocp-release:4.22.0-x86_64"
ADDRESS = "192.0.2.10"
PLACE = "clusters-example"
OWNER = "clusters-example/example"


class Hub:
    """Everything around the component, driven in virtual time."""

    def __init__(self, seed: int = 1, settings: HyperShiftSettings | None = None) -> None:
        self.entropy = Entropy(seed)
        self.queue = EventQueue()
        self.server = ApiServer(name="hub", clock=self.queue, entropy=self.entropy.child("hub"), crds=hub_crds())
        self.hosted: dict[str, ApiServer] = {}
        self.published: dict[tuple[str, str], str] = {}
        self.engine = Engine(
            scheduler=self.queue,
            entropy=self.entropy,
            history=History(self.queue.now),
            hub=self.server,
            around=self,
        )
        self.hypershift = HyperShift(self.entropy, settings)
        for name in ("agents",):
            self.server.create(new(NAMESPACE, None, name), NAMESPACE)
        self.engine.add(self.hypershift)
        self.engine.add(Importer())

    # -- surroundings of the engine -----------------------------------------------------------------------------------

    def server_at(self, kubeconfig: str, caller: str) -> ApiServer:
        for owner, server in self.hosted.items():
            if any(published == owner and url in kubeconfig for (url, _), published in self.published.items()):
                return server
        raise Unreachable("connection refused")

    def hosted_servers(self) -> Mapping[str, ApiServer]:
        return self.hosted

    def request(self, request: Request) -> Program[Response]:
        raise Unreachable(request.host)

    def publish(self, effect: Publish) -> None:
        self.published[f"{effect.host}:{effect.port}", effect.service] = effect.owner
        if effect.service == "kube-apiserver" and effect.owner not in self.hosted:
            server = ApiServer(
                name=effect.owner,
                clock=self.queue,
                entropy=self.entropy.child(f"hosted/{effect.owner}"),
                crds=hosted_crds(),
            )
            self.hosted[effect.owner] = server
            self.engine.hosted_cluster_started(effect.owner, server)

    def withdraw(self, effect: Withdraw) -> None:
        self.published = {
            key: owner
            for key, owner in self.published.items()
            if owner != effect.owner or effect.service not in ("", key[1])
        }
        if not effect.service:
            self.hosted.pop(effect.owner, None)

    # -- what tests do ------------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        end_s = self.queue.now() + seconds
        while self.queue.run_next(end_s):
            pass
        self.queue.advance_to(end_s)

    def run_until(self, done: Callable[[], bool], within_s: float) -> None:
        end_s = self.queue.now() + within_s
        while not done():
            if not self.queue.run_next(end_s):
                raise AssertionError(f"not within {within_s} s")

    def find(self, kind: Kind, namespace: str, name: str, server: ApiServer | None = None) -> Object | None:
        try:
            return (server or self.server).get(kind, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def says(self, kind: Kind, namespace: str, name: str, condition: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition; three empty texts where it is absent."""
        obj = self.find(kind, namespace, name)
        entry = None if obj is None else condition_of(obj, condition)
        if entry is None:
            return "", "", ""
        return entry["status"], entry.get("reason", ""), entry.get("message", "")

    def set_status(
        self, kind: Kind, namespace: str, name: str, status: Object, server: ApiServer | None = None
    ) -> None:
        (server or self.server).patch(
            kind,
            namespace,
            name,
            {"status": status},
            patch_type="application/merge-patch+json",
            subresource="status",
        )

    def change(self, kind: Kind, namespace: str, name: str, body: Object) -> None:
        self.server.patch(kind, namespace, name, body, patch_type="application/merge-patch+json")

    def add_storage_class(self, name: str = "local", *, default: bool = True) -> None:
        made = new(STORAGE_CLASS, None, name, provisioner="labsim")
        if default:
            made["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
        self.server.create(made, STORAGE_CLASS)

    def create_cluster(self, **changes: Any) -> None:
        for obj in create_cluster_agent_objects(options(**changes)):
            if obj["kind"] == "Namespace" and self.find(NAMESPACE, "", obj["metadata"]["name"]):
                continue
            self.server.create(obj, kind_of(obj))

    def available(self, namespace: str = "clusters", name: str = "example") -> bool:
        return self.says(HOSTED_CLUSTER, namespace, name, "Available")[0] == "True"

    def get_ignition(self, url: str, token: str | None) -> Response:
        headers = {}
        if token is not None:
            headers["authorization"] = f"Bearer {base64.b64encode(token.encode()).decode()}"
        return self.handle(request_for_url("GET", url, headers=headers))

    def handle(self, request: Request) -> Response:
        answers: list[Any] = []
        handler, actor = self.engine.services["ignition-server"]
        self.engine.run(handler(request), actor, lambda value, error: answers.append((value, error)))
        self.run_until(lambda: bool(answers), 5)
        value, error = answers[0]
        if error is not None:
            raise error
        assert isinstance(value, Response)
        return value


def options(**changes: Any) -> CreateClusterOptions:
    """`hcp create cluster agent` with the least that it needs, and one pod of everything."""
    wanted: dict[str, Any] = {
        "name": "example",
        "pull_secret": '{"auths":{}}',
        "agent_namespace": "agents",
        "api_server_address": ADDRESS,
        "infra_id": "example-abcde",
        "etcd_encryption_key": bytes(32),
        "release_image": RELEASE,
        "node_pool_replicas": 2,
        "control_plane_availability_policy": "SingleReplica",
        "ssh_key": "ssh-ed25519 AAAA someone",
    }
    return CreateClusterOptions(**{**wanted, **changes})


__all__ = ["ADDRESS", "OWNER", "PLACE", "RELEASE", "Actor", "Hub", "options"]
