"""inventory: what this machine is, read from the system it runs on."""

from __future__ import annotations

from labsim.guest.effects import SystemVersion, Task
from labsim.guest.inventory import read_inventory
from labsim.guest.service import ServiceAccess
from labsim.guest.steps.context import StepContext, StepResult, json_output


def send_inventory(context: StepContext, _access: ServiceAccess, _arguments: list[str]) -> Task[StepResult]:
    """The inventory as JSON; read again only where the system may have changed since it was read last."""
    version: int | None = yield SystemVersion()
    if version is None or version != context.inventory_version or not context.inventory_output:
        document = yield from read_inventory(media=context.media)
        context.inventory_output = json_output(document)
        context.inventory_version = version
    return StepResult(context.inventory_output)
