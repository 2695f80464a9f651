"""Performs a guest's effects for real: in a virtual machine as PID 1, or in a process beside a real assisted-service.

One thread runs the tasks; whatever blocks (requests, programs, disks) runs on a thread of its own and comes back
through a queue, so polling goes on beside a step that takes minutes.

Pace: a lab may run its world faster than real time. `Pace` turns real into in-world time,
`now = world_epoch_s + (real - real_epoch_s) * speed`; sleeps are divided by the speed, and a request's time-out too but
never below TIMEOUT_FLOOR_S or its own length, because sockets do not get faster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from labsim.guest import effects
from labsim.guest.carrier_http import HttpClient, next_part
from labsim.guest.carrier_programs import make_csr, ping, resolve, run_program
from labsim.guest.record_store import RecordStore
from labsim.guest.scheduler import Done, TaskScheduler

PACE_PATH = "/etc/labsim/pace.json"
PERSISTENT_PREFIX = "/var/lib/"
TIMEOUT_FLOOR_S = 30.0
LONGEST_WAIT_S = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """In-world time as a function of this machine's clock; the default is real time."""

    real_epoch_s: float = 0.0
    world_epoch_s: float = 0.0
    speed: float = 1.0

    @classmethod
    def parse(cls, text: str | bytes) -> Pace:
        """Read pace.json: real_epoch_s, world_epoch_s, speed. Raises ValueError on anything but three numbers."""
        document = json.loads(text)
        try:
            values = {field.name: float(document[field.name]) for field in dataclasses.fields(cls)}
        except (KeyError, TypeError) as error:
            raise ValueError(f"pace.json: {error}") from error
        if values["speed"] <= 0:
            raise ValueError("pace.json: speed must be above 0")
        return cls(**values)

    def now_s(self) -> float:
        """In-world epoch seconds."""
        return self.world_epoch_s + (time.time() - self.real_epoch_s) * self.speed  # noqa: TID251  (an edge)

    def real_s(self, in_world_s: float) -> float:
        """How long an in-world duration really takes."""
        return in_world_s / self.speed

    def timeout_s(self, in_world_s: float) -> float:
        return max(in_world_s / self.speed, min(in_world_s, TIMEOUT_FLOOR_S))


class MachineHands(Protocol):
    """What only the machine around a carrier can do. Each call may block and may raise OSError."""

    def write_part(self, device: str, part: int, parts: int, ignition: bytes) -> None: ...
    def set_boot_entry(self, kernel: bytes, initrd: bytes, command_line: str) -> None: ...
    def reboot(self, reason: str) -> None: ...


class Files:
    """Files below `root`. With a store, what is written under /var/lib is on the disk before the task goes on."""

    def __init__(self, root: str = "/", store: RecordStore | None = None, record_prefix: str = "file") -> None:
        self._root = root.rstrip("/")
        self._store = store
        self._record_prefix = record_prefix

    def read(self, path: str) -> bytes:
        return Path(self._root + path).read_bytes()

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(os.listdir(self._root + path)))

    def link_target(self, path: str) -> str:
        return os.readlink(self._root + path)

    def write(self, path: str, data: bytes, mode: int) -> None:
        if self._store is not None and path.startswith(PERSISTENT_PREFIX):
            self._store.put(self._record_prefix + path, data, mode)
        file = Path(self._root + path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(mode)

    def restore(self) -> None:
        """Put back what the store holds, after a boot."""
        if self._store is None:
            return
        for name, (mode, data) in self._store.files(self._record_prefix + PERSISTENT_PREFIX).items():
            file = Path(self._root + name.removeprefix(self._record_prefix))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(mode)


class HostCarrier:
    """Runs a guest's tasks on this system until they end or the machine restarts.

    `print_line(text)` takes a line of the journal; `hands` is what the machine can do to itself.
    """

    def __init__(
        self, *, files: Files, hands: MachineHands, print_line: Callable[[str], None], pace: Pace | None = None
    ) -> None:
        self.pace = pace or Pace()
        self._files = files
        self._hands = hands
        self._print_line = print_line
        self._http = HttpClient()
        self._answers: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Done]] = []
        self._order = itertools.count()
        self._ended = False
        self._scheduler = TaskScheduler(self._perform, self._failed)

    def run(self, task: effects.Task[Any], name: str = "main") -> None:
        """Run the task, and all that it spawns, to their end, to a Reboot, or until `stop`."""
        self._scheduler.start(task, name)
        while not self._scheduler.idle and not self._ended:
            self._wait()
        self._http.close()

    def stop(self) -> None:
        """End the run: every task is cancelled. From any thread."""
        self._answers.put(self._end)

    def _end(self) -> None:
        self._ended = True
        self._scheduler.stop()

    def _wait(self) -> None:
        """Wait for the next answer or the next sleep that is over, and hand it on."""
        wait_s = LONGEST_WAIT_S
        if self._timers:
            wait_s = min(LONGEST_WAIT_S, self._timers[0][0] - _monotonic_s())
        if wait_s > 0:
            with contextlib.suppress(queue.Empty):
                self._answers.get(timeout=wait_s)()
        now_s = _monotonic_s()
        while self._timers and self._timers[0][0] <= now_s and not self._ended:
            heapq.heappop(self._timers)[2](None)

    def _failed(self, name: str, error: BaseException) -> None:
        self._print_line(f"{name}: ended with {type(error).__name__}: {error}")

    def _perform(self, effect: Any, task_name: str, done: Done) -> None:
        if isinstance(effect, effects.Sleep):
            due_s = _monotonic_s() + self.pace.real_s(effect.seconds)
            heapq.heappush(self._timers, (due_s, next(self._order), done))
        elif isinstance(effect, effects.Reboot):
            self._end()
            self._hands.reboot(effect.reason)
        elif (work := self._blocking(effect)) is not None:
            threading.Thread(target=self._work, args=(work, done), name=task_name, daemon=True).start()
        else:
            self._answer(effect, task_name, done)

    def _work(self, work: Callable[[], Any], done: Done) -> None:
        try:
            value = work()
        except Exception as error:
            failure = error  # `error` is gone when the call below is made
            self._answers.put(lambda: done.error(failure))
        else:
            self._answers.put(lambda: done(value))

    def _answer(self, effect: Any, task_name: str, done: Done) -> None:
        """Effects that are over at once."""
        try:
            value = self._immediate(effect)
        except OSError as error:
            done.error(error)
        else:
            done(value)

    def _immediate(self, effect: Any) -> Any:
        match effect:
            case effects.Now():
                return self.pace.now_s()
            case effects.Log(text, unit):
                self._print_line(f"{unit}: {text}")
                return None
            case effects.ReadFile(path):
                return self._files.read(path)
            case effects.ListDir(path):
                return self._files.names(path)
            case effects.ReadLink(path):
                return self._files.link_target(path)
            case effects.WriteFile(path, data, mode):
                self._files.write(path, data, mode)
                return None
            case effects.RandomBytes(_, count):
                return os.urandom(count)  # noqa: TID251  (a real machine's chance is its kernel's)
            case effects.SystemVersion():
                return None  # /sys changes without telling
        raise TypeError(f"{effect!r} is no effect of labsim.guest.effects")

    def _blocking(self, effect: Any) -> Callable[[], Any] | None:
        """The work of an effect that may take long; None for one that does not."""
        match effect:
            case effects.Http():
                return lambda: self._http.send(effect, self.pace.timeout_s(effect.timeout_s))
            case effects.NextPart():
                return lambda: next_part(effect)
            case effects.Run():
                return lambda: run_program(effect, self.pace.timeout_s(effect.timeout_s))
            case effects.MakeCsr():
                return lambda: make_csr(effect)
            case effects.Resolve(name):
                return lambda: resolve(name)
            case effects.Ping(addresses):
                return lambda: ping(addresses)
            case effects.WriteDisk(device, part, parts, ignition):
                return lambda: self._hands.write_part(device, part, parts, ignition)
            case effects.SetBootEntry(kernel, initrd, command_line):
                return lambda: self._hands.set_boot_entry(kernel, initrd, command_line)
        return None


def _monotonic_s() -> float:
    return time.monotonic()  # noqa: TID251  (a carrier on real sockets is an edge)
