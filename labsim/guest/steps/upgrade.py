"""upgrade-agent: the next registration is answered with the image to run, so there is nothing to fetch."""

from __future__ import annotations

from labsim.guest.effects import Task
from labsim.guest.service import ServiceAccess
from labsim.guest.steps.context import StepContext, StepResult, json_argument, json_output


def upgrade_agent(context: StepContext, _access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Report success and end the step runner; the agent registers again and runs the version it is told."""
    image = str(json_argument(arguments)["agent_image"])
    yield from context.log(f"upgrading the agent to {image}", "runner")
    return StepResult(json_output({"agent_image": image, "result": "success"}), ends_runner=True)
