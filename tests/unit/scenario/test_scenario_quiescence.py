"""A settled lab stops writing; one that does not is found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labsim.controllers.runtime.effects import Controller, Handler, Key, Program, Result, get, patch
from labsim.model.kinds import CONFIG_MAP
from labsim.model.objects import new
from labsim.model.scenario import parse_scenario
from labsim.scenario.runner import run_scenario

TEXT = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: quiet}
spec:
  lab:
    infraEnvs: [{name: lab}]
    machines: [{name: worker, count: 1, infraEnv: lab}]
  steps:
    - boot: {machines: worker-*, from: discovery-iso}
    - expect: {agents: all, count: 1, state: known-unbound, within: 15m}
"""


class Restless:
    """Counts in a ConfigMap, each minute, for ever."""

    name = "restless"

    def controllers(self) -> Sequence[Controller]:
        return (Controller("count", self.count, ()),)

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return (("count", Key("default", "counter")),)

    def count(self, key: Key) -> Program[Result]:
        found = yield from get(CONFIG_MAP, key.namespace, key.name, live=True)
        count = int((found or {}).get("data", {}).get("count", "0")) + 1
        yield from patch(CONFIG_MAP, key.namespace, key.name, {"data": {"count": str(count)}})
        return Result(60.0)


def test_a_lab_that_nobody_touches_is_quiet(lab: Callable[[str], Any]) -> None:
    result = run_scenario(lab(TEXT), parse_scenario(TEXT))
    assert result.verdict == "passed"
    assert result.violations == ()


def test_a_controller_that_never_stops_writing_is_found(lab: Callable[[str], Any]) -> None:
    restless = lab(TEXT)
    restless.hub.create(new(CONFIG_MAP, "default", "counter"), CONFIG_MAP)
    restless.world.add(Restless())
    result = run_scenario(restless, parse_scenario(TEXT))
    assert result.verdict == "failed"
    assert [violation.invariant for violation in result.violations] == ["settled-lab-stops-writing"]
    assert "default/counter" in result.violations[0].message
