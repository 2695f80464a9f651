"""What every machine driver promises, as checks that any driver can be held to, one named function a promise.

    check_machine_driver(make_driver, iso)

`make_driver` gives a fresh driver of a lab that has no machines; `iso` is an ISO that the driver can start. What runs
in a machine is not looked at, and nothing here waits.
A promise that does not hold raises `PromiseBroken`, which quotes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labsim.errors import LabError, LabsimError
from labsim.machines.driver import (
    BootSource,
    DiskSpec,
    HasConsole,
    MachineDriver,
    MachineSpec,
    NicSpec,
    NoMedia,
    NoSuchMachine,
    Power,
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
