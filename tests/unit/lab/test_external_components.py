"""Components that somebody else runs: who is left out, how time passes, and what is said of starting them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from labsim.controllers.runtime.component import Component
from labsim.errors import InvalidFile, UsageError
from labsim.lab.external import manager_line, start_lines, tell_of_external
from labsim.lab.hub_choice import OUR_OWN, HubChoice, given
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import OpenLab, open_lab
from labsim.model.components import COMPONENT_FLAGS
from labsim.model.kinds import DEPLOYMENT, NAMESPACE
from labsim.model.objects import new
from labsim.model.scenario import LabSpec, parse_scenario
from labsim.world.pace import RealPace
from labsim.world.world import World

FILE = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: mixed}
spec:
  lab:
    infraEnvs: [{name: lab}]
    machines: [{name: worker, infraEnv: lab}]
    hub: {components: COMPONENTS}
  steps: []
"""


def spec_with(components: str) -> LabSpec:
    return parse_scenario(FILE.replace("COMPONENTS", components)).spec.lab


def opened(tmp_path: Path, components: str, hub: HubChoice = OUR_OWN, speed: float = 0.0) -> OpenLab:
    return open_lab(spec_with(components), LabRequest(name="mixed", folder=tmp_path, speed=speed, hub=hub))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The controllers of each component that a lab's world is given."""
    found: dict[str, set[str]] = {}
    add = World.add

    def noted(world: World, component: Component) -> None:
        found[component.name] = {controller.name for controller in component.controllers()}
        add(world, component)

    monkeypatch.setattr(World, "add", noted)
    return found


def test_the_file_says_who_plays_what() -> None:
    spec = spec_with("{agentProvider: external, import: external, kubeControllers: external}")
    assert spec.hub.components.external() == ("agentProvider", "import", "kubeControllers")
    assert spec_with("{}").hub.components.external() == ()


@pytest.mark.parametrize("components", ["{agentProvider: real}", "{agent-provider: external}", "{cim: auto}"])
def test_a_file_with_another_word_is_refused(components: str) -> None:
    with pytest.raises(InvalidFile):
        spec_with(components)


def test_a_flag_goes_before_the_file_and_takes_both_spellings() -> None:
    choice = given("embedded", None, "", "auto", external=["agent-provider,capi", "import"])
    assert choice.external == ("agentProvider", "capi", "import")
    spec, choice = choice.of(spec_with("{cim: external}"))
    assert spec.hub.components.external() == choice.external == ("cim", "capi", "agentProvider", "import")


def test_an_unknown_component_is_a_usage_error_with_advice() -> None:
    with pytest.raises(UsageError) as caught:
        given("embedded", None, "", "auto", external=["agent-provder"])
    assert caught.value.hint == "did you mean agent-provider?"


def test_kube_controllers_of_the_file_hold_unless_the_flag_says_otherwise() -> None:
    spec = spec_with("{kubeControllers: external}")
    assert OUR_OWN.of(spec)[1].kube_controllers == "external"
    assert dataclasses.replace(OUR_OWN, kube_controllers="simulated").of(spec)[1].kube_controllers == "simulated"


@pytest.mark.parametrize("name", ["cim", "capi", "agentProvider", "hypershift", "import"])
def test_an_external_component_is_not_played_and_time_is_real(
    name: str, tmp_path: Path, played: dict[str, set[str]]
) -> None:
    with opened(tmp_path, f"{{{name}: external}}") as one:
        assert set(played) == set(COMPONENT_FLAGS) - {name}
        assert isinstance(one.lab.world.pace, RealPace)
        assert one.hub_url


def test_all_are_played_in_virtual_time_where_nobody_else_takes_part(
    tmp_path: Path, played: dict[str, set[str]]
) -> None:
    with opened(tmp_path, "{}") as one:
        assert set(played) == set(COMPONENT_FLAGS)
        assert one.lab.world.pace.is_virtual


def test_hosted_clusters_keep_their_garbage_collector_where_the_hub_has_a_real_one(
    tmp_path: Path, played: dict[str, set[str]]
) -> None:
    with opened(tmp_path, "{}"):
        everything = played.pop("kubeControllers")
    with opened(tmp_path, "{kubeControllers: external}"):
        assert played["kubeControllers"]
        assert played["kubeControllers"] < everything


def test_how_to_start_a_manager_is_said_when_hypershift_wants_one(tmp_path: Path) -> None:
    said: list[str] = []
    with opened(tmp_path, "{agentProvider: external}") as one:
        tell_of_external(one.lab, Path("/a b/kubeconfig"), said.append)
        assert "agent-provider is yours to run" in said[0]
        said.clear()
        container = {"args": ["--namespace=clusters-example", "--agent-namespace=pool", "--leader-elect"]}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "capi-provider", "namespace": "clusters-example"},
            "spec": {
                "selector": {"matchLabels": {"app": "x"}},
                "template": {
                    "metadata": {"labels": {"app": "x"}},
                    "spec": {"containers": [{"name": "manager", "image": "i", **container}]},
                },
            },
        }
        one.lab.hub.ensure(new(NAMESPACE, None, "clusters-example"), NAMESPACE)
        one.lab.hub.ensure(deployment, DEPLOYMENT)
    wanted = manager_line(Path("/a b/kubeconfig"), "clusters-example", "pool")
    assert said == [f"start: {wanted}"]
    assert wanted.startswith("KUBECONFIG='/a b/kubeconfig' manager --namespace clusters-example --agent-namespace pool")


def test_other_components_are_told_where_the_hub_is() -> None:
    assert start_lines(["capi"], Path("/k")) == ["capi is yours to run; labsim does not play it", "  KUBECONFIG=/k"]
