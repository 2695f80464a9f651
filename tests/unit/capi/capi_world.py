"""A hub with hosted control planes, Cluster API and the agent provider on it; Agents are moved by a small stand-in."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from labsim.clock import EventQueue
from labsim.controllers.agent_provider import AgentProvider
from labsim.controllers.capi import Capi
from labsim.controllers.kube import KubeControllers
from labsim.controllers.runtime.component import Component
from labsim.controllers.runtime.effects import Program, Publish, Unreachable, Withdraw
from labsim.controllers.runtime.engine import Engine
from labsim.entropy import Entropy
from labsim.history import History
from labsim.kube.crds import hosted_crds, hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.model.http import Request, Response
from labsim.model.kinds import (
    AGENT,
    AGENT_CLUSTER,
    AGENT_MACHINE,
    AGENT_MACHINE_TEMPLATE,
    CLUSTER,
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
    MACHINE,
    MACHINE_DEPLOYMENT,
    MACHINE_SET,
    NAMESPACE,
    NODE,
    SECRET,
    Kind,
)
from labsim.model.objects import Object, condition_of, dig, is_deleting, name_of, new, thaw, timestamp

AGENTS = "agents"
MERGE = "application/merge-patch+json"
INFRA_ID = "example-x7k2p"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def ignition(token: str = "token-1") -> str:
    headers = [
        {"name": "Authorization", "value": f"Bearer {token}"},
        {"name": "NodePool", "value": "clusters/example"},
        {"name": "TargetConfigVersionHash", "value": "abc"},
    ]
    merge = [{"source": "https://192.0.2.1:31000/ignition", "httpHeaders": headers}]
    return orjson.dumps({"ignition": {"version": "3.2.0", "config": {"merge": merge}}}).decode()


class CapiWorld:
    """Everything around the components, in virtual time."""

    def __init__(
        self,
        seed: int = 1,
        *,
        components: Sequence[Callable[[Entropy], Component]] | None = None,
        install_s: float = 600.0,
    ) -> None:
        self.entropy = Entropy(seed)
        self.queue = EventQueue()
        self.hub = ApiServer(name="hub", clock=self.queue, entropy=self.entropy.child("hub"), crds=hub_crds())
        self.hosted: dict[str, ApiServer] = {}
        self.unreachable: set[str] = set()
        self.sink = io.BytesIO()
        self.engine = Engine(
            scheduler=self.queue,
            entropy=self.entropy,
            history=History(self.queue.now, self.sink),
            hub=self.hub,
            around=self,
        )
        self.install_s = install_s
        self.cim_sleeps = False  # Agents then stay in the state that a test gives them
        self.claims: list[tuple[str, str]] = []  # (agent, AgentMachine), in order
        self.hub.subscribe(self._agent_written, AGENT)
        for namespace in (AGENTS, "clusters"):
            self.hub.create(new(NAMESPACE, None, namespace), NAMESPACE)
        if components is None:
            components = (AgentProvider, Capi, lambda entropy: KubeControllers())
        for component in components:
            self.engine.add(component(self.entropy))

    # -- surroundings of the engine ------------------------------------------------------------------------------

    def server_at(self, kubeconfig: str, caller: str) -> ApiServer:
        if kubeconfig in self.hosted and kubeconfig not in self.unreachable:
            return self.hosted[kubeconfig]
        raise Unreachable("connection refused")

    def hosted_servers(self) -> Mapping[str, ApiServer]:
        return self.hosted

    def request(self, request: Request) -> Program[Response]:
        raise Unreachable(request.host)

    def publish(self, effect: Publish) -> None: ...
    def withdraw(self, effect: Withdraw) -> None: ...

    # -- time ------------------------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        until_s = self.queue.now() + seconds
        while self.queue.run_next(until_s):
            pass
        self.queue.advance_to(until_s)

    def run_until(self, done: Callable[[], bool], within_s: float = 60.0) -> None:
        until_s = self.queue.now() + within_s
        while not done():
            if not self.queue.run_next(until_s):
                raise AssertionError(f"not within {within_s} s; errors {self.engine.failures}")

    # -- objects ---------------------------------------------------------------------------------------------------

    def find(self, kind: Kind, namespace: str, name: str, server: ApiServer | None = None) -> Object | None:
        try:
            return (server or self.hub).get(kind, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def all(self, kind: Kind, namespace: str | None = None, server: ApiServer | None = None) -> list[Object]:
        return (server or self.hub).list(kind, namespace)[0]

    def patch(self, kind: Kind, namespace: str, name: str, body: Any, subresource: str = "") -> Object:
        return self.hub.patch(kind, namespace, name, body, patch_type=MERGE, subresource=subresource)

    def says(self, kind: Kind, namespace: str, name: str, condition: str) -> tuple[str, str, str, str]:
        """Status, reason, severity and message of a condition; empty texts where it is absent."""
        obj = self.find(kind, namespace, name)
        entry: Any = (None if obj is None else condition_of(obj, condition)) or {}
        status, reason, severity, message = (
            entry.get(field, "") for field in ("status", "reason", "severity", "message")
        )
        return status, reason, severity, message

    # -- a hosted control plane, as HyperShift leaves it -----------------------------------------------------------

    def control_plane(self, name: str = "example", *, manager_runs: bool = True, infra_id: str = INFRA_ID) -> str:
        """Everything that is there before a NodePool has Machines; returns its namespace."""
        namespace = f"clusters-{name}"
        owner = f"{namespace}/{name}"
        self.hub.create(new(NAMESPACE, None, namespace), NAMESPACE)
        server = ApiServer(
            name=owner, clock=self.queue, entropy=self.entropy.child(f"hosted/{owner}"), crds=hosted_crds()
        )
        self.hosted[owner] = server
        self.engine.hosted_cluster_started(owner, server)
        self.secret(namespace, f"{infra_id}-kubeconfig", {"value": owner})
        self.secret(namespace, "admin-kubeconfig", {"kubeconfig": owner})
        self.secret(namespace, "pull-secret", {".dockerconfigjson": "{}"})
        self.secret(namespace, "user-data-1", {"value": ignition()})
        control_plane = new(
            HOSTED_CONTROL_PLANE,
            namespace,
            name,
            spec={"dns": {"baseDomain": "krnl.es"}, "pullSecret": {"name": "pull-secret"}},
        )
        control_plane["metadata"]["annotations"] = {"hypershift.openshift.io/cluster": f"clusters/{name}"}
        self._create_as_is(control_plane, HOSTED_CONTROL_PLANE)
        self.patch(
            HOSTED_CONTROL_PLANE,
            namespace,
            name,
            {"status": {"ready": True, "initialized": True, "kubeConfig": {"name": "admin-kubeconfig", "key": "k"}}},
            "status",
        )
        self.manager(namespace, runs=manager_runs)
        spec = {
            "ignitionEndpoint": {
                "url": "https://192.0.2.1:31000/ignition",
                "caCertificateReference": {"name": "ignition-server-ca-cert", "namespace": namespace},
            },
            "controlPlaneEndpoint": {"host": "192.0.2.1", "port": 30000},
        }
        self.hub.create(new(AGENT_CLUSTER, namespace, name, spec=spec), AGENT_CLUSTER)
        reference = {"namespace": namespace, "name": name}
        cluster_spec = {
            "controlPlaneRef": {
                "apiVersion": HOSTED_CONTROL_PLANE.api_version,
                "kind": HOSTED_CONTROL_PLANE.kind,
                **reference,
            },
            "infrastructureRef": {"apiVersion": AGENT_CLUSTER.api_version, "kind": AGENT_CLUSTER.kind, **reference},
        }
        self.hub.create(new(CLUSTER, namespace, infra_id, spec=cluster_spec), CLUSTER)
        template: Object = {"template": {"spec": {"agentLabelSelector": {}}}}
        self.hub.create(new(AGENT_MACHINE_TEMPLATE, namespace, "workers", spec=template), AGENT_MACHINE_TEMPLATE)
        return namespace

    def _create_as_is(self, obj: Object, kind: Kind) -> None:
        """Create an object whose further required fields are of no interest here."""
        try:
            self.hub.create(obj, kind)
        except ApiError as error:
            for cause in error.details.get("causes", ()):
                node = obj
                path = cause["field"].split(".")
                for part in path[:-1]:
                    node = node.setdefault(part, {})
                node[path[-1]] = node.get(path[-1]) or "x"
            self.hub.create(obj, kind)

    def secret(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        values = {key: encoded(value) for key, value in data.items()}
        self.hub.create(new(SECRET, namespace, name, type="Opaque", data=values), SECRET)

    def manager(self, namespace: str, *, runs: bool, agents: str = AGENTS) -> None:
        """The Deployment of the provider's manager, with or without an available replica."""
        if self.find(DEPLOYMENT, namespace, "capi-provider") is None:
            container = {
                "name": "manager",
                "image": "x",
                "args": ["--namespace", namespace, f"--agent-namespace={agents}"],
            }
            template = {
                "metadata": {"labels": {"app": "capi-provider"}},
                "spec": {"containers": [container]},
            }
            spec = {"replicas": 1, "selector": {"matchLabels": {"app": "capi-provider"}}, "template": template}
            self.hub.create(new(DEPLOYMENT, namespace, "capi-provider", spec=spec), DEPLOYMENT)
        status = {"status": {"replicas": 1, "availableReplicas": int(runs)}}
        self.patch(DEPLOYMENT, namespace, "capi-provider", status, "status")

    def _machines_spec(self, replicas: int, name: str, infra_id: str, **template_spec: Any) -> Object:
        reference = {
            "apiVersion": AGENT_MACHINE_TEMPLATE.api_version,
            "kind": AGENT_MACHINE_TEMPLATE.kind,
            "name": "workers",
        }
        return {
            "clusterName": infra_id,
            "replicas": replicas,
            "selector": {"matchLabels": {"pool": name}},
            "template": {
                "metadata": {
                    "labels": {"pool": name},
                    "annotations": {"hypershift.openshift.io/nodePool": f"clusters/{name}"},
                },
                "spec": {
                    "clusterName": infra_id,
                    "bootstrap": {"dataSecretName": "user-data-1"},
                    "infrastructureRef": reference,
                    **template_spec,
                },
            },
        }

    def machine_set(
        self, namespace: str, replicas: int, name: str = "pool", *, infra_id: str = INFRA_ID, **template_spec: Any
    ) -> None:
        spec = self._machines_spec(replicas, name, infra_id, **template_spec)
        self.hub.create(new(MACHINE_SET, namespace, name, spec=spec), MACHINE_SET)

    def machine_deployment(self, namespace: str, replicas: int, name: str = "pool", **strategy: Any) -> None:
        spec = self._machines_spec(replicas, name, INFRA_ID)
        rolling = {"maxSurge": 1, "maxUnavailable": 0, **strategy}
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
        self.hub.create(new(MACHINE_DEPLOYMENT, namespace, name, spec=spec), MACHINE_DEPLOYMENT)

    def scale(self, namespace: str, replicas: int, name: str = "pool", kind: Kind = MACHINE_SET) -> None:
        self.patch(kind, namespace, name, {"spec": {"replicas": replicas}})

    # -- Agents ----------------------------------------------------------------------------------------------------

    def agent(self, name: str, *, labels: Mapping[str, str] | None = None, approved: bool = True) -> None:
        """An Agent that is `known-unbound`."""
        agent = new(AGENT, AGENTS, name, spec={"approved": approved, "role": ""})
        agent["metadata"]["labels"] = dict(labels or {})
        self.hub.create(agent, AGENT)
        interfaces = [
            {"name": "eth0", "hasCarrier": True, "ipV4Addresses": ["192.0.2.77/24"], "ipV6Addresses": [], "flags": []},
            {"name": "eth1", "hasCarrier": False, "ipV4Addresses": ["192.0.2.78/24"], "ipV6Addresses": [], "flags": []},
        ]
        inventory = {"hostname": f"host-{name}", "interfaces": interfaces}
        self.agent_state(name, "known-unbound", inventory=inventory)

    def agents(self, count: int) -> list[str]:
        names = [f"agent-{number:04d}" for number in range(count)]
        for name in names:
            self.agent(name)
        return names

    def agent_state(self, name: str, state: str, **status: Any) -> None:
        """The status that CIM writes for a state."""
        unbound = state.endswith("-unbound")
        validated = state in ("known-unbound", "known", "installing", "added-to-existing-cluster", "error")
        installed = {"added-to-existing-cluster": ("True", "InstallationCompleted", "done")}
        failed = {"error": ("False", "InstallationFailed", "it broke")}
        values = {
            "SpecSynced": ("True", "SyncOK", ""),
            "Connected": ("True", "AgentIsConnected", ""),
            "Bound": ("False", "Unbound", "") if unbound or state == "unbinding" else ("True", "Bound", ""),
            "Validated": ("True", "ValidationsPassing", "")
            if validated
            else ("False", {"binding": "Binding"}.get(state, "ValidationsFailing"), "no"),
            "RequirementsMet": ("True", "AgentAlreadyInstalling", "")
            if state in ("installing", "added-to-existing-cluster", "error")
            else ("False", "AgentNotReady", "not yet"),
            "Installed": {**installed, **failed}.get(state, ("False", "InstallationNotStarted", "waits")),
        }
        conditions = [
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "lastTransitionTime": timestamp(self.queue.now()),
            }
            for kind, (value, reason, message) in values.items()
        ]
        body = {"status": {"conditions": conditions, "debugInfo": {"state": state}, **status}}
        self.patch(AGENT, AGENTS, name, body, "status")

    def _agent_written(self, revision: Revision) -> None:
        """The stand-in for CIM: binds, installs, unbinds."""
        agent = revision.object
        claimed = dig(agent, "spec", "clusterDeploymentName") is not None
        state = dig(agent, "status", "debugInfo", "state")
        name = name_of(agent)
        if str(revision.type) == "DELETED":
            return
        if claimed and state == "known-unbound":
            self.claims.append((name, agent["metadata"]["labels"]["agentMachineRef"]))
            self.queue.call_later(0.05, lambda: self._move(name, True, "binding"), "cim")
            self.queue.call_later(60.0, lambda: self._move(name, True, "installing"), "cim")
            self.queue.call_later(self.install_s, lambda: self._move(name, True, "added-to-existing-cluster"), "cim")
        elif not claimed and state in ("binding", "installing", "added-to-existing-cluster"):
            self.queue.call_later(0.05, lambda: self._move(name, False, "unbinding"), "cim")
            self.queue.call_later(12.0, lambda: self._move(name, False, "unbinding-pending-user-action"), "cim")

    def _move(self, name: str, claimed: bool, state: str) -> None:
        agent = self.find(AGENT, AGENTS, name)
        if agent is None or self.cim_sleeps or (dig(agent, "spec", "clusterDeploymentName") is not None) != claimed:
            return
        if dig(agent, "status", "debugInfo", "state") == state:
            return
        self.agent_state(name, state)
        if state == "added-to-existing-cluster":
            namespace = agent["metadata"]["annotations"]["agentMachineRefNamespace"]
            owner = next(owner for owner in self.hosted if owner.startswith(f"{namespace}/"))
            self.node(self.hosted[owner], f"host-{name}")

    def node(self, server: ApiServer, name: str) -> None:
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": timestamp(self.queue.now())}
        if self.find(NODE, "", name, server) is not None:
            return
        server.create(new(NODE, None, name, spec={}), NODE)
        body = {"status": {"conditions": [ready]}}
        server.patch(NODE, "", name, body, patch_type=MERGE, subresource="status")

    # -- what is asked -----------------------------------------------------------------------------------------------

    def phases(self, namespace: str) -> list[str]:
        return sorted(dig(machine, "status", "phase", default="") for machine in self.all(MACHINE, namespace))

    def agent_of(self, namespace: str, machine: str) -> str:
        agent_machine = self.find(AGENT_MACHINE, namespace, machine)
        return str(dig(agent_machine, "status", "agentRef", "name", default=""))

    def running(self, namespace: str, count: int) -> Callable[[], bool]:
        return lambda: self.phases(namespace) == ["Running"] * count

    def live_machines(self, namespace: str) -> list[str]:
        return [name_of(machine) for machine in self.all(MACHINE, namespace) if not is_deleting(machine)]


__all__ = ["AGENTS", "INFRA_ID", "MERGE", "CapiWorld", "ignition", "thaw"]
