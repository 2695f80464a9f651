"""What a simulated machine's program has been answered since its boot, so that a later process can go on with it.

A program is a generator: it cannot be stored. But it is moved by its answers alone, so giving a new one the same
answers brings it to the same place (`Replay`). What takes no time (files, chance, the clock) is answered by the machine
again. A request that was on its way when the process ended has failed for the program, as if its service had gone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from labsim.guest import effects as guest
from labsim.guest.scheduler import Done
from labsim.machines.simulated.disk import BootEntry, SimulatedDisk

Document = dict[str, Any]
Tell = Callable[[bytes], None]
# Beyond this a machine is not brought to where it was: its program starts anew. An installation needs a tenth of it.
ANSWERS_MAX = 3000
BYTES_MAX = 4 << 20


class GuestRecord:
    """The records of one machine: a document of its state at its boot, then the answers that its program got."""

    def __init__(self, name: str, tell: Tell) -> None:
        self._tell = tell
        self._begin = orjson.dumps({"machine": name})[:-1]
        self._base = self._media = b""
        self._answers: list[bytes] = []
        self._bytes = 0
        self._asked: dict[str, int] = {}

    def begins(self, state: Document) -> None:
        """From here on: whatever was answered before does not count any more."""
        self._base = self._begin + b',"is":' + orjson.dumps(state) + b"}"
        self._media = b""
        self._answers.clear()
        self._bytes = 0
        self._asked.clear()
        self._tell(self._base)

    def media(self, path: str | None) -> None:
        """Another disc is in the drive."""
        self._media = self._begin + b',"media":' + orjson.dumps(path) + b"}"
        self._tell(self._media)

    @property
    def is_too_long(self) -> bool:
        return len(self._answers) > ANSWERS_MAX or self._bytes > BYTES_MAX

    def everything(self) -> Iterable[bytes]:
        """The records that stand for the machine as it is."""
        return [record for record in (self._base, self._media, *self._answers) if record]

    def asked(self, task: str) -> str:
        """What the next effect of a task that takes time is called: the task, and how many it has asked for before."""
        return _next(self._asked, task)

    def resumed(self, state: Document, answers: Iterable[Document]) -> None:
        """Hold what an earlier process has recorded."""
        self._base = self._begin + b',"is":' + orjson.dumps(state) + b"}"
        self._answers = [self._begin + b',"answer":' + orjson.dumps(answer) + b"}" for answer in answers]
        self._bytes = sum(map(len, self._answers))

    def goes_on_from(self, asked: dict[str, int]) -> None:
        """A program that was brought to where it was has asked for so much, by task."""
        self._asked = asked

    def answered(self, effect: str, now_s: float, value: Any) -> None:
        said: Document = {"to": effect, "t": now_s}
        if isinstance(value, BaseException):
            said["error" if isinstance(value, OSError) else "unreachable"] = str(value)
        elif isinstance(value, guest.HttpAnswer):
            said["http"] = [value.status, dict(value.headers), _text(value.body)]
            if value.rest is not None:
                said["follows"] = True
        elif isinstance(value, bytes):
            said["part"] = _text(value)
        record = self._begin + b',"answer":' + orjson.dumps(said) + b"}"
        self._answers.append(record)
        self._bytes += len(record)
        self._tell(record)


class Replay:
    """A program that is given its answers again: what it asks for waits until its answer comes.

    An effect is known by its task: how tasks take turns may differ, since a program that starts anew has no caches yet.
    """

    def __init__(self, start_s: float) -> None:
        self.now_s = start_s
        self.waiting: dict[str, tuple[Any, str, Done, float]] = {}  # effect, task, way back, when
        self.asked: dict[str, int] = {}

    def now(self) -> float:
        return self.now_s

    def ask(self, effect: Any, task: str, done: Done) -> None:
        self.waiting[_next(self.asked, task)] = (effect, task, done, self.now_s)

    def answer(self, said: Document) -> tuple[Any, Done] | None:
        """The effect that an answer is to, and its way back; None where the program does not ask for such a thing."""
        effect, _, done, _ = self.waiting.pop(said["to"], (None, "", None, 0.0))
        if done is None or not _fits(effect, said):
            return None
        self.now_s = said["t"]
        return effect, done


class RecordedDone:
    """The way back of one effect, which writes down what is answered."""

    __slots__ = ("_done", "_effect", "_now_s", "_record")

    def __init__(self, record: GuestRecord, effect: str, done: Done, now_s: Callable[[], float]) -> None:
        self._record = record
        self._effect = effect
        self._done = done
        self._now_s = now_s

    @property
    def wanted(self) -> bool:
        return self._done.wanted

    def __call__(self, value: Any = None) -> None:
        if self._done.wanted:
            self._record.answered(self._effect, self._now_s(), value)
            self._done(value)

    def error(self, error: BaseException) -> None:
        self(error)


def disk_document(disk: SimulatedDisk) -> Document:
    """A disk with what is on it, as JSON can say it."""
    entry = disk.boot_entry
    return {
        "name": disk.name,
        "size": disk.size_bytes,
        "ignition": None if disk.ignition is None else _text(disk.ignition),
        "parts": [disk.parts_written, disk.parts],
        "files": {path: _text(data) for path, data in disk.files.items()},
        "bootEntry": None if entry is None else [_text(entry.ignition), entry.command_line],
    }


def disk_of(document: Document) -> SimulatedDisk:
    entry, ignition = document["bootEntry"], document["ignition"]
    return SimulatedDisk(
        name=document["name"],
        size_bytes=document["size"],
        ignition=None if ignition is None else _bytes(ignition),
        parts_written=document["parts"][0],
        parts=document["parts"][1],
        files={path: _bytes(data) for path, data in document["files"].items()},
        boot_entry=None if entry is None else BootEntry(_bytes(entry[0]), entry[1]),
    )


def boot_document(boot: guest.Boot | None) -> Document | None:
    return (
        None if boot is None else {"source": boot.source, "ignition": _text(boot.ignition), "line": boot.command_line}
    )


def boot_of(document: Document | None) -> guest.Boot | None:
    return None if document is None else guest.Boot(document["source"], _bytes(document["ignition"]), document["line"])


class LostBody:
    """The body of an answer that an earlier process was given."""

    def read(self) -> bytes | None:
        raise guest.ConnectionFailed("the connection was reset")

    def on_ready(self, callback: Callable[[], Any]) -> None:
        callback()

    def close(self) -> None:
        """Nothing is held."""


def _fits(effect: Any, said: Document) -> bool:
    """Whether an answer can be one to this effect."""
    if isinstance(effect, guest.Http):
        return "http" in said or "unreachable" in said
    if isinstance(effect, guest.NextPart):
        return "part" in said or "unreachable" in said
    return "http" not in said and "part" not in said and "unreachable" not in said


def _next(asked: dict[str, int], task: str) -> str:
    number = asked.get(task, 0)
    asked[task] = number + 1
    return f"{task}#{number}"


def answer_of(said: Document) -> Any:
    """What a program was answered, from its record."""
    if "http" in said:
        status, headers, body = said["http"]
        return guest.HttpAnswer(status, headers, _bytes(body), LostBody() if "follows" in said else None)
    if "part" in said:
        return _bytes(said["part"])
    if "unreachable" in said:
        return guest.ConnectionFailed(said["unreachable"])
    return OSError(said["error"]) if "error" in said else None


def _text(body: bytes) -> str | list[str]:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return [base64.b64encode(body).decode()]


def _bytes(body: str | list[str]) -> bytes:
    return body.encode() if isinstance(body, str) else base64.b64decode(body[0])
