"""The installer: from the install step to the reboot, for a worker that joins an existing cluster.

Stages, their texts and their order: host-lifecycle 6.5; retries: section 8.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from labsim.guest import json_text
from labsim.guest.effects import ConnectionFailed, HttpAnswer, Reboot, Run, Sleep, Spawn, Task, WriteDisk
from labsim.guest.inventory_disks import device_path
from labsim.guest.logs import send_logs
from labsim.guest.service import INSTALLER_RETRIES, ServiceAccess, ServiceClient
from labsim.guest.steps.context import StepContext

WRITE_TRIES = 3
WRITE_PAUSE_S = 1.0
PROGRESS_STEP_PERCENT = 5


class InstallFailed(Exception):
    """The installation cannot go on; the text is what the service is told."""


@dataclasses.dataclass(frozen=True, slots=True)
class InstallOrder:
    """The argument of the install step, as far as a day-2 worker needs it."""

    boot_device: str
    cluster_id: str
    role: str
    disks_to_format: tuple[str, ...] = ()

    @classmethod
    def from_argument(cls, argument: dict[str, Any]) -> InstallOrder:
        """Raises KeyError where a required field is missing."""
        return cls(
            boot_device=str(argument["boot_device"]),
            cluster_id=str(argument["cluster_id"]),
            role=str(argument.get("role") or "worker"),
            disks_to_format=tuple(str(disk) for disk in argument.get("disks_to_format") or []),
        )


class Installer:
    """One run of the assisted-installer container."""

    def __init__(self, context: StepContext, access: ServiceAccess, order: InstallOrder) -> None:
        self._context = context
        self._client = ServiceClient(access, INSTALLER_RETRIES)
        self._order = order
        self._host = f"/hosts/{context.host_id}"

    def run(self) -> Task[int]:
        """Install; the exit code of the container. The machine restarts a minute after a success."""
        try:
            yield from self._install()
        except (InstallFailed, ConnectionFailed) as failure:
            yield from self._log(f"installation failed: {failure}")
            try:
                yield from self._report("Failed", str(failure))
            except (InstallFailed, ConnectionFailed) as error:
                yield from self._log(f"cannot report the failure: {error}")
            return 1
        yield Spawn(self._restart(), "shutdown")
        return 0

    def _install(self) -> Task[None]:
        for disk in self._order.disks_to_format:
            yield from self._format(disk)
        yield from self._report("Starting installation", self._order.role)
        yield from self._report("Installing", self._order.role)
        ignition = yield from self._host_ignition()
        yield from self._write_image(ignition)
        yield from self._report("Waiting for control plane", "")
        yield from self._wait_for_control_plane()
        yield from send_logs(self._context, self._client, self._order.cluster_id)
        yield from self._report("Rebooting", "")

    def _format(self, disk: str) -> Task[None]:
        """Take away what would let the machine boot from another disk."""
        device = yield from device_path(disk)
        try:
            yield Run(("wipefs", "--all", "--force", device))
        except FileNotFoundError:
            yield from self._log(f"no wipefs on this system: {device} stays as it is")

    def _host_ignition(self) -> Task[bytes]:
        path = f"/v2/infra-env/{self._context.infra_env_id}{self._host}/downloads/ignition"
        answer: HttpAnswer = yield from self._client.call("GET", path)
        if answer.status != 200:
            raise InstallFailed(f"failed to download the host ignition: status {answer.status}")
        return answer.body

    def _write_image(self, ignition: bytes) -> Task[None]:
        device = yield from device_path(self._order.boot_device)
        yield from self._report("Writing image to disk", "")
        trouble = ""
        for attempt in range(WRITE_TRIES):
            if attempt:
                yield Sleep(WRITE_PAUSE_S)
            try:
                yield from self._write_parts(device, ignition)
            except OSError as error:
                trouble = f"failed writing image to {device}: {error}"
                yield from self._log(trouble)
            else:
                return
        raise InstallFailed(trouble)

    def _write_parts(self, device: str, ignition: bytes) -> Task[None]:
        parts = self._context.settings.write_parts
        told = 0
        for part in range(parts):
            yield WriteDisk(device, part, parts, ignition)
            percent = (part + 1) * 100 // parts
            if percent - told >= PROGRESS_STEP_PERCENT or percent == 100:
                yield from self._report("Writing image to disk", f"{percent}%")
                told = percent

    def _wait_for_control_plane(self) -> Task[None]:
        """A worker that joins an existing cluster has nothing to wait for."""
        answer: HttpAnswer = yield from self._client.call(
            "GET", f"/v2/clusters/{self._order.cluster_id}?exclude-hosts=true"
        )
        if answer.status != 200:
            raise InstallFailed(f"failed to get the cluster: status {answer.status}")
        kind = json_text.read(answer.body).get("kind")
        if kind != "AddHostsCluster":
            raise InstallFailed(f"the cluster is a {kind}: only day-2 workers are installed here")

    def _report(self, stage: str, info: str) -> Task[None]:
        yield from self._log(f"stage {stage} {info}".rstrip())
        path = f"/v2/infra-envs/{self._context.infra_env_id}{self._host}/progress"
        answer: HttpAnswer = yield from self._client.call("PUT", path, {"current_stage": stage, "progress_info": info})
        if answer.status >= 300:
            # A stage that the service refuses is its affair: upstream's installer logs it and goes on.
            yield from self._log(f"stage {stage} was answered {answer.status}: {answer.body[:200]!r}")

    def _restart(self) -> Task[None]:
        yield Sleep(self._context.settings.reboot_delay_s)
        yield Reboot("installation done")

    def _log(self, text: str) -> Task[None]:
        yield from self._context.log(text, "installer")
