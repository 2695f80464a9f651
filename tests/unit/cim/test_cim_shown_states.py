"""What the golden timeline found: what an Agent and an InfraEnv show on the way, not just at the end."""

from __future__ import annotations

from cim_lab import CimWorld, FakeAgent

from labsim.kube.store import Revision
from labsim.model.kinds import AGENT, INFRA_ENV
from labsim.model.objects import condition_of, dig


def test_an_approved_agent_is_shown_known_before_it_installs() -> None:
    world = CimWorld()
    shown: list[str] = []

    def note(revision: Revision) -> None:
        state = dig(revision.object, "status", "debugInfo", "state", default="")
        if not shown or shown[-1] != state:
            shown.append(state)

    world.hub.subscribe(note, AGENT)
    world.infra_env()
    agent = FakeAgent(world)
    agent.register()
    agent.work()
    world.run(10)
    world.cluster()
    world.patch_agent({"approved": True, "clusterDeploymentName": {"namespace": "clusters-example", "name": "example"}})
    world.run(2)
    assert agent.work() == "exit"
    agent.register()
    for _ in range(3):
        agent.work()
        world.run(60)
    assert [state for state in shown if state] == [
        "discovering-unbound",
        "known-unbound",
        "binding",
        "discovering",
        "insufficient",
        "known",
        "installing",
    ]


def test_an_infra_env_never_misses_a_pull_secret_that_is_there() -> None:
    """The watch of Secrets may lag behind that of InfraEnvs."""
    for seed in range(6):
        world = CimWorld(seed=seed)
        reasons: list[str] = []

        def note(revision: Revision, reasons: list[str] = reasons) -> None:
            created = condition_of(revision.object, "ImageCreated")
            if created is not None:
                reasons.append(created["reason"])

        world.hub.subscribe(note, INFRA_ENV)
        world.infra_env()
        assert set(reasons) == {"InfraEnvAvailable"}
