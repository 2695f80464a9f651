"""From the last reboot on, the Agent controller follows the node on the cluster (cim-resources 3.10)."""

from __future__ import annotations

import base64
from typing import Any

from cim_lab import HOST_ID, CimWorld, FakeAgent

from labsim.controllers.cim.csr_matching import BOOTSTRAPPER, BOOTSTRAPPER_GROUPS
from labsim.controllers.runtime.effects import Publish
from labsim.entropy import Entropy
from labsim.kube.certificates import csr, derived_key
from labsim.kube.users import User
from labsim.model.kinds import AGENT, CERTIFICATE_SIGNING_REQUEST, NODE
from labsim.model.objects import Object, condition_of, new

OWNER = "clusters-example/example"
KUBECONFIG = '{"clusters": [{"name": "c", "cluster": {"server": "https://192.168.122.1:6443"}}]}'
ADDRESS = "192.168.126.21"


class Spoke:
    """An agent at its last reboot, and the cluster that it joins."""

    def __init__(self, world: CimWorld | None = None, **agent_spec: Any) -> None:
        self.world = world or CimWorld()
        self.world.infra_env()
        self.world.cluster()
        self.agent = FakeAgent(self.world)
        self.agent.register()
        self.agent.work()
        self.world.run(10)
        self.world.patch_agent(
            {
                "clusterDeploymentName": {"namespace": "clusters-example", "name": "example"},
                "approved": True,
                **agent_spec,
            }
        )
        self.world.run(2)
        assert self.agent.work() == "exit"
        self.agent.register()
        for _ in range(3):
            self.agent.work()
            self.world.run(30)
        assert self.agent.state() == "installing"
        self.world.world.publish(Publish("kube-apiserver", OWNER, "192.168.122.1", 6443))
        self.server = self.world.world.hosted[OWNER].server
        self.world.secret("clusters-example", "admin-kubeconfig", {"kubeconfig": KUBECONFIG})
        for stage in ("Starting installation", "Rebooting"):
            assert self.agent.progress(stage).status == 200
        self.world.run(61)

    def node(self, *, ready: bool) -> None:
        status = {
            "addresses": [{"type": "InternalIP", "address": ADDRESS}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }
        try:
            self.server.get(NODE, "", "worker-0")
        except Exception:
            self.server.create(new(NODE, None, "worker-0"), NODE)
        merge = "application/merge-patch+json"
        self.server.patch(NODE, "", "worker-0", {"status": status}, patch_type=merge, subresource="status")

    def request(self, name: str, *, serving: bool) -> None:
        pem = csr(
            derived_key(Entropy(1), name),
            "system:node:worker-0",
            organizations=("system:nodes",),
            dns_names=("worker-0",) if serving else (),
            ip_addresses=(ADDRESS,) if serving else (),
        )
        usage = "server auth" if serving else "client auth"
        spec = {
            "request": base64.b64encode(pem.encode()).decode(),
            "signerName": "kubernetes.io/kubelet-serving" if serving else "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", usage],
        }
        user = User("system:node:worker-0", "", ("system:nodes", "system:authenticated"))
        if not serving:
            user = User(BOOTSTRAPPER, "", tuple(sorted(BOOTSTRAPPER_GROUPS)))
        self.server.create(
            new(CERTIFICATE_SIGNING_REQUEST, None, name, spec=spec), CERTIFICATE_SIGNING_REQUEST, user=user
        )

    def approval(self, name: str) -> Object | None:
        return condition_of(self.server.get(CERTIFICATE_SIGNING_REQUEST, "", name), "Approved")

    def shown(self) -> tuple[str, str, list[tuple[str, str]]]:
        status = self.world.get(AGENT, "agents", HOST_ID)["status"]
        entries = (status.get("csrStatus") or {}).get("approvedCSRs", [])
        return (
            status["debugInfo"]["state"],
            status["progress"]["currentStage"],
            [(entry["name"], entry["type"]) for entry in entries],
        )


def test_a_node_joins_when_both_its_certificates_are_approved() -> None:
    spoke = Spoke(nodeLabels={"rack": "7"})
    assert spoke.shown() == ("installing-in-progress", "Rebooting", [])
    spoke.request("csr-a", serving=False)
    spoke.request("csr-b", serving=True)
    spoke.world.run(61)
    # The serving one counts only once the Node is there.
    assert spoke.shown() == ("installing-in-progress", "Rebooting", [("csr-a", "client")])
    approved = spoke.approval("csr-a")
    assert approved is not None
    assert (approved["reason"], approved["message"]) == (
        "NodeCSRApprove",
        "This CSR was approved by the assisted-service",
    )
    assert spoke.approval("csr-b") is None
    spoke.node(ready=False)
    spoke.world.run(61)
    assert spoke.shown() == ("installing-in-progress", "Joined", [("csr-a", "client"), ("csr-b", "serving")])
    assert "rack" not in (spoke.server.get(NODE, "", "worker-0")["metadata"].get("labels") or {})
    spoke.node(ready=True)
    spoke.world.run(61)
    assert spoke.shown()[:2] == ("added-to-existing-cluster", "Done")
    assert spoke.server.get(NODE, "", "worker-0")["metadata"]["labels"]["rack"] == "7"
    reconciles = spoke.world.world.engine.reconciles
    spoke.world.run(300)
    assert spoke.world.world.engine.reconciles - reconciles < 8  # the minute's look has ended


def test_a_ready_node_without_certificates_is_only_joined() -> None:
    spoke = Spoke()
    spoke.node(ready=True)
    spoke.world.run(61)
    assert spoke.shown()[:2] == ("installing-in-progress", "Joined")


def test_requests_that_others_approved_are_counted_too() -> None:
    spoke = Spoke()
    spoke.request("csr-a", serving=False)
    merge = "application/merge-patch+json"
    approved = {"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Other"}]}}
    spoke.server.patch(CERTIFICATE_SIGNING_REQUEST, "", "csr-a", approved, patch_type=merge, subresource="approval")
    spoke.world.run(61)
    assert spoke.shown()[2] == [("csr-a", "client")]
    found = spoke.approval("csr-a")
    assert found is not None
    assert found["reason"] == "Other"


def test_a_late_node_recovers_from_the_reboot_s_time_out() -> None:
    spoke = Spoke()
    spoke.world.run(46 * 60)  # 40 minutes, and the next full scan
    assert spoke.shown()[:2] == ("installing-pending-user-action", "Rebooting")
    spoke.node(ready=True)
    spoke.world.run(61)
    assert spoke.shown()[:2] == ("added-to-existing-cluster", "Done")
    progress = spoke.world.agent()["status"]["progress"]
    assert (
        progress["progressInfo"] == "recovered after installing-pending-user-action timeout — node joined spoke cluster"
    )


def test_a_spoke_that_cannot_be_asked_is_asked_again() -> None:
    spoke = Spoke()
    spoke.world.world.fabric.withdraw(OWNER)
    spoke.world.run(120)
    assert spoke.shown()[:2] == ("installing-in-progress", "Rebooting")
    assert condition_of(spoke.world.agent(), "SpecSynced") is not None
