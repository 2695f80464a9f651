"""A tiny carrier in virtual time: files in a dict, a scripted HTTP server, everything it was asked in lists."""

from __future__ import annotations

import errno
import heapq
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from labsim.guest import effects as fx
from labsim.guest.effects import ConnectionFailed, HttpAnswer, Task
from labsim.guest.fake_system import DiskFacts, MachineFacts, system_tree
from labsim.guest.scheduler import Done, TaskScheduler

UUID = "6c0c5b1e-8a34-4c1d-9a52-0c3f6f1f2a01"
Handler = Callable[[fx.Http], HttpAnswer | Exception]

FACTS = MachineFacts(
    uuid=UUID,
    hostname="lab-worker-0",
    cpus=8,
    memory_mib=16384,
    disks=(DiskFacts(name="vda", size_bytes=128849018880),),
    nics=(("enp1s0", "52:54:00:aa:bb:01", "192.168.126.21/24", "192.168.126.1"),),
)


def answer(status: int, document: Any = None, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    if isinstance(document, bytes):
        return HttpAnswer(status, headers or {}, document)
    return HttpAnswer(status, headers or {}, b"" if document is None else json.dumps(document).encode())


class Carrier:
    """One machine. `handler` answers requests; `until(s)` lets in-world time pass."""

    def __init__(self, handler: Handler, facts: MachineFacts = FACTS) -> None:
        self.handler = handler
        self.now_s = 1_000_000.0
        self.files, self.links = system_tree(facts)
        self.requests: list[tuple[float, fx.Http]] = []
        self.logged: list[str] = []
        self.reboots: list[tuple[float, str]] = []
        self.written: list[fx.WriteDisk] = []
        self.boot_entries: list[fx.SetBootEntry] = []
        self.disk_errors: list[OSError] = []
        self.names: dict[str, tuple[str, ...]] = {}
        self.reachable: dict[str, float] = {}
        self.version: int | None = 1
        self.reads = 0
        self.programs: dict[str, fx.Ran] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._draws = itertools.count()
        self._scheduler = TaskScheduler(self._perform)

    def start(self, task: Task[Any]) -> Any:
        return self._scheduler.start(task, "main")

    def boot_again(self) -> None:
        """Power-cycle: tasks end, /etc is made anew, /var/lib stays."""
        self._scheduler.stop()
        self._due.clear()
        kept = {path: data for path, data in self.files.items() if path.startswith("/var/lib/")}
        self.files, self.links = system_tree(FACTS)
        self.files.update(kept)
        self._scheduler = TaskScheduler(self._perform)

    def run_for(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, call = heapq.heappop(self._due)
            call()
        self.now_s = end_s

    def seen(self, method: str, part: str) -> list[fx.Http]:
        return [request for _, request in self.requests if request.method == method and part in request.url]

    def seen_at(self, method: str, part: str) -> list[float]:
        return [when for when, request in self.requests if request.method == method and part in request.url]

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_s + seconds, next(self._order), call))

    def _perform(self, effect: Any, task_name: str, done: Done) -> None:
        match effect:
            case fx.Sleep(seconds):
                self._later(seconds, lambda: done(None))
            case fx.Http():
                self.requests.append((self.now_s, effect))
                self._later(0.0, lambda: done(self._serve(effect)))
            case fx.NextPart(rest):
                self._look(rest, done)
            case fx.Reboot(reason):
                self.reboots.append((self.now_s, reason))
                self._scheduler.stop()
            case _:
                done(self._at_once(effect))

    def _look(self, rest: Callable[[], bytes | Exception | None], done: Done) -> None:
        """Look every second whether there is more; None says that there is nothing yet."""
        part = rest()
        if part is None:
            self._later(1.0, lambda: self._look(rest, done))
        else:
            done(part)

    def _serve(self, request: fx.Http) -> HttpAnswer | Exception:
        try:
            return self.handler(request)
        except ConnectionFailed as error:
            return error

    def _at_once(self, effect: Any) -> Any:
        match effect:
            case fx.Now():
                return self.now_s
            case fx.Log(text, unit):
                self.logged.append(f"{unit}: {text}")
            case fx.ReadFile(path):
                self.reads += 1
                return self.files.get(path, FileNotFoundError(errno.ENOENT, "none", path))
            case fx.ReadLink(path):
                return self.links.get(path, FileNotFoundError(errno.ENOENT, "none", path))
            case fx.ListDir(path):
                root = path.rstrip("/") + "/"
                names = {
                    known[len(root) :].split("/")[0] for known in (*self.files, *self.links) if known.startswith(root)
                }
                return tuple(sorted(names)) if names else FileNotFoundError(errno.ENOENT, "none", path)
            case fx.WriteFile(path, data):
                self.files[path] = data
            case fx.RandomBytes(_, count):
                return (next(self._draws) * 2654435761 % 2 ** (8 * count)).to_bytes(count, "little")
            case fx.SystemVersion():
                return self.version
            case fx.Resolve(name):
                return self.names.get(name, ())
            case fx.Ping(addresses):
                return tuple(self.reachable.get(address) for address in addresses)
            case fx.Run(argv):
                return self.programs.get(argv[0], FileNotFoundError(errno.ENOENT, "none", argv[0]))
            case fx.MakeCsr():
                text = f"CSR {effect.common_name} {effect.organizations} {effect.dns_names} {effect.ip_addresses}"
                return ("-----BEGIN PRIVATE KEY-----\nkey\n-----END PRIVATE KEY-----\n", text)
            case fx.WriteDisk():
                if self.disk_errors:
                    return self.disk_errors.pop(0)
                self.written.append(effect)
            case fx.SetBootEntry():
                self.boot_entries.append(effect)
            case _:
                raise TypeError(f"{effect!r} is no effect")
        return None


def run_alone(task: Task[Any], carrier: Carrier | None = None) -> Any:
    """Run a task that only reads files, and give its result."""
    return (carrier or Carrier(lambda _request: answer(404))).start(task).result
