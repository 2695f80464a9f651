"""Keeps what a world knows on a disk: every store, CIM's rows and simulated machines, under one log.

Changes gather until somebody outside the process is to be told something (an answer, a watch event, a command's result)
or a short while has passed. Then they are written as one frame and synced, and only then are those outside told:
so whatever was acknowledged is kept, and requests that come together share one sync. A frame is a line for the time,
then a line (JSON) for each record; it is there as a whole or not at all.

When the log has outgrown what it stands for, it is written anew from the present state; docs/reference/state-log.md
describes the records.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import orjson

from labsim import __version__
from labsim.durable_log import DurableLog, LogFailed
from labsim.edge_time import monotonic_s
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.world.kept_store import KeptStore, Record, StoreKeeper

Records = Callable[[], Iterable[bytes]]
KEPT_WITHIN_S = 0.1  # real time that a change may wait for its sync where nobody outside asks
GROWTH_BYTES_MIN = 64 << 20  # a smaller log is not worth writing anew
FRAME_BYTES = 1 << 20


@dataclasses.dataclass(slots=True)
class KeptState:
    """What an earlier process has kept: when it stood still, how often the lab was started, and records by owner."""

    now_s: float
    starts: int
    facts: Record
    stores: dict[str, list[Record]]
    cim: list[Record]
    machines: list[Record]

    @property
    def life(self) -> str:
        """Tells what is drawn from now on from what was drawn before."""
        return f"start/{self.starts + 1}"

    def store(self, name: str) -> KeptStore | None:
        records = self.stores.pop(name, None)
        return None if records is None else KeptStore(records, self.life)


class Durability:
    """The log of one world. Methods are called on the world's thread."""

    def __init__(self, path: Path, facts: Record) -> None:
        """facts: what the lab needs before it has a world. The world's clock is `now`, which it sets itself."""
        self._path = path
        self._facts = facts
        self.now: Callable[[], float] = lambda: 0.0
        self._log: DurableLog | None = None
        self._starts = 1
        self._base_bytes = 0  # of the log when it was written last
        self._changes: list[bytes | tuple[StoreKeeper, Revision]] = []
        self._takers: list[Records] = []
        self._everything: dict[str, Records] = {}
        self._ends: dict[str, Callable[[], None]] = {}  # of the subscriptions
        self._untold: collections.deque[Callable[[], None]] = collections.deque()
        self._dirty_since_s: float | None = None

    # -- what is kept -------------------------------------------------------------------------------------------------

    def keep_store(self, name: str, server: ApiServer) -> None:
        """Keep an API server's objects, and let it tell its clients only what is kept."""
        keeper = StoreKeeper(name, server)

        def changed(revision: Revision) -> None:
            self._changes.append((keeper, revision))
            self.changed()

        self._ends[name] = server.subscribe(changed)
        server.tell = self.tell
        self._everything[name] = keeper.everything
        if self._log is not None:
            self.add(*keeper.everything())

    def forget_store(self, name: str) -> None:
        self._everything.pop(name, None)
        self._ends.pop(name)()
        self.add(orjson.dumps({"store": name, "gone": True}))

    def keep(self, what: str, everything: Records, take: Records | None = None) -> None:
        """Keep records of some other owner; `take` gives those of its changes since the last time."""
        self._everything[what] = everything
        if take is not None:
            self._takers.append(take)

    def add(self, *records: bytes) -> None:
        """Keep these records, in their order."""
        self._changes += records
        self.changed()

    def changed(self) -> None:
        """Something is to be kept."""
        if self._dirty_since_s is None:
            self._dirty_since_s = monotonic_s()

    # -- telling ------------------------------------------------------------------------------------------------------

    def tell(self, call: Callable[[], None]) -> None:
        """Tell somebody outside, once what has happened until now is kept."""
        if self._dirty_since_s is None or self._log is None:
            call()
        else:
            self._untold.append(call)

    def is_due(self) -> bool:
        """Whether somebody waits, or has waited long enough."""
        since_s = self._dirty_since_s
        return since_s is not None and (bool(self._untold) or monotonic_s() - since_s >= KEPT_WITHIN_S)

    def keep_now(self) -> None:
        """Write and sync all changes, then tell those who wait. Raises LogFailed, and then nobody is told."""
        if self._dirty_since_s is not None and self._log is not None:
            self._log.append(self._frame())
            self._log.sync()
            if self._log.size_bytes > GROWTH_BYTES_MIN + 2 * self._base_bytes:
                self._write_anew()
        self._dirty_since_s = None
        while self._untold:
            self._untold.popleft()()

    def _frame(self) -> bytes:
        changes, self._changes = self._changes, []
        lines = [self._time()]
        lines += [change if isinstance(change, bytes) else change[0].change(change[1]) for change in changes]
        for take in self._takers:
            lines += take()
        return b"\n".join(lines)

    def _time(self) -> bytes:
        return orjson.dumps({"now": self.now()})

    # -- the file -----------------------------------------------------------------------------------------------------

    def begin(self, starts: int = 1) -> None:
        """From now on the state is kept, beginning with what it is. starts: how often the lab has been started."""
        self._starts = starts
        self._write_anew()

    def go_on(self, log: DurableLog, starts: int) -> None:
        """The log of an earlier process goes on: it holds what was restored, so what has happened since is added."""
        self._log = log
        self._base_bytes = log.size_bytes
        self._starts = starts
        self.add(orjson.dumps({"starts": starts}))
        self.keep_now()

    def _write_anew(self) -> None:
        self._changes.clear()
        before = self._log
        self._log = DurableLog.made(self._path, self._snapshot())
        self._base_bytes = self._log.size_bytes
        self._dirty_since_s = None
        if before is not None:
            before.close()

    def _snapshot(self) -> Iterator[bytes]:
        yield orjson.dumps({"labsim": __version__, "starts": self._starts, "facts": self._facts})
        lines, size = [self._time()], 0
        for everything in self._everything.values():
            for line in everything():
                lines.append(line)
                size += len(line)
                if size > FRAME_BYTES:
                    yield b"\n".join(lines)
                    lines, size = [self._time()], 0
        yield b"\n".join(lines)

    def close(self) -> None:
        """Let go of the file; what is not kept by now never will be."""
        if self._log is not None:
            self._log.close()
            self._log = None


def read_state(path: Path) -> tuple[DurableLog, KeptState]:
    """An earlier process's log and what it kept. Raises LogFailed where that cannot be used."""
    log, payloads = DurableLog.opened(path)
    try:
        return log, _state(payloads, path)
    except BaseException:
        log.close()
        raise


def _state(payloads: list[bytes], path: Path) -> KeptState:
    if not payloads:
        raise LogFailed(f"{path} holds no state", hint="labsim down removes the lab")
    head = orjson.loads(payloads[0])
    if head["labsim"] != __version__:
        raise LogFailed(
            f"{path} is of labsim {head['labsim']}, this is {__version__}",
            hint=f"restart the lab with labsim {head['labsim']}, or labsim down removes it",
        )
    state = KeptState(now_s=0.0, starts=head["starts"], facts=head["facts"], stores={}, cim=[], machines=[])
    for payload in payloads[1:]:
        for line in payload.split(b"\n"):
            _take_record(state, orjson.loads(line))
    return state


def _take_record(state: KeptState, record: Record) -> None:
    if "now" in record:
        state.now_s = record["now"]
    elif "store" in record:
        if "gone" in record:
            state.stores.pop(record["store"], None)
        else:
            state.stores.setdefault(record["store"], []).append(record)
    elif "cim" in record:
        state.cim.append(record)
    elif "machine" in record:
        state.machines.append(record)
    elif "starts" in record:
        state.starts = record["starts"]
