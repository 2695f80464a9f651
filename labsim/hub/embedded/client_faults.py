"""Faults of an API towards some of its clients: rules that say whom they meet, within what Kubernetes allows.

- delay: every event of a watch comes so much later. Nothing is promised about when an event comes.
- reorder: each event comes up to so much later, drawn for each watch by itself, and so does the answer of a write.
- freeze: watches fall silent at a revision, and reads that take a cache as old as it is are of that revision. One of
  several API servers may be behind so: its watch cache has stopped, etcd has not.
- cut: open watches end, cleanly, by a reset, or so that going on is refused with 410 Expired. A watch may end at any
  time, and a revision be compacted at any time.
- lose-answer: a write is carried out, and its answer is a reset of the connection, or a 504 after a minute.
- lose-write: a write is answered as if it had been carried out, and never was.

The order of a watch is never touched. kube-apiserver sends the events of one watch by their revisions, each once, never
back, and a bookmark says that everything before it was sent. There is no such order between two watches, even of one
client, nor between a watch and the answer of a write: the event of a client's own write may come before its answer, or
long after it. That, and only that, is what `reorder` plays with.

A frozen cache answers what may be stale: a get or list with resourceVersion=0, or with one that it has reached (where
it has not: 504, "Too large resource version"), and watches, from its revision on. Without a resourceVersion a get or
list is of what is there now. A streaming list that asks for the present state is told what the cache holds, and waits
for the bookmark that ends it. When the log no longer reaches the revision the cache starts anew: the freeze is over.

`lose-write` is no behaviour of a sound cluster. It is what an etcd shows that has lost its last entries (a disk that
lied about fsync, a restore from a snapshot): the write was answered under the next resourceVersion, no watch hears of
it, no later read has it, and that number is given again to the next write of anybody. It has to be allowed expressly.
"""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
from typing import Any

from labsim.entropy import Entropy
from labsim.errors import NothingSelected
from labsim.kube.gate import Lag
from labsim.model.kinds import Kind
from labsim.model.quantities import format_duration

EVERYBODY = "*"


class What(enum.StrEnum):
    """The faults that stay until they are cleared, or have acted as often as they were asked to."""

    DELAY = "delay"
    REORDER = "reorder"
    FREEZE = "freeze"
    LOSE_ANSWER = "lose-answer"
    LOSE_WRITE = "lose-write"


class Cut(enum.StrEnum):
    """How a watch is cut: cleanly, by a reset of its connection, or so that going on is refused with 410."""

    END = "end"
    RESET = "reset"
    EXPIRED = "expired"


class LostBy(enum.StrEnum):
    """What comes in place of a lost answer: a reset of the connection, or a 504 after REQUEST_TIMEOUT_S."""

    RESET = "reset"
    TIMEOUT = "timeout"


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """Whom a request or a watch belongs to. program: the user agent; connection: the peer's address and port."""

    program: str
    user: str
    connection: str


@dataclasses.dataclass(frozen=True, slots=True)
class Who:
    """Whom a fault meets: patterns (`*`, `?`, `[ab]`) of program, user and connection, and a kind ("" is every one).

    kind is the resource with its group, `agents.agent-install.openshift.io`.
    """

    program: str = EVERYBODY
    user: str = EVERYBODY
    connection: str = EVERYBODY
    kind: str = ""

    def meets(self, client: Client, kind: Kind) -> bool:
        return (
            self.kind in ("", kind.qualified)
            and fnmatch.fnmatchcase(client.program, self.program)
            and fnmatch.fnmatchcase(client.user, self.user)
            and fnmatch.fnmatchcase(client.connection, self.connection)
        )

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in dataclasses.asdict(self).items() if value not in ("", EVERYBODY)]
        return ", ".join(words) or "everybody"


@dataclasses.dataclass(slots=True, kw_only=True)
class Fault:
    """One rule. seconds: of delay and reorder; revision: of freeze; left: how many writes it will still meet."""

    number: int
    what: What
    who: Who
    seconds: float = 0.0
    revision: int = 0
    left: int = 0
    how: str = ""
    acted: int = 0

    def row(self) -> dict[str, Any]:
        """What people and programs are shown of it."""
        return {"number": self.number, "fault": self.what.value, "details": self._details(), "who": str(self.who)}

    def _details(self) -> str:
        if self.what is What.FREEZE:
            return f"at revision {self.revision}"
        if self.what in (What.DELAY, What.REORDER):
            return ("up to " if self.what is What.REORDER else "") + format_duration(self.seconds)
        return ", ".join(word for word in (self.how, f"{self.left} left", f"{self.acted} lost") if word)


class ClientFaults:
    """The faults that are on."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy.child("client-faults")
        self._faults: dict[int, Fault] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, what: What, who: Who, **details: Any) -> Fault:
        """Switch a fault on; `details` are the fields of Fault that belong to it."""
        self._last += 1
        fault = self._faults[self._last] = Fault(number=self._last, what=what, who=who, **details)
        return fault

    def all(self) -> list[Fault]:
        return list(self._faults.values())

    def clear(self, numbers: list[int]) -> list[Fault]:
        """Switch these off; all of them where none is named. Raises NothingSelected."""
        unknown = [str(number) for number in numbers if number not in self._faults]
        if unknown:
            known = ", ".join(map(str, self._faults)) or "none"
            raise NothingSelected(f"there is no fault {', '.join(unknown)}", hint=f"faults that are on: {known}")
        return [self._faults.pop(number) for number in numbers or list(self._faults)]

    def on_watch(self, client: Client, kind: Kind) -> tuple[Lag | None, int | None]:
        """How the watch of a client is held back (labsim.kube.gate.Gate.set)."""
        met = [fault for fault in self._faults.values() if fault.who.meets(client, kind)]
        frozen = [fault.revision for fault in met if fault.what is What.FREEZE]
        late = [fault for fault in met if fault.what in (What.DELAY, What.REORDER)]
        if not late:
            return None, min(frozen, default=None)
        place = f"{client.connection}/{kind.qualified}"

        def lag(revision: int) -> float:
            return sum(self._seconds(fault, f"{place}/{revision}") for fault in late)

        return lag, min(frozen, default=None)

    def answer_lag_s(self, client: Client, kind: Kind, revision: int) -> float:
        """How late the answer of a write at a revision is, so that the events of the write may come before it."""
        place = f"answer/{client.connection}/{revision}"
        return sum(self._seconds(fault, place) for fault in self._meeting(What.REORDER, client, kind))

    def frozen_before(self, oldest: int) -> list[Fault]:
        """The freezes at revisions that a log which begins after `oldest` no longer reaches."""
        return [fault for fault in self._faults.values() if fault.what is What.FREEZE and fault.revision < oldest]

    def losing(self, what: What, client: Client, kind: Kind) -> Fault | None:
        """The fault that makes a write of this client lose its answer, or itself; None where none does."""
        return next(iter(self._meeting(what, client, kind)), None)

    def has_acted(self, fault: Fault) -> None:
        """A fault has met one more write; it is over when it has met all that it was for."""
        fault.acted += 1
        fault.left -= 1
        if not fault.left:
            self._faults.pop(fault.number, None)

    def _meeting(self, what: What, client: Client, kind: Kind) -> list[Fault]:
        return [fault for fault in self._faults.values() if fault.what is what and fault.who.meets(client, kind)]

    def _seconds(self, fault: Fault, place: str) -> float:
        if fault.what is What.DELAY:
            return fault.seconds
        return self._entropy.uniform(f"{fault.number}/{place}", 0.0, fault.seconds)
