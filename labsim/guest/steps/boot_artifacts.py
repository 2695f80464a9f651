"""Reclaim: put the discovery image on the node's own disk and boot it.

Source: cim-resources 3.9, host-lifecycle 1.5.
"""

from __future__ import annotations

from typing import Any

from labsim.guest.effects import ConnectionFailed, Http, HttpAnswer, Reboot, SetBootEntry, Sleep, Task, read_text
from labsim.guest.service import ServiceAccess
from labsim.guest.steps.context import StepContext, StepResult, json_argument

TRIES = 5
TRY_PAUSE_S = 60.0
DOWNLOAD_TIMEOUT_S = 600.0


def download_boot_artifacts(context: StepContext, access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Fetch kernel and initrd (which carries the Ignition) and make them the next boot. The root file system is
    fetched by that boot itself, from the URL on its command line."""
    wanted = json_argument(arguments)
    try:
        kernel = yield from _download(context, access, str(wanted["kernel_url"]))
        initrd = yield from _download(context, access, str(wanted["initrd_url"]))
    except _DownloadFailed as failure:
        return StepResult(exit_code=-1, error=str(failure))
    command_line = yield from _command_line(wanted)
    yield SetBootEntry(kernel, initrd, command_line)
    yield from context.log("boot entry 00-assisted-discovery written", "runner")
    return StepResult("Successfully downloaded boot artifacts and created bootloader config")


def reboot_for_reclaim(context: StepContext, _access: ServiceAccess, _arguments: list[str]) -> Task[None]:
    """Restart the machine, which then boots the discovery image from its own disk. There is no reply."""
    yield from context.log("rebooting into the discovery image", "runner")
    yield Reboot("reclaim")


class _DownloadFailed(Exception):
    pass


def _download(context: StepContext, access: ServiceAccess, url: str) -> Task[bytes]:
    trouble = ""
    for attempt in range(TRIES):
        if attempt:
            yield Sleep(TRY_PAUSE_S)
        try:
            answer: HttpAnswer = yield Http(
                "GET", url, {}, b"", access.ca_pem, access.insecure, timeout_s=DOWNLOAD_TIMEOUT_S
            )
        except ConnectionFailed as error:
            trouble = str(error)
        else:
            if answer.status == 200:
                return answer.body
            trouble = f"status {answer.status}"
        yield from context.log(f"cannot download {url.split('?')[0]}: {trouble}", "runner")
    raise _DownloadFailed(f"failed to download {url.split('?')[0]} in {TRIES} tries: {trouble}")


def _command_line(wanted: dict[str, Any]) -> Task[str]:
    """The discovery image's own arguments, and the consoles that this machine talks to."""
    running = yield from read_text("/proc/cmdline", "")
    consoles = [word for word in running.split() if word.startswith("console=")]
    words = ["random.trust_cpu=on", "ignition.firstboot", "ignition.platform.id=metal"]
    return " ".join([*words, f"coreos.live.rootfs_url={wanted.get('rootfs_url', '')}", *consoles])
