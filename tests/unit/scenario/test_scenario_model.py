from pathlib import Path

import pytest

from labsim.errors import ExitCode, InvalidFile
from labsim.model.scenario import load_scenario, parse_scenario

GOOD = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: one}
spec:
  lab:
    infraEnvs: [{name: lab}]
    machines: [{name: worker, count: 2, infraEnv: lab}]
  steps:
    - boot: {machines: worker-*, from: discovery-iso}
    - expect: {agents: all, count: 2, state: known-unbound, within: 15m}
"""


BOOT = "boot: {machines: worker-*, from: discovery-iso}"


def test_every_shipped_scenario_is_valid() -> None:
    files = sorted((Path(__file__).parents[3] / "scenarios").rglob("*.yaml"))
    assert len(files) >= 13
    for path in files:
        assert load_scenario(path).metadata.name == path.stem


def test_units_are_read() -> None:
    scenario = parse_scenario(GOOD)
    assert scenario.spec.steps[1].expect is not None
    assert scenario.spec.steps[1].expect.within == 900
    assert scenario.machine_names() == ["worker-0", "worker-1"]


def test_all_mistakes_are_reported_at_once_with_their_paths_and_suggestions() -> None:
    bad = (
        GOOD.replace("known-unbound", "know-unbound")
        .replace("within: 15m", "withn: 15m")
        .replace("count: 2, infraEnv", "cuont: 2, infraEnv")
    )
    with pytest.raises(InvalidFile) as caught:
        parse_scenario(bad)
    text = str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "did you mean known-unbound?" in text
    assert "did you mean within?" in text
    assert "did you mean count?" in text
    assert "spec.steps[1].expect.state" in text
    assert len(caught.value.problems) >= 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("infraEnv: lab", "infraEnv: lap"), "did you mean lab?"),
        (("worker-*", "woker-*"), "no machine matches"),
        (("{name: lab}", "{name: Lab!}"), "should match pattern"),
        (("boot: {machines: worker-*, from: discovery-iso}", "scale: {nodePool: none, replicas: 1}"), "no step before"),
        (("boot: {machines: worker-*, from: discovery-iso}", "dance: {}"), "exactly one of"),
        ((BOOT, "hubFault: {fault: freeze}"), "freeze needs at least one of program, user, connection"),
        ((BOOT, "hubFault: {fault: clear, program: x}"), "clear meets nobody"),
        ((BOOT, "hubFault: {fault: delay, program: x}"), "delay needs by"),
        ((BOOT, "hubFault: {fault: freeze, program: x, by: 5s}"), "by goes with delay and reorder, not with freeze"),
        ((BOOT, "hubFault: {fault: cut, program: x, how: timeout}"), "how of cut is one of end, reset, expired"),
        ((BOOT, "hubFault: {fault: lose-write, program: x}"), "lose-write needs dataLoss: true"),
        (("kind: Scenario", "kind: Scenery"), "kind"),
        (("15m", "15"), "write a number and a unit"),
    ],
)
def test_a_mistake_says_what_is_expected(change: tuple[str, str], message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        parse_scenario(GOOD.replace(*change))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\t"])
def test_a_file_that_is_no_scenario_is_refused(text: str) -> None:
    with pytest.raises(InvalidFile):
        parse_scenario(text)
