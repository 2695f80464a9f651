"""What every machine driver promises, as checks that any driver can be held to, one named function a promise.

    check_machine_driver(make_driver, iso)

`make_driver` gives a fresh driver of a lab that has no machines; `iso` is an ISO that the driver can start. What runs
in a machine is not looked at, and nothing here waits.
A promise that does not hold raises `PromiseBroken`, which quotes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from labsim.errors import LabError, LabsimError
from labsim.machines import faults
from labsim.machines.driver import (
    CD_FIRST,
    DISK_FIRST,
    BootSource,
    DiskSpec,
    HasConsole,
    MachineDriver,
    MachineSpec,
    MachineView,
    NicSpec,
    NoMedia,
    NoSuchDevice,
    NoSuchMachine,
    NoSuchSnapshot,
    Power,
    WrongPower,
)

MakeDriver = Callable[[], MachineDriver]
Promise = Callable[[MachineDriver, Path], None]


class PromiseBroken(AssertionError):
    """A driver does not do what it promises. The text quotes the promise and says what was seen."""

    def __init__(self, promise: str, seen: str) -> None:
        super().__init__(f"{promise}: {seen}")
        self.promise = promise


def machine(number: int = 0) -> MachineSpec:
    """A small machine; each number is another one."""
    return MachineSpec(
        name=f"contract-{number}",
        uuid=f"7c0e7f6e-10c5-4a5b-9a0c-{0xC0117AC70000 + number:012x}",
        cpus=1,
        memory_mib=64,
        disks=(DiskSpec(name="vda", size_bytes=1 << 20, serial=f"contract-{number}"),),
        nics=(NicSpec(mac=f"52:54:00:c0:de:{number:02x}"),),
    )


def _must(holds: bool, promise: str, seen: object) -> None:
    if not holds:
        raise PromiseBroken(promise, str(seen))


def a_new_machine_is_off_and_empty(driver: MachineDriver, iso: Path) -> None:
    """A new machine is off, prefers its disk, has no media, and has the UUID that was asked for."""
    spec = machine()
    driver.ensure(spec)
    view = driver.observe(spec.name)
    _must(view.power is Power.OFF, "a new machine is off", view.power)
    _must(view.media is None, "a new machine's CD drive is empty", view.media)
    _must(view.uuid == spec.uuid, "a machine has the UUID of its spec", view.uuid)
    _must(view.name == spec.name, "a machine has the name of its spec", view.name)
    _must(view.boot_order[0] is BootSource.DISK, "a machine prefers its disk", view.boot_order)


def ensure_again_changes_nothing(driver: MachineDriver, iso: Path) -> None:
    """`ensure` of a machine that is as wanted leaves its power, media and identity alone."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    before = driver.observe(spec.name)
    driver.ensure(spec)
    after = driver.observe(spec.name)
    _must(after == before, "a second ensure changes nothing", f"{before} became {after}")


def names_are_the_machines_that_were_made(driver: MachineDriver, iso: Path) -> None:
    """`names` holds every machine that was made and not removed, and nothing else."""
    _must(driver.names() == frozenset(), "a lab starts without machines", driver.names())
    for number in (0, 1):
        driver.ensure(machine(number))
    both = frozenset({machine(0).name, machine(1).name})
    _must(driver.names() == both, "names are the machines that were made", driver.names())
    driver.remove(machine(0).name)
    _must(driver.names() == {machine(1).name}, "a removed machine is not among the names", driver.names())


def media_is_what_was_inserted_last(driver: MachineDriver, iso: Path) -> None:
    """The CD drive holds what was inserted last, on a running machine too, and can be emptied."""
    spec = machine()
    driver.ensure(spec)
    for wanted in (iso, iso, None, None, iso):
        driver.insert_media(spec.name, wanted)
        media = driver.observe(spec.name).media
        same = media is None if wanted is None else media is not None and media.samefile(wanted)
        _must(same, "the CD drive holds what was inserted", f"{media} instead of {wanted}")
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    driver.insert_media(spec.name, None)
    view = driver.observe(spec.name)
    _must(view.media is None, "media can be taken out of a running machine", view.media)
    _must(view.power is Power.ON, "taking media out leaves a machine running", view.power)


def boot_turns_on_and_says_so(driver: MachineDriver, iso: Path) -> None:
    """A booted machine is on; `boot` again is quiet and leaves it on."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    for _ in range(2):
        driver.boot(spec.name, BootSource.DISCOVERY_ISO)
        power = driver.observe(spec.name).power
        _must(power is Power.ON, "a booted machine is on", power)


def a_boot_from_the_iso_is_once(driver: MachineDriver, iso: Path) -> None:
    """One boot from the ISO leaves the machine's own boot order as it was, while it runs and afterwards."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    for start in (driver.boot, driver.reboot):
        start(spec.name, BootSource.DISCOVERY_ISO)
        order = driver.observe(spec.name).boot_order
        _must(order == spec.boot_order, "a boot from the ISO does not change the boot order", order)
        driver.stop(spec.name)
        order = driver.observe(spec.name).boot_order
        _must(order == spec.boot_order, "a boot from the ISO leaves no trace in the boot order", order)


def an_empty_drive_cannot_be_booted(driver: MachineDriver, iso: Path) -> None:
    """A start from an empty CD drive is refused before anything happens to the machine."""
    spec = machine()
    driver.ensure(spec)
    _refused(lambda: driver.boot(spec.name, BootSource.DISCOVERY_ISO), NoMedia, "an empty CD drive cannot be booted")
    power = driver.observe(spec.name).power
    _must(power is Power.OFF, "a refused boot leaves the machine off", power)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    driver.insert_media(spec.name, None)
    _refused(lambda: driver.reboot(spec.name, BootSource.DISCOVERY_ISO), NoMedia, "nor can it be rebooted from")
    power = driver.observe(spec.name).power
    _must(power is Power.ON, "a refused reboot leaves the machine running", power)


def reboot_turns_on_from_any_state(driver: MachineDriver, iso: Path) -> None:
    """`reboot` leaves a machine on, whether it was on or off."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    for source in (BootSource.DISCOVERY_ISO, BootSource.DISK, BootSource.DISCOVERY_ISO):
        driver.reboot(spec.name, source)
        power = driver.observe(spec.name).power
        _must(power is Power.ON, "a rebooted machine is on", power)


def stop_turns_off_and_keeps_the_machine(driver: MachineDriver, iso: Path) -> None:
    """A stopped machine is off and otherwise as it was; `stop` again is quiet, gracefully too."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    for graceful in (False, False, True):
        driver.stop(spec.name, graceful)
        power = driver.observe(spec.name).power
        _must(power is Power.OFF, "a stopped machine is off", power)
    view = driver.observe(spec.name)
    _must(view.uuid == spec.uuid, "a stop keeps the UUID", view.uuid)
    _must(view.media is not None, "a stop keeps the media", view.media)
    _must(driver.names() == {spec.name}, "a stop keeps the machine", driver.names())


def a_power_button_only_asks(driver: MachineDriver, iso: Path) -> None:
    """A graceful stop returns at once and leaves the rest to the guest: one that has only just started hears nothing.
    Of a paused machine it is refused."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    driver.stop(spec.name, graceful=True)
    power = driver.observe(spec.name).power
    _must(power is Power.ON, "a graceful stop is the guest's to carry out", power)
    driver.pause(spec.name)
    _refused(lambda: driver.stop(spec.name, graceful=True), WrongPower, "nobody in a paused machine hears its button")
    driver.stop(spec.name)
    power = driver.observe(spec.name).power
    _must(power is Power.OFF, "a paused machine can be cut off", power)


def a_paused_machine_stands_still_and_goes_on(driver: MachineDriver, iso: Path) -> None:
    """`pause` and `resume` may be said again, `boot` resumes too, and a machine that is off refuses both."""
    spec = machine()
    driver.ensure(spec)
    _refused(lambda: driver.pause(spec.name), WrongPower, "a machine that is off cannot be paused")
    _refused(lambda: driver.resume(spec.name), WrongPower, "a machine that is off cannot be resumed")
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    goes_on: tuple[Callable[[], None], ...] = (
        lambda: driver.resume(spec.name),
        lambda: driver.boot(spec.name, BootSource.DISK),
    )
    for go_on in goes_on:
        for _ in range(2):
            driver.pause(spec.name)
            power = driver.observe(spec.name).power
            _must(power is Power.PAUSED, "a paused machine is paused", power)
        for _ in range(2):
            go_on()
            power = driver.observe(spec.name).power
            _must(power is Power.ON, "a machine that goes on is on", power)


def a_reset_is_a_start_by_the_machines_own_order(driver: MachineDriver, iso: Path) -> None:
    """The reset button leaves a machine on and changes nothing of it; one that is not on refuses."""
    spec = machine()
    driver.ensure(spec)
    _refused(lambda: driver.reset(spec.name), WrongPower, "a machine that is off has nothing to reset")
    power = driver.observe(spec.name).power
    _must(power is Power.OFF, "a refused reset leaves it off", power)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    before = driver.observe(spec.name)
    driver.reset(spec.name)
    after = driver.observe(spec.name)
    _must(after == before, "a reset leaves a machine on and as it was", f"{before} became {after}")
    driver.pause(spec.name)
    _refused(lambda: driver.reset(spec.name), WrongPower, "a paused machine is not reset")


def a_boot_order_can_be_set_for_good(driver: MachineDriver, iso: Path) -> None:
    """The machine's own boot order is what was set last, on a running machine too, until another spec is asked for."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    for order in (CD_FIRST, DISK_FIRST, CD_FIRST):
        driver.set_boot_order(spec.name, order)
        seen = driver.observe(spec.name).boot_order
        _must(seen == order, "the boot order is what was set", seen)
        driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    driver.stop(spec.name)
    driver.ensure(spec)
    seen = driver.observe(spec.name).boot_order
    _must(seen == CD_FIRST, "a boot order that was set stays over a stop and over the same ensure", seen)


def devices_go_in_and_out(driver: MachineDriver, iso: Path) -> None:
    """Disks and cards are plugged into a machine that is off or running, and stay; unplugged, they are gone."""
    spec = machine()
    disks = tuple(
        DiskSpec(name=name, size_bytes=1 << 20, serial=name, bus="scsi", rotational=False) for name in ("sdb", "sdc")
    )
    cards = (NicSpec(mac="52:54:00:c0:de:80"), NicSpec(mac="52:54:00:c0:de:81"))
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    for disk, card in zip(disks, cards, strict=True):
        for _ in range(2):
            driver.plug(spec.name, disk)
            driver.plug(spec.name, card)
        driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    driver.ensure(spec)
    view = driver.observe(spec.name)
    _must(sorted(view.disks) == ["sdb", "sdc", "vda"], "disks that were plugged in are there, once", view.disks)
    macs = sorted(nic.mac for nic in (*spec.nics, *cards))
    _must(sorted(view.nics) == macs, "so are cards", view.nics)
    sata = DiskSpec(name="sdd", size_bytes=1 << 20, serial="sdd", bus="sata")
    _refused(lambda: driver.plug(spec.name, sata), NoSuchDevice, "a disk whose bus knows no plugging is refused")
    driver.unplug(spec.name, "sdb")
    driver.stop(spec.name)
    for device in ("sdc", cards[0].mac, cards[1].mac):
        driver.unplug(spec.name, device)
    view = driver.observe(spec.name)
    _must((view.disks, view.nics) == (("vda",), (spec.nics[0].mac,)), "what was unplugged is gone", view)
    _refused(lambda: driver.unplug(spec.name, "sdc"), NoSuchDevice, "what is not there cannot be unplugged")


def a_snapshot_can_be_gone_back_to(driver: MachineDriver, iso: Path) -> None:
    """A snapshot of a machine that is off is kept until the machine is removed; going back leaves it off."""
    spec = machine()
    driver.ensure(spec)
    for name in ("first", "second", "first"):
        driver.snapshot(spec.name, name)
    kept = driver.observe(spec.name).snapshots
    _must(kept == ("first", "second"), "snapshots are kept by name", kept)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    _refused(lambda: driver.snapshot(spec.name, "third"), WrongPower, "a machine that runs is not kept")
    _refused(lambda: driver.revert(spec.name, "third"), NoSuchSnapshot, "only what was kept can be gone back to")
    power = driver.observe(spec.name).power
    _must(power is Power.ON, "a refused revert leaves it on", power)
    driver.revert(spec.name, "first")
    power = driver.observe(spec.name).power
    _must(power is Power.OFF, "a machine that went back is off", power)
    driver.remove(spec.name)
    driver.ensure(spec)
    kept = driver.observe(spec.name).snapshots
    _must(kept == (), "a machine made again has no snapshot", kept)


def a_cable_that_is_out_stays_out(driver: MachineDriver, iso: Path) -> None:
    """A pulled cable is out while the machine runs, over its starts and a second `ensure`, until it is in again."""
    spec, other = machine(0), machine(1)
    for made in (spec, other):
        driver.ensure(made)
    _must(driver.observe(spec.name).has_link, "the cables of a new machine are in", "they are out")
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    for _ in range(2):
        driver.set_link(spec.name, False)
        view = driver.observe(spec.name)
        _must(not view.has_link, "a pulled cable is out of a running machine", view)
        _must(view.power is Power.ON, "pulling a cable leaves a machine running", view.power)
    happenings: dict[str, Callable[[], object]] = {
        "a second ensure": lambda: driver.ensure(spec),
        "a reboot from the ISO": lambda: driver.reboot(spec.name, BootSource.DISCOVERY_ISO),
        "a reboot from disk": lambda: driver.reboot(spec.name, BootSource.DISK),
        "a stop": lambda: driver.stop(spec.name),
        "a change of the machine": lambda: driver.ensure(dataclasses.replace(spec, cpus=2)),
        "a start": lambda: driver.boot(spec.name, BootSource.DISCOVERY_ISO),
    }
    for what, happens in happenings.items():
        happens()
        _must(not driver.observe(spec.name).has_link, "a pulled cable stays out", f"it is in after {what}")
    _must(driver.observe(other.name).has_link, "a cable is one machine's", "the other machine's is out too")
    driver.set_link(spec.name, True)
    _must(driver.observe(spec.name).has_link, "a cable that is in again is in", "it is out")
    driver.reboot(spec.name, BootSource.DISCOVERY_ISO)
    _must(driver.observe(spec.name).has_link, "a cable that is in again stays in", "it is out after a reboot")


def a_fault_shows_and_is_undone(driver: MachineDriver, iso: Path) -> None:
    """While a fault is on the machine is as it was but for that; undone, it is as it was."""
    spec = machine()
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    before = driver.observe(spec.name)
    shown: dict[str, tuple[Callable[[], faults.Undo], MachineView]] = {
        "a power cut": (
            lambda: faults.cut_power(driver, spec.name),
            dataclasses.replace(before, power=Power.OFF),
        ),
        "a pulled cable": (
            lambda: faults.pull_cables(driver, spec.name),
            dataclasses.replace(before, has_link=False),
        ),
        "ejected media": (lambda: faults.eject_media(driver, spec.name), dataclasses.replace(before, media=None)),
    }
    for what, (begin, wanted) in shown.items():
        undo = begin()
        during = driver.observe(spec.name)
        _must(during == wanted, f"{what} is seen, and nothing else", f"{during} instead of {wanted}")
        undo()
        after = driver.observe(spec.name)
        _must(after == before, f"{what} is undone", f"{before} became {after}")
    driver.stop(spec.name)
    faults.cut_power(driver, spec.name)()
    power = driver.observe(spec.name).power
    _must(power is Power.OFF, "power that comes back leaves a machine off that was off", power)


def remove_is_quiet_when_gone(driver: MachineDriver, iso: Path) -> None:
    """`remove` takes a running machine away too and is quiet about one that is gone; the name can be used again."""
    spec = machine()
    driver.remove(spec.name)
    driver.ensure(spec)
    driver.insert_media(spec.name, iso)
    driver.boot(spec.name, BootSource.DISCOVERY_ISO)
    driver.remove(spec.name)
    driver.remove(spec.name)
    _must(driver.names() == frozenset(), "a removed machine is gone", driver.names())
    driver.ensure(spec)
    view = driver.observe(spec.name)
    _must(view.power is Power.OFF, "a machine made again is off", view.power)
    _must(view.media is None, "a machine made again has an empty CD drive", view.media)


def verbs_about_nobody_are_refused(driver: MachineDriver, iso: Path) -> None:
    """Every verb but `remove` raises NoSuchMachine for a machine that was not made."""
    verbs: dict[str, Callable[[], object]] = {
        "observe": lambda: driver.observe("nobody"),
        "insert_media": lambda: driver.insert_media("nobody", iso),
        "boot": lambda: driver.boot("nobody", BootSource.DISK),
        "reboot": lambda: driver.reboot("nobody", BootSource.DISK),
        "stop": lambda: driver.stop("nobody"),
        "set_link": lambda: driver.set_link("nobody", False),
        "reset": lambda: driver.reset("nobody"),
        "pause": lambda: driver.pause("nobody"),
        "resume": lambda: driver.resume("nobody"),
        "set_boot_order": lambda: driver.set_boot_order("nobody", CD_FIRST),
        "plug": lambda: driver.plug("nobody", machine().nics[0]),
        "unplug": lambda: driver.unplug("nobody", "vda"),
        "snapshot": lambda: driver.snapshot("nobody", "first"),
        "revert": lambda: driver.revert("nobody", "first"),
    }
    if isinstance(driver, HasConsole):
        verbs["console"] = lambda: driver.console("nobody")
    for verb, call in verbs.items():
        _refused(call, NoSuchMachine, f"{verb} of a machine that does not exist is refused")


def machines_do_not_share(driver: MachineDriver, iso: Path) -> None:
    """What is done to one machine is not done to another."""
    one, other = machine(0), machine(1)
    driver.ensure(one)
    driver.ensure(other)
    before = driver.observe(other.name)
    driver.insert_media(one.name, iso)
    driver.boot(one.name, BootSource.DISCOVERY_ISO)
    after = driver.observe(other.name)
    _must(after == before, "machines are independent", f"{before} became {after}")
    driver.remove(one.name)
    after = driver.observe(other.name)
    _must(after == before, "removing one machine leaves the others", f"{before} became {after}")


def _refused(call: Callable[[], object], expected: type[LabError], promise: str) -> None:
    try:
        call()
    except expected as error:
        _must(bool(error.hint), "a refusal carries a hint", error)
        return
    except LabsimError as error:
        raise PromiseBroken(promise, f"{type(error).__name__} instead of {expected.__name__}: {error}") from error
    raise PromiseBroken(promise, "nothing was raised")


PROMISES: tuple[Promise, ...] = (
    a_new_machine_is_off_and_empty,
    ensure_again_changes_nothing,
    names_are_the_machines_that_were_made,
    media_is_what_was_inserted_last,
    boot_turns_on_and_says_so,
    a_boot_from_the_iso_is_once,
    an_empty_drive_cannot_be_booted,
    reboot_turns_on_from_any_state,
    stop_turns_off_and_keeps_the_machine,
    a_power_button_only_asks,
    a_paused_machine_stands_still_and_goes_on,
    a_reset_is_a_start_by_the_machines_own_order,
    a_boot_order_can_be_set_for_good,
    devices_go_in_and_out,
    a_snapshot_can_be_gone_back_to,
    a_cable_that_is_out_stays_out,
    a_fault_shows_and_is_undone,
    remove_is_quiet_when_gone,
    verbs_about_nobody_are_refused,
    machines_do_not_share,
)


def check_promise(promise: Promise, make_driver: MakeDriver, iso: Path) -> None:
    """Hold a fresh driver to one promise; its machines are removed and the driver is closed in every case."""
    driver = make_driver()
    try:
        promise(driver, iso)
    finally:
        for name in driver.names():
            driver.remove(name)
        driver.close()


def check_machine_driver(make_driver: MakeDriver, iso: Path) -> None:
    """Hold a driver to every promise. Raises PromiseBroken at the first that does not hold."""
    for promise in PROMISES:
        check_promise(promise, make_driver, iso)
