"""A simulated machine: what it does when the power goes away in the middle of something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.guest.effects import Boot, Http, HttpAnswer, ListDir, Log, Sleep, Task, WriteDisk, WriteFile
from labsim.machines.contract import machine as specification
from labsim.machines.driver import BootSource
from labsim.machines.simulated import machine as simulated
from labsim.machines.simulated.machine import ISO_BOOT_S, WRITE_DISK_S, SimulatedMachine

Sent = list[Callable[[Any], None]]


def machine_running(
    program: Callable[[Boot], Task[None]], monkeypatch: pytest.MonkeyPatch
) -> tuple[SimulatedMachine, EventQueue, Sent]:
    """A machine whose guest is `program`, the queue that it lives on, and the requests that wait for an answer."""
    monkeypatch.setattr(simulated, "guest_program", program)
    queue, sent = EventQueue(), Sent()
    machine = SimulatedMachine(
        specification(),
        scheduler=queue,
        entropy=Entropy("machine"),
        transport=lambda machine, effect, addresses, done: sent.append(done),
        resolve=lambda machine, name: ("192.168.122.1",),
        observe=lambda machine, what, fields: None,
        address="192.168.122.20/24",
        ignition_of_iso=lambda path: b"{}",
    )
    machine.media = "discovery.iso"
    machine.start(BootSource.DISCOVERY_ISO)
    return machine, queue, sent


def run_for(queue: EventQueue, seconds: float) -> None:
    end_s = queue.now() + seconds
    while queue.run_next(end_s):
        pass
    queue.advance_to(end_s)


def test_what_was_being_written_when_the_power_went_is_not_on_the_disk_after_the_next_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boots: list[Boot] = []

    def program(boot: Boot) -> Task[None]:
        boots.append(boot)
        if len(boots) > 1:
            return
        yield Log("writing")
        yield WriteDisk("/dev/vda", 0, 2, b"ignition")

    machine, queue, _ = machine_running(program, monkeypatch)
    while b"writing" not in machine.console:
        queue.run_next(queue.now() + ISO_BOOT_S[1])
    machine.start(BootSource.DISCOVERY_ISO)
    run_for(queue, ISO_BOOT_S[1] + WRITE_DISK_S[1])
    assert len(boots) == 2
    assert machine.disks[0].parts_written == 0


def test_an_answer_that_comes_after_the_power_went_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(boot: Boot) -> Task[None]:
        del boot
        yield Http("GET", "https://api.example.com/")
        yield Log("answered")
        yield Sleep(1)

    machine, queue, sent = machine_running(program, monkeypatch)
    while not sent:
        queue.run_next(queue.now() + ISO_BOOT_S[1])
    machine.stop()
    sent[0](HttpAnswer(200, {}, b""))
    assert b"answered" not in machine.console


def test_folders_follow_from_what_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: dict[str, object] = {}

    def program(boot: Boot) -> Task[None]:
        del boot
        yield WriteFile("/etc/kubernetes/manifests/proxy.yaml", b"{}")
        for path in ("/etc/kubernetes", "/etc/kubernetes/manifests/", "/sys/class/net", "/nowhere"):
            try:
                listed[path] = yield ListDir(path)
            except FileNotFoundError as error:
                listed[path] = error.filename

    _, queue, _ = machine_running(program, monkeypatch)
    run_for(queue, ISO_BOOT_S[1])
    assert listed == {
        "/etc/kubernetes": ("manifests",),
        "/etc/kubernetes/manifests/": ("proxy.yaml",),
        "/sys/class/net": ("enp1s0",),
        "/nowhere": "/nowhere",
    }
