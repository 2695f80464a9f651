"""Every machine driver is held to the same promises, and every promise can be broken."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from labsim.clock import EventQueue
from labsim.discovery.base_image import plain_base_image
from labsim.discovery.embed import embed
from labsim.entropy import Entropy
from labsim.lab.ledger import Ledger
from labsim.machines import contract
from labsim.machines.boot_probe import write_probe_iso
from labsim.machines.driver import (
    CD_FIRST,
    DISK_FIRST,
    BootSource,
    DiskSpec,
    MachineDriver,
    MachineSpec,
    MachineView,
    NicSpec,
    NoMedia,
    NoSuchMachine,
    Power,
)
from labsim.machines.simulated.driver import SimulatedDriver


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated machine reads the Ignition of what it starts from, so there is one."""
    folder = tmp_path_factory.mktemp("iso")
    embed(plain_base_image(folder).path, folder / "discovery.iso", b'{"ignition":{"version":"3.1.0"}}')
    return folder / "discovery.iso"


@pytest.fixture(scope="module")
def probe_iso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual machine runs what it starts from, so there is something to run."""
    return write_probe_iso(tmp_path_factory.mktemp("probe") / "probe.iso")


def simulated() -> SimulatedDriver:
    return SimulatedDriver(
        scheduler=EventQueue(),
        entropy=Entropy("contract"),
        transport=lambda machine, effect, addresses, done: None,
        resolve=lambda machine, name: ("192.168.122.1",),
    )


@pytest.mark.parametrize("promise", contract.PROMISES, ids=lambda promise: promise.__name__)
def test_simulated_machines_keep_every_promise(promise: contract.Promise, iso: Path) -> None:
    contract.check_promise(promise, simulated, iso)


def libvirt_or_skip() -> None:
    missing = [] if importlib.util.find_spec("libvirt") else ["the libvirt binding"]
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    missing += [program for program in ("libvirtd", "qemu-system-x86_64") if not shutil.which(program, path=path)]
    if not missing:
        return
    reason = f"libvirt machines cannot be made: {' and '.join(missing)} missing (sh setup/install-packages.sh)"
    if {"libvirt", "qemu"} & set(os.environ.get("LABSIM_MUST_NOT_SKIP", "").split()):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.vm
@pytest.mark.parametrize("promise", contract.PROMISES, ids=lambda promise: promise.__name__)
def test_libvirt_machines_keep_every_promise(promise: contract.Promise, probe_iso: Path, tmp_path: Path) -> None:
    libvirt_or_skip()
    from labsim.machines.libvirt.driver import LibvirtDriver

    ledger = Ledger(tmp_path / "ledger.jsonl")
    contract.check_promise(promise, lambda: LibvirtDriver(lab="contract", folder=tmp_path, journal=ledger), probe_iso)
    assert ledger.pending() == []


# -- a planted violation for each promise: a driver that is right but for one thing ---


class Wrapped:
    """A driver that does as the right one does."""

    def __init__(self, right: MachineDriver) -> None:
        self.right = right

    def ensure(self, spec: MachineSpec) -> None:
        self.right.ensure(spec)

    def insert_media(self, name: str, iso: Path | None) -> None:
        self.right.insert_media(name, iso)

    def set_link(self, name: str, up: bool) -> None:
        self.right.set_link(name, up)

    def boot(self, name: str, source: BootSource) -> None:
        self.right.boot(name, source)

    def reboot(self, name: str, source: BootSource) -> None:
        self.right.reboot(name, source)

    def stop(self, name: str, graceful: bool = False) -> None:
        self.right.stop(name, graceful)

    def reset(self, name: str) -> None:
        self.right.reset(name)

    def pause(self, name: str) -> None:
        self.right.pause(name)

    def resume(self, name: str) -> None:
        self.right.resume(name)

    def set_boot_order(self, name: str, order: tuple[BootSource, ...]) -> None:
        self.right.set_boot_order(name, order)

    def plug(self, name: str, device: DiskSpec | NicSpec) -> None:
        self.right.plug(name, device)

    def unplug(self, name: str, device: str) -> None:
        self.right.unplug(name, device)

    def snapshot(self, name: str, snapshot: str) -> None:
        self.right.snapshot(name, snapshot)

    def revert(self, name: str, snapshot: str) -> None:
        self.right.revert(name, snapshot)

    def observe(self, name: str) -> MachineView:
        return self.right.observe(name)

    def names(self) -> frozenset[str]:
        return self.right.names()

    def remove(self, name: str) -> None:
        self.right.remove(name)

    def close(self) -> None:
        self.right.close()


class StartsWhatItMakes(Wrapped):
    def ensure(self, spec: MachineSpec) -> None:
        self.right.ensure(spec)
        self.right.boot(spec.name, BootSource.DISK)


class MakesItAnew(Wrapped):
    def ensure(self, spec: MachineSpec) -> None:
        self.right.remove(spec.name)
        self.right.ensure(spec)


class ForgetsToForget(Wrapped):
    def __init__(self, right: MachineDriver) -> None:
        super().__init__(right)
        self._made: set[str] = set()

    def ensure(self, spec: MachineSpec) -> None:
        super().ensure(spec)
        self._made.add(spec.name)

    def names(self) -> frozenset[str]:
        return frozenset(self._made)


class NeverEmptiesTheDrive(Wrapped):
    def insert_media(self, name: str, iso: Path | None) -> None:
        self.right.observe(name)
        if iso is not None:
            self.right.insert_media(name, iso)


class BootsNothing(Wrapped):
    def boot(self, name: str, source: BootSource) -> None:
        self.right.observe(name)


class KeepsThePick(Wrapped):
    def __init__(self, right: MachineDriver) -> None:
        super().__init__(right)
        self._picked: set[str] = set()

    def boot(self, name: str, source: BootSource) -> None:
        super().boot(name, source)
        if source is BootSource.DISCOVERY_ISO:
            self._picked.add(name)

    def observe(self, name: str) -> MachineView:
        view = super().observe(name)
        if name not in self._picked:
            return view
        return MachineView(
            name=view.name,
            uuid=view.uuid,
            power=view.power,
            boot_order=CD_FIRST,
            media=view.media,
            console=view.console,
        )


class CutsThePowerFirst(Wrapped):
    def reboot(self, name: str, source: BootSource) -> None:
        self.right.stop(name)
        self.right.reboot(name, source)


class RebootsTwoTimesInThree(Wrapped):
    def reboot(self, name: str, source: BootSource) -> None:
        self.right.stop(name)
        if source is BootSource.DISCOVERY_ISO:
            self.right.reboot(name, source)


class EjectsWhenItStops(Wrapped):
    def stop(self, name: str, graceful: bool = False) -> None:
        self.right.stop(name, graceful)
        self.right.insert_media(name, None)


class PlugsInWhatStarts(Wrapped):
    def boot(self, name: str, source: BootSource) -> None:
        self.right.boot(name, source)
        self.right.set_link(name, True)


class NeverPlugsInAgain(Wrapped):
    def set_link(self, name: str, up: bool) -> None:
        self.right.set_link(name, False)


class ComplainsAboutTheDead(Wrapped):
    def remove(self, name: str) -> None:
        if name not in self.right.names():
            raise NoSuchMachine(name)
        self.right.remove(name)


class IgnoresUnknownNames(Wrapped):
    def stop(self, name: str, graceful: bool = False) -> None:
        if name in self.right.names():
            self.right.stop(name, graceful)


class CutsOffGracefully(Wrapped):
    def stop(self, name: str, graceful: bool = False) -> None:
        self.right.stop(name)


class GoesOnByItself(Wrapped):
    def pause(self, name: str) -> None:
        self.right.pause(name)
        self.right.resume(name)


class StartsWhatItResets(Wrapped):
    def reset(self, name: str) -> None:
        self.right.reboot(name, BootSource.DISK)


class ForgetsTheOrderWhenItStops(Wrapped):
    def stop(self, name: str, graceful: bool = False) -> None:
        self.right.stop(name, graceful)
        self.right.set_boot_order(name, DISK_FIRST)


class PlugsOnlyWhatIsOff(Wrapped):
    def plug(self, name: str, device: DiskSpec | NicSpec) -> None:
        if self.right.observe(name).power is Power.OFF:
            self.right.plug(name, device)


class StartsAgainAfterARevert(Wrapped):
    def revert(self, name: str, snapshot: str) -> None:
        self.right.revert(name, snapshot)
        self.right.boot(name, BootSource.DISK)


class StartsThemAll(Wrapped):
    def boot(self, name: str, source: BootSource) -> None:
        self.right.boot(name, source)
        for other in self.right.names() - {name}:
            self.right.boot(other, BootSource.DISK)


VIOLATIONS: dict[contract.Promise, Callable[[MachineDriver], MachineDriver]] = {
    contract.a_new_machine_is_off_and_empty: StartsWhatItMakes,
    contract.ensure_again_changes_nothing: MakesItAnew,
    contract.names_are_the_machines_that_were_made: ForgetsToForget,
    contract.media_is_what_was_inserted_last: NeverEmptiesTheDrive,
    contract.boot_turns_on_and_says_so: BootsNothing,
    contract.a_boot_from_the_iso_is_once: KeepsThePick,
    contract.an_empty_drive_cannot_be_booted: CutsThePowerFirst,
    contract.reboot_turns_on_from_any_state: RebootsTwoTimesInThree,
    contract.stop_turns_off_and_keeps_the_machine: EjectsWhenItStops,
    contract.a_power_button_only_asks: CutsOffGracefully,
    contract.a_paused_machine_stands_still_and_goes_on: GoesOnByItself,
    contract.a_reset_is_a_start_by_the_machines_own_order: StartsWhatItResets,
    contract.a_boot_order_can_be_set_for_good: ForgetsTheOrderWhenItStops,
    contract.devices_go_in_and_out: PlugsOnlyWhatIsOff,
    contract.a_snapshot_can_be_gone_back_to: StartsAgainAfterARevert,
    contract.a_cable_that_is_out_stays_out: PlugsInWhatStarts,
    contract.a_fault_shows_and_is_undone: NeverPlugsInAgain,
    contract.remove_is_quiet_when_gone: ComplainsAboutTheDead,
    contract.verbs_about_nobody_are_refused: IgnoresUnknownNames,
    contract.machines_do_not_share: StartsThemAll,
}


def test_every_promise_has_a_planted_violation() -> None:
    assert set(VIOLATIONS) == set(contract.PROMISES)


@pytest.mark.parametrize("promise", VIOLATIONS, ids=lambda promise: promise.__name__)
def test_a_planted_violation_breaks_its_promise(promise: contract.Promise, iso: Path) -> None:
    violator = VIOLATIONS[promise](simulated())
    # Not only PromiseBroken: ComplainsAboutTheDead shows itself by the error that should not have come.
    with pytest.raises((contract.PromiseBroken, NoSuchMachine)):
        promise(violator, iso)


def test_a_driver_that_does_as_the_right_one_breaks_nothing(iso: Path) -> None:
    contract.check_machine_driver(lambda: Wrapped(simulated()), iso)


def test_a_refusal_of_the_wrong_kind_is_a_broken_promise(iso: Path) -> None:
    class MixesItUp(Wrapped):
        def stop(self, name: str, graceful: bool = False) -> None:
            raise NoMedia(name)

    with pytest.raises(contract.PromiseBroken, match="NoMedia instead of NoSuchMachine"):
        contract.verbs_about_nobody_are_refused(MixesItUp(simulated()), iso)
