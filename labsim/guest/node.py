"""The node after its first boot from disk: the kubelet that joins the hosted cluster and keeps its Node alive.

Source: hypershift-agent section 9 (order of the join, NotReady first, Ready after about 2 to 4 minutes),
host-lifecycle 6.6 (certificate requests). As the real one, it registers its Node at its start only: a Node that is
deleted while it runs stays away until the next start.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from labsim.guest.effects import ConnectionFailed, Log, Now, RandomBytes, ReadFile, Sleep, Spawn, Task
from labsim.guest.inventory import read_hostname, usable_hostname
from labsim.guest.inventory_hardware import read_cpu, read_memory
from labsim.guest.inventory_network import read_interfaces
from labsim.guest.kube_client import ApiRefused, KubeClient, micro_timestamp, timestamp
from labsim.guest.kubeconfig import BadKubeconfig, Kubeconfig, read_kubeconfig
from labsim.guest.kubelet_certificates import (
    CLIENT_FILE,
    SERVER_FILE,
    CertificateRequest,
    keep_certificate,
    kept_certificate,
)
from labsim.guest.kubelet_pods import PodWorker
from labsim.guest.service import spread
from labsim.guest.settings import GuestSettings

BOOTSTRAP_PATHS = ("/etc/kubernetes/kubeconfig", "/etc/kubernetes/bootstrap-kubeconfig")
NOT_READY_MESSAGE = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin "
    "returns error: No CNI configuration file in /etc/kubernetes/cni/net.d/. Has your network provider started?"
)
FOREVER_S = 86_400.0
MAX_PODS = "250"  # OpenShift's default
KUBELET_VERSION_PATH = "/etc/labsim/kubelet-version"  # our ignition server's; a real payload comes with its kubelet
KUBELET_VERSION = "v1.31.4"  # where nobody names one
LEASE_SECONDS = 40


def run_node(settings: GuestSettings, *, first_boot: bool) -> Task[None]:
    """Join and stay. Never returns."""
    yield Log("first boot from disk" if first_boot else "booted from disk again", "kubelet")
    bootstrap = yield from _bootstrap_kubeconfig()
    facts = yield from _read_facts()
    kept = None if first_boot else (yield from kept_certificate(CLIENT_FILE))
    if kept is None:
        request = CertificateRequest(KubeClient(bootstrap), settings, facts.name, serving=False)
        kept = yield from request.obtain()
        yield from keep_certificate(CLIENT_FILE, *kept)
    access = Kubeconfig(bootstrap.server, bootstrap.ca_pem, "", *kept)
    kubelet = Kubelet(KubeClient(access), access, settings, facts)
    yield from kubelet.run(new_serving_certificate=first_boot)


def _bootstrap_kubeconfig() -> Task[Kubeconfig]:
    trouble = ""
    for path in BOOTSTRAP_PATHS:
        try:
            return read_kubeconfig((yield ReadFile(path)))
        except (OSError, BadKubeconfig) as error:
            trouble = trouble or f"{path}: {error}"
    yield Log(f"no kubeconfig to join with: {trouble}", "kubelet")
    while True:
        yield Sleep(FOREVER_S)


@dataclasses.dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the Node says of its machine."""

    name: str
    addresses: tuple[str, ...]
    cpus: int
    memory_bytes: int
    architecture: str
    machine_id: str
    system_uuid: str
    boot_id: str
    kubelet_version: str


def _read_facts() -> Task[NodeFacts]:
    interfaces = yield from read_interfaces()
    cpu = yield from read_cpu()
    memory = yield from read_memory()
    hostname = usable_hostname((yield from read_hostname()), interfaces)
    addresses = [
        str(address).split("/")[0]
        for interface in interfaces
        if interface["type"] in ("physical", "vlan", "bond")
        for address in (*interface["ipv4_addresses"], *interface["ipv6_addresses"])
    ]
    system_uuid = yield from _text("/sys/class/dmi/id/product_uuid")
    return NodeFacts(
        name=hostname.lower(),
        addresses=tuple(addresses[:1]),
        cpus=cpu["count"],
        memory_bytes=memory["usable_bytes"],
        architecture={"x86_64": "amd64"}.get(cpu["architecture"], cpu["architecture"]),
        machine_id=system_uuid.replace("-", ""),
        system_uuid=system_uuid,
        boot_id=(yield from _text("/proc/sys/kernel/random/boot_id")),
        kubelet_version=(yield from _text(KUBELET_VERSION_PATH)) or KUBELET_VERSION,
    )


def _text(path: str) -> Task[str]:
    try:
        return (yield ReadFile(path)).decode(errors="replace").strip()  # type: ignore[no-any-return]
    except OSError:
        return ""


class Kubelet:
    """The kubelet of one boot, with its own certificate."""

    def __init__(self, client: KubeClient, access: Kubeconfig, settings: GuestSettings, facts: NodeFacts) -> None:
        self._client = client
        self._access = access
        self._settings = settings
        self._facts = facts
        self._path = f"/api/v1/nodes/{facts.name}"
        self._ready = False
        self._ready_since_s = 0.0
        self._registered = True  # turns False when the Node is deleted under the running kubelet

    def run(self, *, new_serving_certificate: bool) -> Task[None]:
        """Register, then heartbeats, the serving certificate, the network plugin and pods side by side."""
        self._ready_since_s = yield Now()
        yield from self._register()
        yield Spawn(self._heartbeats(), "kubelet-lease")
        yield Spawn(self._serving_certificate(new_serving_certificate), "kubelet-serving")
        yield Spawn(self._become_ready(), "kubelet-network")
        facts = self._facts
        host_ip = facts.addresses[0] if facts.addresses else ""
        yield from PodWorker(self._client, self._access, self._settings, facts.name, host_ip).run()

    def _register(self) -> Task[None]:
        while True:
            now_s: float = yield Now()
            try:
                try:
                    yield from self._client.create("/api/v1/nodes", self._node(now_s))
                except ApiRefused as error:
                    if error.status != 409:
                        raise
                yield from self._patch_status(now_s)
            except (ApiRefused, ConnectionFailed) as error:
                yield Log(f"cannot register the node: {error}", "kubelet")
                yield Sleep(self._settings.kubelet_retry_s)
            else:
                yield Log(f"successfully registered node {self._facts.name}", "kubelet")
                return

    def _node(self, now_s: float) -> dict[str, Any]:
        facts = self._facts
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": facts.name,
                "labels": {
                    "beta.kubernetes.io/arch": facts.architecture,
                    "beta.kubernetes.io/os": "linux",
                    "kubernetes.io/arch": facts.architecture,
                    "kubernetes.io/hostname": facts.name,
                    "kubernetes.io/os": "linux",
                    "node-role.kubernetes.io/worker": "",
                    "node.openshift.io/os_id": "rhcos",
                },
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
            },
            "spec": {},
            "status": self._status(now_s),
        }

    def _status(self, now_s: float) -> dict[str, Any]:
        facts = self._facts
        addresses = [{"type": "InternalIP", "address": address} for address in facts.addresses]
        memory_kib = facts.memory_bytes // 1024
        capacity = {"cpu": str(facts.cpus), "memory": f"{memory_kib}Ki", "pods": MAX_PODS}
        # OpenShift's worker default keeps 500m and 1 GiB for the system, and evicts below 100 MiB.
        left_kib = max(memory_kib - 1024 * 1024 - 100 * 1024, 0)
        allocatable = {"cpu": f"{facts.cpus * 1000 - 500}m", "memory": f"{left_kib}Ki", "pods": MAX_PODS}
        return {
            "addresses": [*addresses, {"type": "Hostname", "address": facts.name}],
            "capacity": capacity,
            "allocatable": allocatable,
            "conditions": self._conditions(now_s),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "architecture": facts.architecture,
                "bootID": facts.boot_id,
                "containerRuntimeVersion": f"cri-o://{facts.kubelet_version.removeprefix('v')}",
                "kernelVersion": "5.14.0",
                "kubeProxyVersion": facts.kubelet_version,
                "kubeletVersion": facts.kubelet_version,
                "machineID": facts.machine_id,
                "operatingSystem": "linux",
                "osImage": "Red Hat Enterprise Linux CoreOS",
                "systemUUID": facts.system_uuid,
            },
        }

    def _conditions(self, now_s: float) -> list[dict[str, Any]]:
        heartbeat = timestamp(now_s)
        since = timestamp(self._ready_since_s)
        healthy = (
            ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        )
        conditions = [
            {"type": kind, "status": "False", "reason": reason, "message": message} for kind, reason, message in healthy
        ]
        ready = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": NOT_READY_MESSAGE}
        if self._ready:
            ready |= {"status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
        conditions.append(ready)
        return [{**condition, "lastHeartbeatTime": heartbeat, "lastTransitionTime": since} for condition in conditions]

    def _patch_status(self, now_s: float) -> Task[None]:
        yield from self._client.merge_patch(f"{self._path}/status", {"status": self._status(now_s)})

    def _become_ready(self) -> Task[None]:
        """The network plugin's pods start a while after the node registered (hypershift-agent section 9)."""
        drawn: bytes = yield RandomBytes("network-ready", 7)
        yield Sleep(spread(drawn, *self._settings.network_ready_s))
        self._ready = True
        self._ready_since_s = yield Now()
        yield from self._report_status()
        while self._registered:
            yield Sleep(self._settings.kubelet_status_interval_s)
            yield from self._report_status()

    def _report_status(self) -> Task[None]:
        """Tell the node's status until it is taken; a deleted Node is left alone."""
        while self._registered:
            try:
                yield from self._patch_status((yield Now()))
            except ApiRefused as error:
                if error.status == 404:
                    yield from self._lost()
                    return
                yield Log(f"cannot update the node status: {error}", "kubelet")
            except ConnectionFailed as error:
                yield Log(f"cannot update the node status: {error}", "kubelet")
            else:
                return
            yield Sleep(self._settings.kubelet_retry_s)

    def _lost(self) -> Task[None]:
        if self._registered:
            self._registered = False
            yield Log(f'Error updating node status: nodes "{self._facts.name}" not found', "kubelet")

    def _heartbeats(self) -> Task[None]:
        """Renew the Lease, every 10 s as upstream; the first request makes it."""
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        name = self._facts.name
        exists, away = True, False
        while self._registered:
            now_s: float = yield Now()
            try:
                if exists:
                    renewal = {"spec": {"renewTime": micro_timestamp(now_s), "holderIdentity": name}}
                    yield from self._client.merge_patch(f"{path}/{name}", renewal)
                else:
                    node = yield from self._client.get(self._path)
                    yield from self._client.create(path, self._lease(node, now_s))
                    exists = True
                if away:  # the cluster may have marked the node Unknown meanwhile: say at once that it is here
                    away = False
                    yield from self._report_status()
            except ApiRefused as error:
                if error.status == 404 and not exists:
                    yield from self._lost()
                    return
                if error.status == 404:
                    exists = False
                    continue
                away = yield from self._cannot_renew(error, away)
            except ConnectionFailed as error:
                away = yield from self._cannot_renew(error, away)
            yield Sleep(self._settings.kubelet_lease_interval_s)

    def _cannot_renew(self, error: Exception, away: bool) -> Task[bool]:
        if not away:  # one line per outage
            yield Log(f"cannot renew the lease: {error}", "kubelet")
        return True

    def _lease(self, node: dict[str, Any], now_s: float) -> dict[str, Any]:
        name = self._facts.name
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"].get("uid", "")}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease", "ownerReferences": [owner]},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": micro_timestamp(now_s),
            },
        }

    def _serving_certificate(self, new: bool) -> Task[None]:
        if not new and (yield from kept_certificate(SERVER_FILE)) is not None:
            return
        request = CertificateRequest(
            self._client, self._settings, self._facts.name, serving=True, ip_addresses=self._facts.addresses
        )
        certificate = yield from request.obtain()
        yield from keep_certificate(SERVER_FILE, *certificate)
