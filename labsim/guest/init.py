"""PID 1 of a virtual machine, from the kernel's last step to the guest's program.

The initramfs starts a short shell script first (labsim.discovery.initramfs): it mounts /proc, /sys and /dev, loads the
drivers and asks for an address while Python starts. This module then finds out what was booted, gives the machine its
Ignition, and runs `labsim.guest.main` under the carrier. PID 1 must not end: what goes wrong is printed, and the
machine then waits for a person, as a real one in its emergency shell.

Where the Ignition comes from: a discovery boot finds `/config.ign` in its root, because the boot loader gives the
kernel `/images/ignition.img` as one more archive; a reclaim boot likewise, from the tail of the initrd that was
downloaded. A boot from an installed disk finds it in the disk's record store (labsim.guest.disk).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from labsim.guest import disk, main
from labsim.guest.boot_entry import OWN_ENTRY, RECLAIM_MARKER
from labsim.guest.carrier_host import PACE_PATH, Files, HostCarrier, Pace
from labsim.guest.effects import Boot
from labsim.guest.ignition import decode_data_url
from labsim.guest.power_button import wait_for_power_button
from labsim.guest.record_store import RecordStore
from labsim.guest.stub_resolver import RESOLVED_PATH, start_stub_resolver

CONFIG_PATH = "/config.ign"
CONSOLE_PATH = "/dev/console"
HOSTS_PATH = "/etc/hosts"
HOSTNAME_PATH = "/etc/hostname"
DRIVERS_READY_PATH = "/run/labsim/drivers"
NETWORK_READY_PATH = "/run/labsim/network"
JOURNAL_PATH = "/run/labsim/journal"  # for whoever logs in
RECLAIM = RECLAIM_MARKER.partition("=")[2]
DRIVERS_WAIT_S = 20.0
NETWORK_WAIT_S = 20.0
EARLY_PATHS = (HOSTS_PATH, HOSTNAME_PATH, PACE_PATH, RESOLVED_PATH)  # needed before the Ignition can be rendered
SURROUNDINGS = (HOSTS_PATH, PACE_PATH, RESOLVED_PATH)  # of the lab, whatever system runs: kept across an installation


class VirtualMachineHands:
    """What PID 1 can do to its machine."""

    def __init__(self, surroundings: Mapping[str, bytes]) -> None:
        self._surroundings = dict(surroundings)
        self._writer: disk.DiskWriter | None = None

    def write_part(self, device: str, part: int, parts: int, ignition: bytes) -> None:
        if part == 0 or self._writer is None:
            self._writer = disk.DiskWriter(disk.block_devices(), self._surroundings)
        self._writer.write_part(device, part, parts, ignition)

    def set_boot_entry(self, kernel: bytes, initrd: bytes, command_line: str) -> None:
        disk.DiskWriter(disk.block_devices(), {}).set_boot_entry(kernel, initrd, command_line)

    def reboot(self, reason: str) -> None:
        print_line(f"init: restarting{f' ({reason})' if reason else ''}")
        _leave("reboot")


def _leave(how: str) -> None:
    """End this boot: `reboot` or `poweroff`. What was written is on the disk before."""
    os.sync()
    subprocess.run(["/bin/busybox", how, "-f"], check=False)


def _obey_power_button() -> None:
    if wait_for_power_button():
        print_line("init: the power button was pressed: shutting down")
        _leave("poweroff")


# What busybox's applets send to PID 1, whoever types them.
USER_SIGNALS = {signal.SIGTERM: "reboot", signal.SIGUSR1: "halt", signal.SIGUSR2: "poweroff"}
ANSWERED_WITHIN_S = 1.0  # whoever asked over SSH hears that it was heard


def _obey_user(number: int, _frame: object) -> None:
    how = USER_SIGNALS[signal.Signals(number)]
    print_line(f"init: {how}, by its user")
    threading.Timer(ANSWERED_WITHIN_S, _leave, [how]).start()


def start() -> NoReturn:
    """The whole life of this boot."""
    for number in USER_SIGNALS:
        signal.signal(number, _obey_user)
    try:
        _run()
        print_line("init: nothing left to run")
    except Exception:
        for line in traceback.format_exc().splitlines():
            print_line(f"init: {line}")
    while True:  # the kernel panics where PID 1 ends
        time.sleep(86_400)  # noqa: TID251


def _run() -> None:
    command_line = Path("/proc/cmdline").read_text().strip()
    marker = _boot_marker(command_line)
    _wait_for(DRIVERS_READY_PATH, DRIVERS_WAIT_S)
    threading.Thread(target=_obey_power_button, name="power-button", daemon=True).start()
    boot, store, surroundings = _disk_boot(command_line) if marker == "dsk" else _discovery_boot(marker, command_line)
    files = Files("/", store if boot.source == "disk" else None, disk.FILE_PREFIX)
    files.restore()
    _write_early_files(boot.ignition, surroundings)
    start_stub_resolver(print_line)
    if not _wait_for(NETWORK_READY_PATH, NETWORK_WAIT_S):
        print_line("init: no address from DHCP yet; going on")
    print_line(f"init: up {_uptime_s():.2f} s, memory available {_memory_available_mib()} MiB, boot {boot.source}")
    kept = {path: Path(path).read_bytes() for path in SURROUNDINGS if Path(path).exists()}
    carrier = HostCarrier(files=files, hands=VirtualMachineHands(kept), print_line=print_line, pace=_pace())
    carrier.run(main.run(boot))


def _boot_marker(command_line: str) -> str:
    words = dict(word.partition("=")[::2] for word in command_line.split())
    return words.get("labsim.boot", "iso")


def _discovery_boot(marker: str, command_line: str) -> tuple[Boot, RecordStore | None, dict[str, bytes]]:
    """A boot of the discovery system. One from a disk's entry sets the disk back first: it happens once."""
    path = Path(CONFIG_PATH)
    ignition = path.read_bytes() if path.exists() else b"{}"
    if marker != RECLAIM:
        return Boot("discovery-iso", ignition, command_line), None, {}
    image = disk.installed_disk(disk.block_devices())
    if image is not None:
        image.set_boot_entry(OWN_ENTRY)
        image.close()
    return Boot("discovery-disk", ignition, command_line), None, {}


def _disk_boot(command_line: str) -> tuple[Boot, RecordStore | None, dict[str, bytes]]:
    """A boot of an installed system from its disk."""
    image = disk.installed_disk(disk.block_devices())
    store = image.store() if image is not None else None
    if store is None:
        raise OSError("this system was started from a disk, but no disk holds an installed system")
    prefix = disk.SURROUNDINGS_PREFIX
    surroundings = {name.removeprefix(prefix): data for name, (_, data) in store.files(f"{prefix}/").items()}
    return Boot("disk", store.get(disk.IGNITION_RECORD) or b"{}", command_line), store, surroundings


def _write_early_files(ignition: bytes, surroundings: Mapping[str, bytes]) -> None:
    """Names, hostname and pace: first what the lab gave before, then what this Ignition says."""
    inline = _inline_files(ignition)
    wanted = {**surroundings, **{path: inline[path] for path in EARLY_PATHS if path in inline}}
    if b"localhost" not in wanted.setdefault(HOSTS_PATH, b""):
        wanted[HOSTS_PATH] = b"127.0.0.1 localhost\n::1 localhost\n" + wanted[HOSTS_PATH]
    for path, data in wanted.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)
    hostname = wanted.get(HOSTNAME_PATH, b"").decode(errors="replace").strip()
    if hostname:
        with contextlib.suppress(OSError):
            socket.sethostname(hostname)


def _inline_files(ignition: bytes) -> dict[str, bytes]:
    """The files of a configuration that need nothing fetched. A wrong configuration is the program's to report."""
    found: dict[str, bytes] = {}
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        document: dict[str, Any] = json.loads(ignition)
        for file in (document.get("storage") or {}).get("files") or []:
            contents = file.get("contents") or {}
            if str(contents.get("source", "")).startswith("data:") and not contents.get("compression"):
                found[str(file.get("path"))] = decode_data_url(contents["source"])
    return found


def _pace() -> Pace:
    try:
        return Pace.parse(Path(PACE_PATH).read_bytes())
    except FileNotFoundError:
        return Pace()
    except ValueError as error:
        print_line(f"init: {error}; real time it is")
        return Pace()


def _wait_for(path: str, limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s  # noqa: TID251
    while not os.path.exists(path):
        if time.monotonic() > deadline_s:  # noqa: TID251
            return False
        time.sleep(0.02)  # noqa: TID251
    return True


def print_line(text: str) -> None:
    """A line on the console and in the journal; a console that is gone stops nothing."""
    with contextlib.suppress(OSError), open(JOURNAL_PATH, "a") as journal:
        journal.write(f"{text}\n")
    with contextlib.suppress(OSError):
        fileno = os.open(CONSOLE_PATH, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            os.write(fileno, f"{text}\r\n".encode(errors="replace"))
        finally:
            os.close(fileno)


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def _memory_available_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0
