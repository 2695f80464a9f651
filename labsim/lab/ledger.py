"""The lab's ledger: what it makes outside its own process, written down (fsync) before it is made.

One JSON object a line, append only. After `kill -9` at any point the ledger says what may exist; the thing itself,
found by its identity (a UUID, a path) and the lab's mark, says whether it does and whether it is this lab's.
A line that a crash tore is the last one; whatever it announced was never begun, so it is dropped.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from labsim.errors import LabError, LabsimError

INTENDED, CREATED, REMOVED = "intended", "created", "removed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing outside the process. `mark` is what it carries to show whose it is; `detail` helps its remover."""

    kind: str
    identity: str
    mark: str
    state: str
    detail: Mapping[str, str] = dataclasses.field(default_factory=dict)


Remover = Callable[[Entry], None]  # makes sure that the thing is gone; quiet when it is gone already


class Ledger:
    """The ledger in a file. One process writes it at a time: the lab's, or the one that cleans up after it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def intend(self, kind: str, identity: str, *, mark: str, detail: Mapping[str, str] | None = None) -> None:
        """About to be made. Returns when the line is on the disk."""
        self._append(kind=kind, identity=identity, mark=mark, state=INTENDED, detail=dict(detail or {}))

    def created(self, kind: str, identity: str) -> None:
        self._append(kind=kind, identity=identity, state=CREATED)

    def removed(self, kind: str, identity: str) -> None:
        self._append(kind=kind, identity=identity, state=REMOVED)

    def pending(self) -> list[Entry]:
        """What may exist and has not been removed, newest first: the order in which to remove it."""
        alive: dict[tuple[str, str], Entry] = {}
        for line in self._lines():
            key = (str(line["kind"]), str(line["identity"]))
            known = alive.pop(key, None)
            if line["state"] == REMOVED:
                continue
            mark = str(line.get("mark") or (known.mark if known else ""))
            detail = line.get("detail") or (known.detail if known else {})
            alive[key] = Entry(kind=key[0], identity=key[1], mark=mark, state=str(line["state"]), detail=detail)
        return list(reversed(alive.values()))

    def _append(self, **line: object) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                self._drop_torn_line(descriptor)
                _write_all(descriptor, orjson.dumps(line) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                _sync_directory(self.path.parent)
        except OSError as error:
            raise LabError(
                f"the lab's ledger {self.path} cannot be written: {error.strerror}",
                hint="nothing is made that is not written down first: free space, or choose another state directory",
            ) from error

    def _drop_torn_line(self, descriptor: int) -> None:
        """A line written after a torn one would be torn too, so the torn end is cut off first."""
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
            return
        kept = os.pread(descriptor, size, 0).rfind(b"\n") + 1
        os.ftruncate(descriptor, kept)

    def _lines(self) -> Iterator[dict[str, Any]]:  # Any: lines of JSON
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        whole, _, _ = content.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            try:
                document = orjson.loads(line)
                document["kind"], document["identity"], document["state"]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise LabError(
                    f"line {number} of the ledger {self.path} cannot be read",
                    hint="repair or delete that line; everything above and below it is still in the file",
                ) from error
            yield document


def remove_all(ledger: Ledger, removers: Mapping[str, Remover]) -> None:
    """Remove everything pending, newest first, and write down each removal. May be said again after any interruption.

    One thing that cannot be removed does not keep the others: all are tried, then a LabError names those that are left.
    """
    problems: list[str] = []
    for entry in ledger.pending():
        remover = removers.get(entry.kind)
        if remover is None:
            problems.append(f"{entry.kind} {entry.identity}: this installation knows no way to remove it")
            continue
        try:
            remover(entry)
        except (LabsimError, OSError) as error:
            hint = getattr(error, "hint", "")
            problems.append(f"{entry.kind} {entry.identity}: {error}" + (f" ({hint})" if hint else ""))
        else:
            ledger.removed(entry.kind, entry.identity)
    if problems:
        raise LabError(
            f"{len(problems)} thing(s) of the lab could not be removed:\n  " + "\n  ".join(problems),
            hint="say `labsim down` again when the cause is gone; the ledger keeps what is left",
        )


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
