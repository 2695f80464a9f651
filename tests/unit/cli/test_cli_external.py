"""The flag `--external`: what a run says of itself, and where the flag makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from labsim.cli.main import app
from labsim.cli.run_once import RunChoice
from labsim.errors import UsageError
from labsim.lab.hub_choice import given


def test_the_replay_line_names_what_somebody_else_ran() -> None:
    hub = given("embedded", None, "", "auto", external=["agentProvider,kube-controllers"])
    choice = RunChoice(lab="one", machines="simulated", profile="default", seed="1", speed=0.0, hub=hub)
    line = choice.replay_line(Path("one.yaml"))
    assert line == "labsim run one.yaml --machines simulated --seed 1 --external agent-provider,kube-controllers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hub", "serve", "--bare", "--external", "capi"], "--external does not go with --bare"),
        (["hub", "serve", "--external", "agent"], "unknown component in --external agent"),
    ],
)
def test_a_component_that_cannot_be_left_out_is_a_usage_error(arguments: list[str], message: str) -> None:
    refused = CliRunner().invoke(app, arguments).exception
    assert isinstance(refused, UsageError)
    assert refused.message == message
    assert refused.hint
