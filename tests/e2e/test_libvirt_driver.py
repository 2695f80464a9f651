"""The libvirt driver with real virtual machines, which run a few bytes that say where they started from."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import LabError
from labsim.lab.lab_request import LabRequest
from labsim.lab.ledger import Ledger, remove_all
from labsim.lab.sizes import sizes_of
from labsim.lab.virtual_machines import open_libvirt_lab
from labsim.machines.boot_probe import FROM_CD, FROM_DISK, write_probe_iso
from labsim.machines.driver import CD_FIRST, BootSource, CdBus, DiskBus, DiskSpec, MachineSpec, NicSpec, Power
from labsim.machines.libvirt import domain_xml
from labsim.machines.libvirt.domain_removal import removers
from labsim.machines.libvirt.driver import LibvirtDriver
from labsim.model.scenario import load_scenario

pytestmark = pytest.mark.vm
TIMEOUT_S = 60.0
NAME = "worker-0"


@pytest.fixture(autouse=True)
def a_hypervisor() -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    missing = [program for program in ("libvirtd", "qemu-system-x86_64") if not shutil.which(program, path=path)]
    missing += [] if importlib.util.find_spec("libvirt") else ["the libvirt binding"]
    if missing:
        reason = f"virtual machines cannot be made: {' and '.join(missing)} missing (sh setup/install-packages.sh)"
        wanted = {"libvirt", "qemu"} & set(os.environ.get("LABSIM_MUST_NOT_SKIP", "").split())
        (pytest.fail if wanted else pytest.skip)(reason)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def driver(tmp_path: Path, ledger: Ledger) -> Iterator[LibvirtDriver]:
    driver = LibvirtDriver(lab="e2e", folder=tmp_path, journal=ledger)
    yield driver
    try:
        for name in driver.names():
            driver.remove(name)
    finally:
        driver.close()
    assert ledger.pending() == []


def machine(number: int = 0, *, bus: DiskBus = "virtio") -> MachineSpec:
    return MachineSpec(
        name=f"worker-{number}",
        uuid=f"5b0c1c52-6f0e-4c6c-8f7c-{0xE2E000000000 + number:012x}",
        cpus=1,
        memory_mib=64,
        disks=(
            DiskSpec(
                name="root", size_bytes=1 << 20, serial=f"worker-{number}-root", rotational=bus == "virtio", bus=bus
            ),
            DiskSpec(name="data", size_bytes=1 << 20, serial=f"worker-{number}-data"),
        ),
        nics=(NicSpec(mac=f"52:54:00:e2:e0:{number:02x}", subnet="10.0.7.0/24"),),
    )


def wait_until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline_s = monotonic_s() + TIMEOUT_S
    while not holds():
        assert monotonic_s() < deadline_s, f"not within {TIMEOUT_S:.0f} s; last seen: {what()}"
        wait_s(0.05)


def wait_for_console(driver: LibvirtDriver, wanted: bytes) -> None:
    wait_until(lambda: driver.console(NAME).startswith(wanted), lambda: driver.console(NAME))
    assert driver.console(NAME).startswith(wanted)


@pytest.mark.parametrize(("bus", "cd"), [("virtio", ""), ("scsi", "virtio"), ("sata", "sata"), ("nvme", "sata")])
def test_one_boot_from_the_cd_and_a_reboot_from_inside_goes_to_disk(
    driver: LibvirtDriver, tmp_path: Path, bus: DiskBus, cd: CdBus
) -> None:
    driver.ensure(dataclasses.replace(machine(bus=bus), cd_bus=cd))
    driver.insert_media(NAME, write_probe_iso(tmp_path / "installer.iso", install=True))
    driver.boot(NAME, BootSource.DISCOVERY_ISO)
    wait_for_console(driver, FROM_CD + FROM_DISK)
    driver.reboot(NAME, BootSource.DISCOVERY_ISO)  # now with a bootable disk: the pick must win once, and only once
    wait_for_console(driver, FROM_CD + FROM_DISK + FROM_CD + FROM_DISK)
    driver.reboot(NAME, BootSource.DISK)
    wait_for_console(driver, FROM_CD + FROM_DISK + FROM_CD + FROM_DISK + FROM_DISK)
    assert driver.observe(NAME).power is Power.ON


def test_an_empty_disk_falls_through_to_the_cd(driver: LibvirtDriver, tmp_path: Path) -> None:
    driver.ensure(machine())
    driver.insert_media(NAME, write_probe_iso(tmp_path / "live.iso"))
    driver.boot(NAME, BootSource.DISK)
    wait_for_console(driver, FROM_CD)
    assert FROM_DISK not in driver.console(NAME)


def test_a_wrong_boot_order_boots_the_cd_after_a_reboot_from_inside(driver: LibvirtDriver, tmp_path: Path) -> None:
    driver.ensure(dataclasses.replace(machine(), boot_order=CD_FIRST))
    driver.insert_media(NAME, write_probe_iso(tmp_path / "installer.iso", install=True))
    driver.boot(NAME, BootSource.DISCOVERY_ISO)
    wait_for_console(driver, FROM_CD + FROM_CD + FROM_CD)
    driver.reboot(NAME, BootSource.DISK)  # a pick of the disk is a pick like the other
    wait_until(lambda: FROM_DISK in driver.console(NAME), lambda: driver.console(NAME))
    assert driver.observe(NAME).boot_order == CD_FIRST


def test_a_change_of_the_spec_keeps_disks_and_media(driver: LibvirtDriver, tmp_path: Path) -> None:
    driver.ensure(machine())
    iso = write_probe_iso(tmp_path / "installer.iso", install=True)
    driver.insert_media(NAME, iso)
    driver.boot(NAME, BootSource.DISCOVERY_ISO)
    wait_for_console(driver, FROM_CD + FROM_DISK)
    driver.stop(NAME)
    driver.ensure(dataclasses.replace(machine(), memory_mib=96))
    assert driver.observe(NAME).media == iso
    driver.boot(NAME, BootSource.DISK)
    wait_for_console(driver, FROM_CD + FROM_DISK + FROM_DISK)
    with pytest.raises(LabError, match="UUID"):
        driver.ensure(dataclasses.replace(machine(), uuid=machine(1).uuid))


def test_uefi_variables_and_the_tpm_are_the_machines_own_and_go_with_it(driver: LibvirtDriver, tmp_path: Path) -> None:
    missing = [name for name in ("swtpm", "swtpm_setup") if not shutil.which(name)]
    if missing or not Path("/usr/share/OVMF/OVMF_CODE_4M.ms.fd").exists():
        pytest.skip("no uefi firmware or TPM for machines here: ovmf, swtpm (sh setup/install-packages.sh)")
    driver.ensure(dataclasses.replace(machine(), firmware="uefi-secure", tpm=True))
    driver.boot(NAME, BootSource.DISK)
    wait_until(lambda: b"Boot" in driver.console(NAME), lambda: driver.console(NAME))
    variables = tmp_path / "machines" / NAME / "nvram.fd"
    assert variables.stat().st_size == Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd").stat().st_size
    configuration = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    state = configuration / "libvirt" / "qemu" / "swtpm" / machine().uuid
    assert state.is_dir()
    driver.stop(NAME)
    assert variables.exists(), "what UEFI noted down outlives a stop"
    driver.remove(NAME)
    assert not variables.exists()
    assert not state.exists()


def test_a_paused_machine_is_seen_and_goes_on(driver: LibvirtDriver, tmp_path: Path) -> None:
    driver.ensure(machine())
    driver.boot(NAME, BootSource.DISK)
    driver._connection.call(lambda hypervisor: hypervisor.lookupByUUIDString(machine().uuid).suspend())
    assert driver.observe(NAME).power is Power.PAUSED
    driver.boot(NAME, BootSource.DISK)
    assert driver.observe(NAME).power is Power.ON


def test_a_machine_whose_qemu_died_is_off_for_a_reason_and_can_be_started(driver: LibvirtDriver) -> None:
    driver.ensure(machine())
    driver.boot(NAME, BootSource.DISK)
    domain = domain_xml.domain_name(driver.mark, NAME)
    found = subprocess.run(["pgrep", "-f", f"guest={domain},"], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    wait_until(lambda: driver.observe(NAME).power is Power.OFF, lambda: driver.observe(NAME))
    assert driver.observe(NAME).reason == "its QEMU process ended by itself"
    driver.boot(NAME, BootSource.DISK)
    assert driver.observe(NAME).power is Power.ON


def test_a_lost_connection_is_renewed_once(driver: LibvirtDriver) -> None:
    driver.ensure(machine())
    driver._connection._connection.close()  # as it is after the daemon went: every call on it fails
    assert driver.names() == {NAME}


def test_what_a_killed_process_left_is_removed_by_its_ledger(tmp_path: Path, ledger: Ledger) -> None:
    program = textwrap.dedent(
        """
        import sys, pathlib, signal
        sys.path.insert(0, sys.argv[2])
        from test_libvirt_driver import *
        folder = pathlib.Path(sys.argv[1])
        driver = LibvirtDriver(lab="killed", folder=folder, journal=Ledger(folder / "ledger.jsonl"))
        for number in (0, 1):
            driver.ensure(machine(number))
        driver.boot("worker-0", BootSource.DISK)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), here], timeout=TIMEOUT_S, check=False)
    assert done.returncode == -signal.SIGKILL
    successor = LibvirtDriver(lab="killed", folder=tmp_path, journal=ledger)
    try:
        assert successor.names() == {"worker-0", "worker-1"}
        assert successor.observe("worker-0").power is Power.ON, "a machine outlives the process that made it"
        remove_all(ledger, removers())
        assert successor.names() == frozenset()
        assert list((tmp_path / "machines").iterdir()) == []
        remove_all(ledger, removers())  # again: quiet
    finally:
        successor.close()


class Crash(BaseException):
    """The process ends here."""


class CrashingJournal:
    """A ledger whose process dies before, or just after, its n-th line reached the disk."""

    def __init__(self, ledger: Ledger, dies_at: int, *, written: bool) -> None:
        self._ledger, self._left, self._written = ledger, dies_at, written

    def intend(self, kind: str, identity: str, *, mark: str, detail: Mapping[str, str] | None = None) -> None:
        self._line(lambda: self._ledger.intend(kind, identity, mark=mark, detail=detail))

    def created(self, kind: str, identity: str) -> None:
        self._line(lambda: self._ledger.created(kind, identity))

    def removed(self, kind: str, identity: str) -> None:
        self._line(lambda: self._ledger.removed(kind, identity))

    def _line(self, write: Callable[[], None]) -> None:
        self._left -= 1
        if self._left == 0:
            if self._written:
                write()
            raise Crash
        write()


def make_and_remove(driver: LibvirtDriver) -> None:
    driver.ensure(machine())
    driver.remove(NAME)


@pytest.mark.parametrize("written", [False, True], ids=["before-the-line", "after-the-line"])
@pytest.mark.parametrize("dies_at", range(1, 7))
def test_a_crash_at_any_line_of_the_ledger_leaves_nothing_after_clean_up(
    tmp_path: Path, ledger: Ledger, dies_at: int, written: bool
) -> None:
    driver = LibvirtDriver(lab="crash", folder=tmp_path, journal=CrashingJournal(ledger, dies_at, written=written))
    try:
        with pytest.raises(Crash):
            make_and_remove(driver)
        remove_all(ledger, removers())
        assert driver.names() == frozenset()
        machines = tmp_path / "machines"
        assert not machines.exists() or list(machines.iterdir()) == []
        assert ledger.pending() == []
    finally:
        driver.close()


def test_a_domain_of_the_ledger_that_is_another_labs_is_left_alone(
    driver: LibvirtDriver, tmp_path: Path, ledger: Ledger
) -> None:
    driver.ensure(machine())
    other = Ledger(tmp_path / "other.jsonl")
    other.intend("libvirt-domain", machine().uuid, mark="somebody-else")
    remove_all(other, removers())
    assert driver.names() == {NAME}
    with LabOf(tmp_path / "elsewhere") as stranger:
        assert stranger.names() == frozenset(), "the same lab name in another folder is another lab"
        with pytest.raises(LabError) as caught:
            stranger.ensure(machine())
        assert "exists already" in caught.value.message
        assert caught.value.hint


class LabOf:
    """Another lab of the same name, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._driver = LibvirtDriver(lab="e2e", folder=folder, journal=self._ledger)

    def __enter__(self) -> LibvirtDriver:
        return self._driver

    def __exit__(self, *error: object) -> None:
        remove_all(self._ledger, removers())
        self._driver.close()


def test_two_labs_of_one_scenario_and_seed_stand_side_by_side(tmp_path: Path) -> None:
    """Found when a second run was begun beside the first: libvirt refuses two domains of one UUID."""
    if not shutil.which("xorriso"):
        pytest.skip("no ISO can be built here: xorriso is not installed")
    scenario = load_scenario(Path(__file__).parents[2] / "scenarios" / "scale-down-and-reuse.yaml")
    with contextlib.ExitStack() as labs:
        opened = []
        for place in ("one", "two"):
            folder = tmp_path / place
            one = open_libvirt_lab(
                scenario.spec.lab,
                LabRequest(name="same-name", folder=folder, sizes=sizes_of("small"), speed=1.0),
            )
            opened.append(labs.enter_context(one).lab)
            opened[-1].make()
        assert [len(lab.driver.names()) for lab in opened] == [3, 3]
        uuids = {lab.driver.observe(name).uuid for lab in opened for name in lab.machine_names()}
        assert len(uuids) == 6
    assert [Ledger(tmp_path / place / "ledger.jsonl").pending() for place in ("one", "two")] == [[], []]
