"""A simulated machine of a process that was killed goes on in the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.guest.effects import (
    Boot,
    ConnectionFailed,
    Http,
    HttpAnswer,
    Log,
    Now,
    RandomBytes,
    Sleep,
    Spawn,
    Task,
    WriteDisk,
    WriteFile,
)
from labsim.machines.contract import machine as specification
from labsim.machines.driver import CD_FIRST, BootSource, DiskSpec, NicSpec, Power
from labsim.machines.simulated import machine as simulated
from labsim.machines.simulated import record
from labsim.machines.simulated.driver import SimulatedDriver

SPEC = specification()
Sent = list[tuple[Http, Callable[[Any], None]]]


class Process:
    """One process with the machine, from records of the one before."""

    def __init__(self, records: list[bytes], now_s: float = 1000.0) -> None:
        self.queue = EventQueue(now_s)
        self.sent: Sent = []
        self.records = list(records)
        self.driver = SimulatedDriver(
            scheduler=self.queue,
            entropy=Entropy(1),
            transport=lambda machine, effect, addresses, done: self.sent.append((effect, done)),
            resolve=lambda machine, name: ("192.0.2.1",),
            tell=self.records.append,
        )
        self.driver._ignition_of_iso = lambda path: b"{}"  # type: ignore[assignment]
        self.driver.ensure(SPEC)
        self.driver.resume_from(map(orjson.loads, records))

    def run(self, seconds: float) -> None:
        end_s = self.queue.now() + seconds
        while self.queue.run_next(end_s):
            pass
        self.queue.advance_to(end_s)

    def boot(self) -> None:
        self.driver.insert_media(SPEC.name, Path("discovery.iso"))
        self.driver.boot(SPEC.name, BootSource.DISCOVERY_ISO)
        self.run(120)

    def next(self) -> Process:
        return Process(self.records, self.queue.now())

    @property
    def console(self) -> list[str]:
        return [line.removeprefix("guest: ") for line in self.driver.console(SPEC.name).decode().splitlines()]


def guest(monkeypatch: pytest.MonkeyPatch, program: Callable[[Boot], Task[None]]) -> None:
    monkeypatch.setattr(simulated, "guest_program", program)


def test_a_program_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(boot: Boot) -> Task[None]:
        yield WriteFile("/run/begun", b"yes")
        drawn: bytes = yield RandomBytes("x", 4)
        answer: HttpAnswer = yield Http("GET", "https://x/1")
        began_s: float = yield Now()
        yield Log(f"{drawn.hex()} {answer.body.decode()} {began_s}")
        yield Sleep(100)
        yield Log("slept")

    guest(monkeypatch, program)
    first = Process([])
    first.boot()
    first.sent[0][1](HttpAnswer(200, {}, b"hello"))
    first.run(60)
    second = first.next()
    assert second.console == first.console
    assert second.sent == [], "what was answered is not asked for again"
    second.run(39)
    assert second.console == first.console
    second.run(2)
    assert second.console == [*first.console, "slept"]


def test_a_request_on_its_way_is_lost_and_a_disk_goes_on_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def polling() -> Task[None]:
        try:
            yield Http("GET", "https://x/poll")
        except ConnectionFailed as lost:
            yield Log(f"poll: {lost}")

    def program(boot: Boot) -> Task[None]:
        if boot.source == "disk":
            yield Log("from disk")
            return
        yield Spawn(polling(), "poll")
        for part in range(4):
            yield WriteDisk("/dev/vda", part, 4, b"ignition")
            yield Log(f"part {part}")

    guest(monkeypatch, program)
    first = Process([])
    first.boot()
    while "part 1" not in first.console:
        first.run(5)
    second = first.next()
    second.run(1)
    assert second.console == ["part 0", "part 1", "poll: the connection was reset"]
    second.run(300)
    assert second.console[-1] == "part 3"
    second.driver.reboot(SPEC.name, BootSource.DISK)
    second.run(100)
    assert second.console[-1] == "from disk"
    assert second.next().console == ["from disk"]


def test_power_and_media_and_a_boot_that_has_just_begun_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(boot: Boot) -> Task[None]:
        yield Log(f"from {boot.source}")

    guest(monkeypatch, program)
    first = Process([])
    first.driver.insert_media(SPEC.name, Path("discovery.iso"))
    second = first.next()
    assert second.driver.observe(SPEC.name).power is Power.OFF
    assert second.driver.observe(SPEC.name).media == Path("discovery.iso")
    second.driver.boot(SPEC.name, BootSource.DISCOVERY_ISO)
    second.run(10)
    third = second.next()
    assert third.driver.observe(SPEC.name).power is Power.ON
    assert third.console == []
    third.run(100)
    assert third.console == ["from discovery-iso"]
    third.driver.stop(SPEC.name)
    fourth = third.next()
    fourth.run(1000)
    assert fourth.driver.observe(SPEC.name).power is Power.OFF


def test_a_machine_goes_on_through_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(boot: Boot) -> Task[None]:
        for number in range(20):
            yield Sleep(10)
            yield Log(f"{number}")

    guest(monkeypatch, program)
    process = Process([])
    process.boot()
    while len(process.console) < 20:
        process.run(7)
        process.records = list(process.driver.everything())  # as a log that was written anew
        process = process.next()
    assert process.console == [f"{number}" for number in range(20)]


def test_a_program_that_has_run_for_long_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "ANSWERS_MAX", 10)

    def program(boot: Boot) -> Task[None]:
        yield Log("begun")
        while True:
            yield Sleep(1)

    guest(monkeypatch, program)
    first = Process([])
    first.boot()
    assert len(list(first.driver.everything())) <= 12
    second = first.next()
    assert second.console == ["begun"]
    second.run(3)
    assert len(list(second.driver.everything())) > 2


def test_an_agent_that_registers_alone_needs_nothing_of_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(boot: Boot) -> Task[None]:
        while True:
            try:
                yield Http("POST", "https://x/hosts")
            except ConnectionFailed:
                yield Log("once more")
                continue
            yield Log("registered")
            for _ in range(50):
                yield Sleep(1)

    guest(monkeypatch, program)
    first = Process([])
    first.boot()
    for number in range(3):
        first.sent[number][1](HttpAnswer(201, {}, b""))
        first.run(60)
    assert len(list(first.driver.everything())) == 1, "its state, and no answer"
    second = first.next()
    second.run(1)
    assert second.console == ["once more"]
    assert len(second.sent) == 1


def test_a_program_that_asks_for_other_things_than_it_did_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(boot: Boot) -> Task[None]:
        yield Sleep(1)
        yield Log("old")

    def other(boot: Boot) -> Task[None]:
        yield Log("new")
        yield Http("GET", "https://x/1")

    guest(monkeypatch, old)
    first = Process([])
    first.boot()
    guest(monkeypatch, other)
    second = first.next()
    second.run(1)
    assert second.console[-1] == "new"
    assert [effect.url for effect, _ in second.sent] == ["https://x/1"]


def test_what_was_done_to_a_machine_by_hand_is_still_so() -> None:
    first = Process([])
    first.driver.snapshot(SPEC.name, "empty")
    first.driver.plug(SPEC.name, DiskSpec(name="sdb", size_bytes=1 << 20, serial="sdb", bus="scsi"))
    first.driver.plug(SPEC.name, NicSpec(mac="52:54:00:c0:de:99"))
    first.driver.set_boot_order(SPEC.name, CD_FIRST)
    before = first.driver.observe(SPEC.name)
    second = first.next()
    assert second.driver.observe(SPEC.name) == before
    assert (before.snapshots, before.disks) == (("empty",), ("vda", "sdb"))
    second.driver.revert(SPEC.name, "empty")
