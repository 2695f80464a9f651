"""The straight road of one agent, on a hub, under the world's clock."""

from __future__ import annotations

from cim_lab import HOST_ID, CimWorld, FakeAgent

from labsim.controllers.runtime.effects import Publish
from labsim.model.kinds import AGENT, AGENT_CLUSTER_INSTALL, CLUSTER_DEPLOYMENT, DAEMON_SET, INFRA_ENV, NODE, SECRET
from labsim.model.objects import Object, condition_of, new


def _entry(obj: Object, kind: str) -> Object:
    found = condition_of(obj, kind)
    assert found is not None, kind
    return found


def _condition(obj: Object, kind: str) -> tuple[str, str]:
    found = _entry(obj, kind)
    return found["status"], found["reason"]


def _known_unbound(world: CimWorld) -> FakeAgent:
    world.infra_env()
    agent = FakeAgent(world)
    assert agent.register().status == 201
    agent.work()
    world.run(10)
    assert agent.state() == "known-unbound"
    return agent


def _known(world: CimWorld) -> FakeAgent:
    agent = _known_unbound(world)
    world.cluster()
    world.patch_agent({"clusterDeploymentName": {"namespace": "clusters-example", "name": "example"}})
    world.run(2)
    assert agent.state() == "binding"
    assert agent.work() == "exit"
    assert agent.register().json()["status"] == "discovering"
    for _ in range(3):
        agent.work()
        world.run(60)
    assert agent.state() == "known"
    return agent


def _installed(world: CimWorld) -> FakeAgent:
    agent = _known(world)
    world.patch_agent({"approved": True})
    world.run(2)
    assert agent.state() == "installing"
    for stage in ("Starting installation", "Installing", "Writing image to disk", "Rebooting"):
        assert agent.progress(stage).status == 200
    # The Agent controller owns the rest; here the host is brought to its end by hand.
    host = world.cim.database.host_of("agents", HOST_ID)
    assert host is not None
    world.cim.lifecycle.progress(host, "Done", "", world.world.now())
    world.run(120)
    assert agent.state() == "added-to-existing-cluster"
    return agent


def test_an_infra_env_gets_an_image_and_keeps_its_address() -> None:
    world = CimWorld()
    env = world.infra_env()
    status = env["status"]
    assert _condition(env, "ImageCreated") == ("True", "InfraEnvAvailable")
    assert status["isoDownloadURL"].startswith("https://assisted-image-service.labsim.internal/byapikey/")
    assert status["isoDownloadURL"].endswith("/4.18/x86_64/minimal.iso")
    assert status["agentLabelSelector"] == {"matchLabels": {"infraenvs.agent-install.openshift.io": "lab"}}
    world.run(600)
    assert world.get(INFRA_ENV, "agents", "lab")["status"] == status


def test_a_change_of_the_infra_env_brings_another_address() -> None:
    world = CimWorld()
    before = world.infra_env()["status"]
    world.run(5)
    world.hub.patch(
        INFRA_ENV,
        "agents",
        "lab",
        {"spec": {"additionalNTPSources": ["ntp.lab"]}},
        patch_type="application/merge-patch+json",
    )
    world.run(1)
    after = world.get(INFRA_ENV, "agents", "lab")["status"]
    assert after["isoDownloadURL"] != before["isoDownloadURL"]
    assert after["createdTime"] > before["createdTime"]


def test_a_registered_host_is_an_agent_that_becomes_known() -> None:
    world = CimWorld()
    world.infra_env(agentLabels={"size": "small"})
    agent = FakeAgent(world)
    answer = agent.register()
    assert answer.status == 201
    document = answer.json()
    assert document["status"] == "discovering-unbound"
    assert '"host_id"' in document["next_step_runner_command"]["args"][0]
    world.run(1)
    made = world.agent()
    assert made["spec"] == {"approved": False, "role": ""}
    assert made["metadata"]["labels"]["size"] == "small"
    assert made["metadata"]["ownerReferences"][0]["kind"] == "InfraEnv"
    agent.work()
    world.run(10)
    known = world.agent()
    assert known["status"]["debugInfo"]["state"] == "known-unbound"
    assert known["status"]["debugInfo"]["stateInfo"] == "Host is ready to be bound to a cluster"
    assert "eventsURL" not in known["status"]["debugInfo"]
    assert _condition(known, "RequirementsMet") == ("False", "AgentIsNotApproved")
    assert _condition(known, "Bound") == ("False", "Unbound")
    assert _condition(known, "SpecSynced") == ("True", "SyncOK")
    assert known["status"]["inventory"]["hostname"] == "worker-0"
    labels = known["metadata"]["labels"]
    assert labels["inventory.agent-install.openshift.io/host-productname"] == "StandardPCQ35ICH92009"
    assert labels["agent-install.openshift.io/clusterdeployment-namespace"] == ""


def test_binding_takes_the_host_through_discovery_again() -> None:
    world = CimWorld()
    agent = _known(world)
    shown = world.agent()
    assert shown["status"]["kind"] == "AddToExistingClusterHost"
    assert shown["status"]["role"] == "worker"
    assert _condition(shown, "Bound") == ("True", "Bound")
    assert "host_id=" in shown["status"]["debugInfo"]["eventsURL"]
    assert shown["metadata"]["labels"]["agent-install.openshift.io/clusterdeployment-namespace"] == "clusters-example"
    assert agent.poll()["instructions"]


def test_an_approved_known_host_installs_by_itself() -> None:
    world = CimWorld()
    agent = _installed(world)
    shown = world.agent()
    assert _condition(shown, "Installed") == ("True", "InstallationCompleted")
    assert _entry(shown, "Installed")["message"] == "The installation has completed: Done"
    assert shown["status"]["progress"]["installationPercentage"] == 100
    assert agent.state() == "added-to-existing-cluster"


def test_an_unbound_installed_host_waits_for_its_user_and_comes_back() -> None:
    world = CimWorld()
    agent = _installed(world)
    world.patch_agent({"clusterDeploymentName": None})
    world.run(2)
    shown = world.agent()
    # The spoke cannot be reached, so nothing is reclaimed.
    assert shown["status"]["debugInfo"]["state"] == "unbinding-pending-user-action"
    assert _condition(shown, "Bound") == ("False", "UnbindingPendingUserAction")
    assert shown["status"]["deprovision_info"]["node_name"] == "worker-0"
    world.run(3600)
    assert agent.state() == "unbinding-pending-user-action"
    assert agent.register().json()["status"] == "discovering-unbound"
    agent.work()
    world.run(10)
    shown = world.agent()
    assert shown["status"]["debugInfo"]["state"] == "known-unbound"
    assert "deprovision_info" not in shown["status"]
    assert shown["spec"]["approved"] is True


def test_a_bind_that_the_state_machine_refuses_is_tried_until_it_can_be_had() -> None:
    world = CimWorld()
    world.infra_env()
    world.cluster()
    agent = FakeAgent(world)
    agent.register()
    world.run(1)
    world.patch_agent({"clusterDeploymentName": {"namespace": "clusters-example", "name": "example"}})
    world.run(1)
    synced = _entry(world.agent(), "SpecSynced")
    assert (synced["reason"], synced["message"]) == (
        "BackendError",
        "The Spec could not be synced due to backend error: no condition found to run transition",
    )
    agent.work()
    world.run(20)
    assert agent.state() == "binding"
    assert _condition(world.agent(), "SpecSynced") == ("True", "SyncOK")


def test_a_binding_to_a_cluster_that_is_not_there_is_a_backend_error() -> None:
    world = CimWorld()
    _known_unbound(world)
    world.patch_agent({"clusterDeploymentName": {"namespace": "nowhere", "name": "none"}})
    world.run(1)
    assert (
        "failed to get clusterDeployment with name none in namespace nowhere"
        in _entry(world.agent(), "SpecSynced")["message"]
    )


def test_auto_approval_comes_back_at_every_pass() -> None:
    world = CimWorld()
    world.infra_env(agentApproval={"autoApprove": True})
    agent = FakeAgent(world)
    agent.register()
    world.run(1)
    assert world.agent()["spec"]["approved"] is True
    world.patch_agent({"approved": False})
    world.run(1)
    assert world.agent()["spec"]["approved"] is True


def test_a_settled_lab_stops_writing() -> None:
    world = CimWorld()
    agent = _known_unbound(world)
    for _ in range(3):
        agent.work()
        world.run(60)
    revision = world.hub.store.revision
    for _ in range(20):
        agent.work()
        world.run(60)
    assert world.hub.store.revision == revision


def test_a_silent_host_is_found_within_eight_minutes() -> None:
    world = CimWorld()
    agent = _known_unbound(world)
    world.run(8 * 60 + 10)
    shown = world.agent()
    assert agent.state() == "disconnected-unbound"
    assert _condition(shown, "Connected") == ("False", "AgentIsDisconnected")
    agent.work()
    # Its last transition is more than five minutes ago: it is scanned once a minute.
    world.run(70)
    assert agent.state() == "known-unbound"


def test_deleting_an_agent_forgets_its_host() -> None:
    world = CimWorld()
    agent = _known_unbound(world)
    world.hub.delete(AGENT, "agents", HOST_ID)
    world.run(2)
    assert agent.call("GET", f"{agent.path}/instructions").status == 404
    assert agent.register().status == 201
    world.run(1)
    assert world.agent()["spec"] == {"approved": False, "role": ""}


def test_deleting_the_cluster_deployment_unbinds_its_agents() -> None:
    world = CimWorld()
    agent = _installed(world)
    world.hub.delete(CLUSTER_DEPLOYMENT, "clusters-example", "example")
    world.run(30)
    assert "clusterDeploymentName" not in world.agent()["spec"]
    assert agent.state() == "unbinding-pending-user-action"
    kinds = {row.name for row in world.cim.database.clusters.values()}
    assert kinds == set()
    names = [obj["metadata"]["name"] for obj in world.hub.list(CLUSTER_DEPLOYMENT, "clusters-example")[0]]
    assert names == []


def test_the_install_shows_a_cluster_that_is_adding_hosts() -> None:
    world = CimWorld()
    world.cluster()
    install = world.get(AGENT_CLUSTER_INSTALL, "clusters-example", "example")
    assert install["status"]["debugInfo"]["state"] == "adding-hosts"
    assert _condition(install, "Completed") == ("True", "InstallationCompleted")
    assert _entry(install, "SpecSynced")["message"] == "SyncOK"
    assert install["metadata"]["ownerReferences"][0]["kind"] == "ClusterDeployment"


def test_reclaim_creates_its_objects_on_the_spoke_and_ends_in_the_pool() -> None:
    world = CimWorld()
    agent = _installed(world)
    owner = "clusters-example/example"
    world.world.publish(Publish("kube-apiserver", owner, "192.168.122.1", 6443))
    spoke = world.world.hosted[owner].server
    spoke.create(new(NODE, None, "worker-0"), NODE)
    kubeconfig = '{"clusters": [{"name": "c", "cluster": {"server": "https://192.168.122.1:6443"}}]}'
    world.secret("clusters-example", "admin-kubeconfig", {"kubeconfig": kubeconfig})
    world.run(1)
    world.patch_agent({"clusterDeploymentName": None})
    world.run(2)
    assert agent.state() == "reclaiming"
    assert _condition(world.agent(), "Bound") == ("True", "Bound")
    daemon_set = spoke.get(DAEMON_SET, "assisted-installer", "worker-0-reclaim")
    assert daemon_set["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert spoke.get(SECRET, "assisted-installer", f"reclaim-{agent.infra_env_id}-token")
    assert agent.register().status == 400  # not from reclaiming
    steps = agent.poll()["instructions"]
    assert [step["step_type"] for step in steps] == ["download-boot-artifacts"]
    agent.reply("download-boot-artifacts", "done")
    world.run(1)
    assert agent.state() == "reclaiming-rebooting"
    assert agent.poll()["post_step_action"] == "exit"
    assert agent.register().json()["status"] == "discovering-unbound"
    agent.work()
    world.run(10)
    assert agent.state() == "known-unbound"
    assert spoke.list(NODE)[0] == []
