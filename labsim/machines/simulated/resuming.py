"""A simulated machine of a new process goes on as the one of an earlier process: its state, and its program's place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labsim.guest import effects as guest
from labsim.guest.scheduler import Done
from labsim.machines.driver import Power
from labsim.machines.simulated.hardware import hardware_document, with_hardware
from labsim.machines.simulated.record import (
    Document,
    RecordedDone,
    Replay,
    answer_of,
    boot_document,
    boot_of,
    disk_document,
    disk_of,
)

if TYPE_CHECKING:
    from labsim.machines.simulated.machine import SimulatedMachine

log = logging.getLogger(__name__)


def state_of(machine: SimulatedMachine) -> Document:
    """What a machine is, as JSON can say it; its program is known by how it was booted."""
    return {
        "power": machine.power.value,
        "media": machine.media,
        "disks": [disk_document(disk) for disk in machine.disks],
        "hardware": hardware_document(machine.spec),
        "snapshots": {name: [disk_document(disk) for disk in kept] for name, kept in machine._snapshots.items()},
        "boots": machine._boots,
        "bootedFrom": machine._booted_from,
        "counts": machine._counts,
        "boot": boot_document(machine._booting),
        "due": machine._boot_due_s,
    }


def resume(machine: SimulatedMachine, state: Document, answers: Sequence[Document]) -> None:
    """Make a machine what `state` says, and bring its program to where its answers lead; else it starts anew."""
    _restore(machine, state)
    boot = machine._booting
    if boot is None:
        return
    now_s = machine._scheduler.now()
    if machine._boot_due_s is not None and machine._boot_due_s > now_s:
        machine._boot_timer = machine._scheduler.call_at(machine._boot_due_s, lambda: machine._run(boot), "boot")
    elif machine._boot_due_s is None or not _replayed(machine, boot, machine._boot_due_s, answers):
        _restore(machine, state)
        machine._boot_due_s = now_s
        machine._begin_record()
        machine._run(boot)


def _restore(machine: SimulatedMachine, state: Document) -> None:
    machine.power = Power(state["power"])
    machine.media = state["media"]
    machine.disks = [disk_of(disk) for disk in state["disks"]]
    machine.spec = with_hardware(machine.spec, state["hardware"])
    machine._snapshots = {name: [disk_of(disk) for disk in kept] for name, kept in state["snapshots"].items()}
    machine._boots = state["boots"]
    machine._booted_from = state["bootedFrom"]
    machine._counts = dict(state["counts"])
    machine._booting, machine._boot_due_s = boot_of(state["boot"]), state["due"]


def _replayed(machine: SimulatedMachine, boot: guest.Boot, began_s: float, answers: Sequence[Document]) -> bool:
    """Bring the program to where it was; False where it does not come there."""
    replay = machine._replay = Replay(began_s)
    machine._clock = replay
    machine._run(boot)
    for said in answers:
        found = replay.answer(said)
        if found is None:
            log.warning("machine %s asks for other things than before: it starts anew", machine.spec.name)
            machine._halt()
            machine._booting, machine._replay, machine._clock = boot, None, machine._scheduler
            return False
        _answer_again(machine, *found, answer_of(said))
    machine._replay, machine._clock = None, machine._scheduler
    _go_on(machine, replay)
    return True


def _answer_again(machine: SimulatedMachine, effect: Any, done: Done, value: Any) -> None:
    if isinstance(effect, guest.WriteDisk) and not isinstance(value, BaseException):
        machine._disk(effect.device).write_part(effect.part, effect.parts, effect.ignition)
    done(value)


def _go_on(machine: SimulatedMachine, replay: Replay) -> None:
    """What the program waits for: sleeps and disks come to their end, requests are lost."""
    assert machine._record is not None
    machine._record.goes_on_from(replay.asked)
    now_s = machine._scheduler.now()
    for name, (effect, task, done, asked_s) in replay.waiting.items():
        way = RecordedDone(machine._record, name, done, machine._scheduler.now)
        if isinstance(effect, guest.Sleep):
            machine._scheduler.post_at(asked_s + effect.seconds, way, None)
        elif isinstance(effect, guest.WriteDisk):
            machine._write_disk(effect, way, asked_s)
        elif isinstance(effect, guest.Http):
            lost = guest.ConnectionFailed("the connection was reset")
            machine._scheduler.post_at(now_s + machine._delays.of(task, now_s), way, lost)
        else:
            machine._perform(effect, task, way)
