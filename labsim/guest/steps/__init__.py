"""The steps that assisted-service gives to a host, found by their step_type. Source: host-lifecycle 3.5."""

from __future__ import annotations

from collections.abc import Callable

from labsim.guest.effects import ConnectionFailed, Task
from labsim.guest.service import ServiceAccess
from labsim.guest.steps import boot_artifacts, checks, connectivity, install, inventory, upgrade
from labsim.guest.steps.context import StepContext, StepResult

# None: the machine restarts and nobody is left to reply.
Step = Callable[[StepContext, ServiceAccess, list[str]], Task[StepResult | None]]

STEPS: dict[str, Step] = {
    "inventory": inventory.send_inventory,
    "ntp-synchronizer": checks.synchronize_time,
    "domain-resolution": checks.resolve_domains,
    "api-vip-connectivity-check": checks.check_ignition_endpoint,
    "connectivity-check": connectivity.check_connectivity,
    "tang-connectivity-check": checks.check_tang,
    "install": install.run_install,
    "stop-installation": install.stop_installation,
    "logs-gather": install.gather_logs,
    "upgrade-agent": upgrade.upgrade_agent,
    "download-boot-artifacts": boot_artifacts.download_boot_artifacts,
    "reboot-for-reclaim": boot_artifacts.reboot_for_reclaim,
}


def run_step(
    context: StepContext, access: ServiceAccess, step_type: str, arguments: list[str]
) -> Task[StepResult | None]:
    """Run one step to its reply; whatever goes wrong in it becomes an exit code and a text."""
    step = STEPS.get(step_type)
    if step is None:
        return StepResult(exit_code=-1, error=f"failed to find action for step type {step_type}")
    try:
        result: StepResult | None = yield from step(context, access, arguments)
    except (ValueError, LookupError, TypeError, AttributeError, OSError, ConnectionFailed) as error:
        return StepResult(exit_code=-1, error=f"{step_type}: {type(error).__name__}: {error}")
    return result
