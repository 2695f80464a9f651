"""install, stop-installation, logs-gather: the installer container and its logs. Source: host-lifecycle 3.5, 6.5."""

from __future__ import annotations

from labsim.guest.effects import Cancel, Join, Spawn, Task, TaskCancelled
from labsim.guest.installer import Installer, InstallOrder
from labsim.guest.logs import send_logs
from labsim.guest.service import INSTALLER_RETRIES, ServiceAccess, ServiceClient
from labsim.guest.steps.context import StepContext, StepResult, json_argument

ALREADY_IN_USE = 'Error: creating container storage: the container name "assisted-installer" is already in use'


def run_install(context: StepContext, access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Run the installer and wait for it; a second one beside it is refused as podman does."""
    order = InstallOrder.from_argument(json_argument(arguments))
    if context.installer is not None:
        return StepResult(exit_code=125, error=ALREADY_IN_USE)
    context.installer = True  # the name is taken from here on
    context.installer = yield Spawn(Installer(context, access, order).run(), "assisted-installer")
    try:
        exit_code: int = yield Join(context.installer)
    except TaskCancelled:
        exit_code = 137  # what podman tells of a container that was killed
    if exit_code:
        context.installer = None
        return StepResult(exit_code=exit_code, error="the installer failed; its logs say why")
    return StepResult()


def stop_installation(context: StepContext, _access: ServiceAccess, _arguments: list[str]) -> Task[StepResult]:
    """Stop the installer, if one runs."""
    installer, context.installer = context.installer, None
    if installer not in (None, True):
        yield Cancel(installer)
        yield from context.log("the installation was stopped", "installer")
    return StepResult()


def gather_logs(context: StepContext, access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Upload the host's logs."""
    cluster_id = str(json_argument(arguments)["cluster_id"])
    taken = yield from send_logs(context, ServiceClient(access, INSTALLER_RETRIES), cluster_id)
    return StepResult() if taken else StepResult(exit_code=1, error="the service did not take the logs")
