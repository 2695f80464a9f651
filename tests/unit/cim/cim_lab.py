"""A CIM under test: alone with its database, or in a world with a hub and a fake agent per machine."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from labsim.controllers.cim.component import Cim
from labsim.controllers.cim.rows import Cluster, Host, InfraEnv
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.runtime.effects import Enqueue, Note, Now, Program
from labsim.entropy import Entropy
from labsim.model.http import Request, Response, request_for_url
from labsim.model.kinds import (
    AGENT,
    AGENT_CLUSTER_INSTALL,
    CLUSTER_DEPLOYMENT,
    INFRA_ENV,
    NAMESPACE,
    SECRET,
    Kind,
)
from labsim.model.objects import Object, new
from labsim.world.world import World

START_S = 1_767_225_600.0
GIB = 2**30
HOST_ID = "2f37e81d-4d38-44bd-828e-a82392068fc8"
API = "https://assisted-service.labsim.internal/api/assisted-install/v2"
PULL_SECRET = orjson.dumps({"auths": {"quay.io": {"auth": base64.b64encode(b"lab:secret").decode()}}}).decode()


def inventory(
    hostname: str = "worker-0", *, cpus: int = 4, memory_gib: float = 16, disk_gb: int = 120, **extra: Any
) -> Object:
    """What the agent of a small virtual machine reports."""
    memory = int(memory_gib * GIB)
    return {
        "hostname": hostname,
        "bmc_address": "0.0.0.0",
        "bmc_v6address": "::/0",
        "boot": {"current_boot_mode": "bios", "device_type": "ephemeral"},
        "cpu": {"architecture": "x86_64", "count": cpus, "frequency": 2394.374, "model_name": "Xeon", "flags": ["vmx"]},
        "memory": {"physical_bytes": memory, "physical_bytes_method": "dmidecode", "usable_bytes": memory - GIB // 2},
        "system_vendor": {
            "manufacturer": "Red Hat",
            "product_name": "Standard PC (Q35 + ICH9, 2009)",
            "virtual": True,
        },
        "disks": [
            {
                "name": "vda",
                "path": "/dev/vda",
                "by_path": "/dev/disk/by-path/pci-0000:04:00.0",
                "drive_type": "HDD",
                "size_bytes": disk_gb * 10**9,
                "installation_eligibility": {"eligible": True, "not_eligible_reasons": None},
            },
            {"name": "sr0", "path": "/dev/sr0", "drive_type": "ODD", "size_bytes": 111149056},
        ],
        "interfaces": [
            {
                "name": "enp1s0",
                "type": "physical",
                "mac_address": "52:54:00:aa:bb:01",
                "mtu": 1500,
                "speed_mbps": -1,
                "has_carrier": True,
                "flags": ["up"],
                "ipv4_addresses": ["192.168.126.21/24"],
                "ipv6_addresses": [],
            },
            {"name": "podman0", "type": "device", "ipv4_addresses": ["10.88.0.1/16"]},
        ],
        "routes": [{"interface": "enp1s0", "destination": "0.0.0.0", "gateway": "192.168.126.1", "family": 2}],
        **extra,
    }


class Service:
    """A CIM whose programs are driven by hand: no Kubernetes, and a clock that the test moves."""

    def __init__(self, settings: CimSettings | None = None) -> None:
        self.now_s = START_S
        self.cim = Cim(Entropy(1), settings)
        self.woken: list[tuple[str, str]] = []
        self.effects: list[Any] = []

    def run(self, program: Program[Any]) -> Any:
        answer: Any = None
        try:
            while True:
                effect = program.send(answer)
                self.effects.append(effect)
                if isinstance(effect, Now):
                    answer = self.now_s
                elif isinstance(effect, Enqueue):
                    self.woken.append((effect.controller, str(effect.key)))
                    answer = None
                elif isinstance(effect, Note):
                    answer = None
                else:
                    raise AssertionError(f"touches Kubernetes: {effect!r}")
        except StopIteration as stop:
            return stop.value

    def infra_env(self, name: str = "lab", namespace: str = "agents") -> InfraEnv:
        row = self.cim.database.infra_env_of(namespace, name)
        if row is None:
            row = self.cim.database.add_infra_env(namespace, name, self.now_s)
            self.cim.database.update_infra_env(row, self.now_s, openshift_version="4.18")
            row.image_token = self.cim.tokens.sign({"infra_env_id": row.id}, f"image/{row.id}")
            row.events_token = row.image_token
        return row

    def cluster(self, name: str = "example") -> Cluster:
        row = self.cim.database.cluster_of("clusters-example", name)
        if row is None:
            row = self.cim.database.add_cluster("clusters-example", name, self.now_s)
            self.cim.database.update_cluster(
                row, base_domain="krnl.es", ignition_endpoint_url="https://192.168.122.1:30000"
            )
        return row

    def host(self, host_id: str = HOST_ID) -> Host:
        return self.cim.lifecycle.register(self.infra_env(), host_id, self.cim.settings.agent_image, self.now_s)

    def host_in(self, status: str, *, stage: str = "", bound: bool | None = None) -> Host:
        """A host that was put into a state by hand."""
        host = self.host()
        database = self.cim.database
        pool = status.endswith("-unbound") or status in ("unbinding", "unbinding-pending-user-action")
        is_bound = not (pool or status.startswith("reclaiming")) if bound is None else bound
        if is_bound:
            database.update_host(host, self.now_s, cluster_id=self.cluster().id, kind="AddToExistingClusterHost")
        self.reply(host, "inventory", inventory())
        if stage:
            database.update_host(host, self.now_s, stage=stage, stage_updated_at_s=self.now_s)
        database.move_host(host, status, "as the test wants it", self.now_s)
        return host

    def reply(self, host: Host, step: str, output: Any, exit_code: int = 0) -> None:
        text = output if isinstance(output, str) else orjson.dumps(output).decode()
        self.cim._rest._replies.take(
            host, {"step_type": step, "step_id": f"{step}-1", "exit_code": exit_code, "output": text}, self.now_s
        )

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Response:
        """A call of the agent's API with its token."""
        if token is None:
            token = self.infra_env().image_token
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        sent = {"x-secret-key": token, "discovery_agent_version": self.cim.settings.agent_image, **headers}
        request: Request = request_for_url(method, f"{API}{path}", headers=sent, body=raw)
        answer: Response = self.run(self.cim.services()["assisted-service"](request))
        return answer

    def steps(self, host: Host) -> list[str]:
        answer = self.cim._rest._instructions.answer(host)
        return [step["step_type"] for step in answer["instructions"] or []]

    def messages(self, host: Host, name: str) -> list[str]:
        return [event.message for event in self.cim.database.events("host_id", host.id) if event.name == name]


class CimWorld:
    """A world with a hub and a CIM, without machines: the test plays the agents."""

    def __init__(self, seed: int = 1, settings: CimSettings | None = None) -> None:
        self.world = World(seed=seed)
        self.cim = Cim(self.world.entropy, settings)
        self.world.hub.admission.extend(self.cim.admission_hooks())
        self.world.add(self.cim)
        for service in ("assisted-service", "assisted-image-service"):
            self.world.publish_service(service, f"{service}.labsim.internal", 443)
        for name in ("agents", "clusters-example"):
            self.hub.create(new(NAMESPACE, None, name), NAMESPACE)
        self.secret("agents", "pull-secret", {".dockerconfigjson": PULL_SECRET})

    @property
    def hub(self) -> Any:
        return self.world.hub

    def secret(self, namespace: str, name: str, data: dict[str, str]) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.hub.create(new(SECRET, namespace, name, data=encoded), SECRET)

    def infra_env(self, name: str = "lab", **spec: Any) -> Object:
        wanted = {"pullSecretRef": {"name": "pull-secret"}, **spec}
        self.hub.create(new(INFRA_ENV, "agents", name, spec=wanted), INFRA_ENV)
        self.run(1)
        return self.get(INFRA_ENV, "agents", name)

    def cluster(self, name: str = "example", **install_spec: Any) -> None:
        """An installed cluster that hosts can be added to, as the agent provider makes it."""
        namespace = "clusters-example"
        self.hub.create(
            new(
                CLUSTER_DEPLOYMENT,
                namespace,
                name,
                spec={
                    "installed": True,
                    "clusterName": name,
                    "baseDomain": "krnl.es",
                    "platform": {"agentBareMetal": {"agentSelector": {}}},
                    "pullSecretRef": {"name": "pull-secret"},
                    "clusterMetadata": {
                        "clusterID": "c",
                        "infraID": "c",
                        "adminKubeconfigSecretRef": {"name": "admin-kubeconfig"},
                    },
                    "clusterInstallRef": {
                        "group": AGENT_CLUSTER_INSTALL.group,
                        "version": "v1beta1",
                        "kind": "AgentClusterInstall",
                        "name": name,
                    },
                },
            ),
            CLUSTER_DEPLOYMENT,
        )
        spec = {
            "clusterDeploymentRef": {"name": name},
            "networking": {"userManagedNetworking": True},
            "provisionRequirements": {"controlPlaneAgents": 3},
            "ignitionEndpoint": {"url": "https://192.168.122.1:30000"},
            **install_spec,
        }
        self.hub.create(new(AGENT_CLUSTER_INSTALL, namespace, name, spec=spec), AGENT_CLUSTER_INSTALL)
        self.run(1)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found: Object = self.hub.get(kind, namespace, name)
        return found

    def agent(self, host_id: str = HOST_ID) -> Object:
        return self.get(AGENT, "agents", host_id)

    def patch_agent(self, spec: Object, host_id: str = HOST_ID) -> Object:
        patched: Object = self.hub.patch(
            AGENT, "agents", host_id, {"spec": spec}, patch_type="application/merge-patch+json"
        )
        return patched

    def run(self, seconds: float) -> None:
        self.world.run_for(seconds)
        assert self.world.engine.failures == []

    def fetch(self, method: str, url: str, body: bytes = b"", **headers: str) -> Response:
        request = request_for_url(method, url, headers=headers, body=body, client="test")
        endpoint = self.world.fabric.find(request.host, request.scheme)
        assert endpoint is not None
        answers: list[Response | BaseException] = []
        self.world.answer(endpoint, request, lambda value, error: answers.append(error or value))
        for _ in range(200):
            if answers:
                break
            self.world.run_for(0.01)
        answer = answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class FakeAgent:
    """The agent of one machine, one call at a time."""

    def __init__(self, world: CimWorld, host_id: str = HOST_ID, hostname: str = "worker-0", env: str = "lab") -> None:
        self.world = world
        self.id = host_id
        self.hostname = hostname
        row = world.cim.database.infra_env_of("agents", env)
        assert row is not None
        self.infra_env_id = row.id
        self.token = row.image_token

    def call(self, method: str, path: str, body: Any = None) -> Response:
        return self.world.fetch(
            method,
            f"{API}{path}",
            b"" if body is None else orjson.dumps(body),
            **{"x-secret-key": self.token, "discovery_agent_version": self.world.cim.settings.agent_image},
        )

    def register(self) -> Response:
        body = {"host_id": self.id, "discovery_agent_version": self.world.cim.settings.agent_image}
        return self.call("POST", f"/infra-envs/{self.infra_env_id}/hosts", body)

    @property
    def path(self) -> str:
        return f"/infra-envs/{self.infra_env_id}/hosts/{self.id}"

    def poll(self) -> Object:
        answer = self.call("GET", f"{self.path}/instructions?timestamp={int(self.world.world.now())}")
        assert answer.status == 200, answer.body
        document: Object = answer.json()
        return document

    def reply(self, step: str, output: Any, exit_code: int = 0) -> Response:
        text = output if isinstance(output, str) else orjson.dumps(output).decode()
        body = {"step_type": step, "step_id": f"{step}-1", "exit_code": exit_code, "output": text}
        return self.call("POST", f"{self.path}/instructions", body)

    def work(self) -> str:
        """Poll once and answer every step as a healthy machine would; the action after it."""
        answer = self.poll()
        for step in answer["instructions"] or []:
            kind = step["step_type"]
            if kind == "inventory":
                self.reply(kind, inventory(self.hostname))
            elif kind == "ntp-synchronizer":
                self.reply(kind, {"ntp_sources": [{"source_name": "a", "source_state": "synced"}]})
            elif kind == "api-vip-connectivity-check":
                files = [{"path": "/etc/kubernetes/manifests/coredns.yaml"}]
                ignition = orjson.dumps({"storage": {"files": files}}).decode()
                self.reply(kind, {"is_success": True, "url": "u", "ignition": ignition})
        return str(answer["post_step_action"])

    def progress(self, stage: str, info: str = "") -> Response:
        return self.call("PUT", f"{self.path}/progress", {"current_stage": stage, "progress_info": info})

    def state(self) -> str:
        return str(self.world.agent(self.id)["status"]["debugInfo"]["state"])
