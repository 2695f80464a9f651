"""Inside a hosted cluster: nodes join through CSRs, pods start, operators become available, heartbeats are missed."""

from __future__ import annotations

import base64

import pytest
from hypershift_hub import ADDRESS, OWNER, PLACE, Hub

from labsim.kube.certificates import csr, derived_key, is_signed_by, load_certificate
from labsim.kube.server import ApiServer
from labsim.kube.users import User
from labsim.model.kinds import (
    AGENT_MACHINE,
    CERTIFICATE_SIGNING_REQUEST,
    CLUSTER_OPERATOR,
    CLUSTER_VERSION,
    DAEMON_SET,
    HOSTED_CLUSTER,
    LEASE,
    MACHINE,
    NAMESPACE,
    NODE,
    NODE_POOL,
    POD,
)
from labsim.model.objects import (
    Object,
    condition_of,
    condition_status,
    labels_of,
    name_of,
    namespace_of,
    new,
    timestamp,
)

BOOTSTRAP = User(
    name="system:serviceaccount:openshift-machine-config-operator:node-bootstrapper",
    uid="u",
    groups=(
        "system:serviceaccounts",
        "system:serviceaccounts:openshift-machine-config-operator",
        "system:authenticated",
    ),
)


class Guest:
    """A hosted cluster with kubelets that a test moves by hand."""

    def __init__(self, seed: int = 1, **changes: object) -> None:
        self.hub = Hub(seed)
        self.hub.add_storage_class()
        self.hub.create_cluster(**changes)
        self.hub.run_for(400)
        self.server: ApiServer = self.hub.hosted[OWNER]

    def vouch(self, hostname: str) -> None:
        """An AgentMachine that has claimed the agent of this host."""
        name = f"example-{hostname}"
        self.hub.server.create(new(AGENT_MACHINE, PLACE, name, spec={}), AGENT_MACHINE)
        addresses = [{"type": "InternalDNS", "address": hostname}]
        self.hub.set_status(AGENT_MACHINE, PLACE, name, {"addresses": addresses})
        machine = new(MACHINE, PLACE, name, spec={"clusterName": "x", "bootstrap": {}, "infrastructureRef": {}})
        machine["metadata"]["annotations"] = {"hypershift.openshift.io/nodePool": "clusters/example"}
        self.hub.server.create(machine, MACHINE)

    def ask(self, hostname: str, signer: str = "kubernetes.io/kube-apiserver-client-kubelet") -> Object:
        client = signer.endswith("client-kubelet")
        key = derived_key(self.hub.entropy, f"{hostname}/{signer}")
        pem = csr(key, f"system:node:{hostname}", organizations=("system:nodes",))
        usages = ["digital signature", "client auth" if client else "server auth"]
        spec = {"request": base64.b64encode(pem.encode()).decode(), "signerName": signer, "usages": usages}
        user = BOOTSTRAP
        if not client:
            user = User(name=f"system:node:{hostname}", uid="n", groups=("system:nodes", "system:authenticated"))
        made = new(CERTIFICATE_SIGNING_REQUEST, None, f"csr-{hostname}-{'c' if client else 's'}", spec=spec)
        return self.server.create(made, CERTIFICATE_SIGNING_REQUEST, user=user)

    def register(self, hostname: str) -> None:
        self.server.create(new(NODE, None, hostname, spec={}), NODE)
        self.ready(hostname, "False")

    def ready(self, hostname: str, status: str = "True") -> None:
        moment = timestamp(self.hub.queue.now())
        entry = {"type": "Ready", "status": status, "reason": "KubeletReady", "lastTransitionTime": moment}
        self.hub.set_status(NODE, "", hostname, {"conditions": [entry]}, self.server)

    def renew(self, hostname: str) -> None:
        moment = timestamp(self.hub.queue.now())
        lease = new(LEASE, "kube-node-lease", hostname, spec={"holderIdentity": hostname, "renewTime": moment})
        if self.hub.find(LEASE, "kube-node-lease", hostname, self.server) is None:
            self.server.create(lease, LEASE)
        else:
            self.server.patch(
                LEASE, "kube-node-lease", hostname, {"spec": lease["spec"]}, patch_type="application/merge-patch+json"
            )

    def live(self, hostnames: list[str], seconds: float) -> None:
        """Kubelets at work: Leases every ten seconds, pods of the node started."""
        for _ in range(int(seconds // 10)):
            for hostname in hostnames:
                self.renew(hostname)
            for pod in self.server.list(POD)[0]:
                if pod["spec"].get("nodeName") in hostnames and pod["status"]["phase"] == "Pending":
                    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                    self.hub.set_status(POD, namespace_of(pod), name_of(pod), status, self.server)
            self.hub.run_for(10)

    def join(self, hostname: str) -> None:
        self.vouch(hostname)
        self.ask(hostname)
        self.hub.run_for(5)
        self.register(hostname)
        self.ask(hostname, "kubernetes.io/kubelet-serving")
        self.live([hostname], 20)
        self.ready(hostname)

    def annotate_machine(self, hostname: str) -> None:
        """What CAPI writes on a Node when it has found the Machine."""
        marks = {"cluster.x-k8s.io/machine": f"example-{hostname}", "cluster.x-k8s.io/cluster-namespace": PLACE}
        self.server.patch(
            NODE, "", hostname, {"metadata": {"annotations": marks}}, patch_type="application/merge-patch+json"
        )

    def request(self, name: str) -> Object:
        return self.server.get(CERTIFICATE_SIGNING_REQUEST, "", name)

    def operator(self, name: str) -> str:
        return condition_status(self.server.get(CLUSTER_OPERATOR, "", name), "Available")


def certificate_of(request: Object) -> str:
    return base64.b64decode(request.get("status", {}).get("certificate", "")).decode()


def test_a_known_hosts_request_is_approved_and_signed() -> None:
    guest = Guest()
    guest.vouch("worker-0")
    guest.ask("worker-0")
    guest.hub.run_for(5)
    request = guest.request("csr-worker-0-c")
    assert condition_status(request, "Approved") == "True"
    pem = certificate_of(request)
    known = guest.hub.hypershift.hosted_authentication(OWNER)
    assert known is not None
    assert is_signed_by(pem, known.client_ca_pem)
    assert "system:node:worker-0" in load_certificate(pem).subject.rfc4514_string()


def test_an_unknown_host_waits_until_a_machine_vouches_for_it() -> None:
    guest = Guest()
    guest.ask("worker-0")
    guest.hub.run_for(600)
    assert "conditions" not in guest.request("csr-worker-0-c").get("status", {})
    guest.vouch("worker-0")
    guest.hub.run_for(5)
    assert certificate_of(guest.request("csr-worker-0-c"))


def test_a_serving_request_waits_for_its_node() -> None:
    guest = Guest()
    guest.vouch("worker-0")
    guest.ask("worker-0", "kubernetes.io/kubelet-serving")
    guest.hub.run_for(30)
    assert not certificate_of(guest.request("csr-worker-0-s"))
    guest.register("worker-0")
    guest.hub.run_for(90)
    assert certificate_of(guest.request("csr-worker-0-s"))


def test_a_requests_signed_even_if_someone_else_approved_it() -> None:
    guest = Guest()
    request = dict(guest.ask("stranger"))
    approved = {"type": "Approved", "status": "True", "reason": "ByHand", "message": ""}
    guest.server.update(
        {**request, "status": {"conditions": [approved]}}, CERTIFICATE_SIGNING_REQUEST, subresource="approval"
    )
    guest.hub.run_for(5)
    assert certificate_of(guest.request("csr-stranger-c"))


def test_a_ready_worker_completes_the_rollout() -> None:
    guest = Guest()
    assert guest.operator("console") == "False"
    assert guest.operator("kube-apiserver") == "True"
    guest.join("worker-0")
    guest.live(["worker-0"], 120)
    for operator in guest.server.list(CLUSTER_OPERATOR)[0]:
        assert condition_status(operator, "Available") == "True", name_of(operator)
    version = guest.server.get(CLUSTER_VERSION, "", "version")
    assert version["status"]["history"][0]["state"] == "Completed"
    assert condition_of(version, "Progressing")["message"] == "Cluster version is 4.22.0"  # type: ignore[index]
    guest.hub.run_for(30)
    cluster = guest.hub.find(HOSTED_CLUSTER, "clusters", "example") or {}
    assert cluster["status"]["version"]["history"][0]["state"] == "Completed"
    for kind in ("DataPlaneConnectionAvailable", "ControlPlaneConnectionAvailable", "ClusterVersionAvailable"):
        assert condition_status(cluster, kind) == "True", kind
    pods = {name_of(pod).rsplit("-", 1)[0]: pod for pod in guest.server.list(POD)[0]}
    assert "konnectivity-agent" in pods
    assert "alertmanager-main" in pods
    daemon_set = guest.server.get(DAEMON_SET, "kube-system", "konnectivity-agent")
    assert daemon_set["status"]["numberReady"] == 1
    ingress = list(guest.hub.server.list(POD, PLACE, label_selector="app=ingress-operator")[0])
    assert all(entry["ready"] for entry in ingress[0]["status"]["containerStatuses"])


def test_two_routers_need_two_workers() -> None:
    guest = Guest(infra_availability_policy="HighlyAvailable")
    guest.join("worker-0")
    guest.live(["worker-0"], 60)
    routers = guest.server.list(POD, "openshift-ingress")[0]
    assert sorted(pod["spec"].get("nodeName", "") for pod in routers) == ["", "worker-0"]
    guest.join("worker-1")
    guest.live(["worker-0", "worker-1"], 60)
    routers = guest.server.list(POD, "openshift-ingress")[0]
    assert sorted(pod["spec"]["nodeName"] for pod in routers) == ["worker-0", "worker-1"]


def test_nodes_get_the_label_of_their_node_pool() -> None:
    guest = Guest()
    guest.hub.change(NODE_POOL, "clusters", "example", {"spec": {"nodeLabels": {"size": "large"}}})
    guest.join("worker-0")
    guest.hub.run_for(5)
    node = guest.server.get(NODE, "", "worker-0")
    assert labels_of(node)["node-role.kubernetes.io/worker"] == ""
    assert "hypershift.openshift.io/nodePool" not in labels_of(node)
    guest.annotate_machine("worker-0")
    guest.hub.run_for(5)
    node = guest.server.get(NODE, "", "worker-0")
    assert labels_of(node)["hypershift.openshift.io/nodePool"] == "example"
    assert labels_of(node)["size"] == "large"
    assert node["metadata"]["annotations"]["hypershift.openshift.io/labelsSynced"] == "true"


def test_a_silent_node_becomes_unknown_and_comes_back() -> None:
    guest = Guest()
    guest.join("worker-0")
    guest.live(["worker-0"], 60)
    assert "taints" not in guest.server.get(NODE, "", "worker-0")["spec"]
    guest.hub.run_for(25)
    assert condition_status(guest.server.get(NODE, "", "worker-0"), "Ready") == "True"
    guest.hub.run_for(20)
    node = guest.server.get(NODE, "", "worker-0")
    ready = condition_of(node, "Ready") or {}
    assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
    assert {entry["key"] for entry in node["spec"]["taints"]} == {"node.kubernetes.io/unreachable"}
    assert guest.operator("console") == "False"
    guest.ready("worker-0")
    guest.live(["worker-0"], 60)
    node = guest.server.get(NODE, "", "worker-0")
    assert not node["spec"].get("taints")
    assert guest.operator("console") == "True"


def test_pods_of_a_node_that_is_gone_go_too() -> None:
    guest = Guest()
    guest.join("worker-0")
    guest.live(["worker-0"], 60)
    guest.server.delete(NODE, "", "worker-0")
    guest.hub.run_for(60)
    assert [pod for pod in guest.server.list(POD)[0] if pod["spec"].get("nodeName") == "worker-0"] == []
    assert guest.operator("console") == "False"
    cluster = guest.hub.find(HOSTED_CLUSTER, "clusters", "example") or {}
    assert condition_of(cluster, "DataPlaneConnectionAvailable")["reason"] == "NoWorkerNodesAvailable"  # type: ignore[index]


def test_a_lab_with_workers_settles_too() -> None:
    guest = Guest()
    guest.join("worker-0")
    guest.live(["worker-0"], 120)

    def writes() -> tuple[int, int]:
        return guest.hub.server.revision, guest.server.revision

    before = writes()
    guest.live(["worker-0"], 1200)
    after = writes()
    assert after[0] == before[0]
    assert after[1] - before[1] == 120, "only the Lease is renewed"


@pytest.mark.parametrize("namespace", ["kube-system", "openshift-console", "kube-node-lease"])
def test_namespaces_of_a_fresh_cluster(namespace: str) -> None:
    guest = Guest()
    assert guest.server.get(NAMESPACE, "", namespace)["metadata"]["name"] == namespace


def test_pods_leave_a_node_that_stays_silent() -> None:
    guest = Guest()
    guest.join("worker-0")
    guest.live(["worker-0"], 60)
    guest.join("worker-1")
    guest.live(["worker-0", "worker-1"], 60)
    router = guest.server.list(POD, "openshift-ingress")[0][0]
    lost, other = sorted(["worker-0", "worker-1"], key=lambda name: name != router["spec"]["nodeName"])
    guest.live([other], 120)
    assert guest.server.list(POD, "openshift-ingress")[0][0]["spec"]["nodeName"] == lost
    guest.live([other], 300)
    assert guest.server.list(POD, "openshift-ingress")[0][0]["spec"]["nodeName"] == other
    assert guest.operator("ingress") == "True"
    before = guest.server.revision
    guest.live([other], 600)
    assert guest.server.revision - before == 60, "only the Lease of the other node is renewed"


def test_a_foreign_daemon_set_runs_on_the_node_that_it_names() -> None:
    guest = Guest()
    for hostname in ("worker-0", "worker-1"):
        guest.join(hostname)
    guest.server.create(new(NAMESPACE, None, "assisted-installer"), NAMESPACE)
    command = ["next_step_runner", "-url=https://assisted"]
    template = {
        "metadata": {"labels": {"name": "reclaim"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "worker-1"},
            "containers": [{"name": "reclaim", "image": "agent", "command": command}],
        },
    }
    spec = {"selector": {"matchLabels": {"name": "reclaim"}}, "template": template}
    guest.server.create(new(DAEMON_SET, "assisted-installer", "worker-1-reclaim", spec=spec), DAEMON_SET)
    guest.live(["worker-0", "worker-1"], 20)
    pods = guest.server.list(POD, "assisted-installer")[0]
    assert [pod["spec"]["nodeName"] for pod in pods] == ["worker-1"]
    assert pods[0]["spec"]["containers"][0]["command"] == command
    assert guest.server.get(DAEMON_SET, "assisted-installer", "worker-1-reclaim")["status"]["numberReady"] == 1


def test_a_pod_that_every_node_needs_comes_again() -> None:
    guest = Guest()
    guest.join("worker-0")
    guest.live(["worker-0"], 30)
    pod = guest.server.list(POD, "openshift-dns")[0][0]
    guest.server.delete(POD, "openshift-dns", name_of(pod), options={"gracePeriodSeconds": 0})
    guest.live(["worker-0"], 30)
    after = guest.server.list(POD, "openshift-dns")[0]
    assert [entry["status"]["phase"] for entry in after] == ["Running"]
    assert after[0]["metadata"]["uid"] != pod["metadata"]["uid"]


def test_a_konnectivity_agent_without_its_server_is_a_data_plane_that_cannot_be_read() -> None:
    guest = Guest()
    guest.join("worker-0")
    guest.ready("worker-0")
    guest.live(["worker-0"], 60)
    (agent,) = [pod for pod in guest.server.list(POD, "kube-system")[0] if "konnectivity" in name_of(pod)]
    host, port = (word.partition("=")[2] for word in agent["spec"]["containers"][0]["args"])
    assert host == ADDRESS
    assert 30000 <= int(port) <= 32767
    for ready, status, text in (
        ("False", "False", "failed to read konnectivity-agent logs from data plane"),
        ("True", "True", "All is well"),
    ):
        conditions = [{"type": "Ready", "status": ready}]
        guest.hub.set_status(POD, "kube-system", name_of(agent), {"conditions": conditions}, guest.server)
        guest.live(["worker-0"], 30)
        said = guest.hub.says(HOSTED_CLUSTER, "clusters", "example", "DataPlaneConnectionAvailable")
        assert (said[0], said[2]) == (status, text)
