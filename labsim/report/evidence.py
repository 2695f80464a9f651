"""The file of a run's history: trouble with it ends the run, and is never seen by what is being recorded."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from labsim.errors import LabError, refused_by_system, system_errors


class EvidenceFile:
    """What a history writes to is `buffered`.

    A write that the system refuses (a full disk) is kept in `failure` and told to `on_failure` once, and nothing is
    written after it: a controller in the middle of a step could only misunderstand it. `began` is set by whoever runs,
    when the lab is made and the first step comes.
    """

    def __init__(self, path: Path) -> None:
        self.failure: LabError | None = None
        self.on_failure: Callable[[LabError], None] = lambda error: None
        self.began = False
        with system_errors(f"writing {path}"):
            self.buffered = io.BufferedWriter(_Kept(path, self._failed), 1 << 16)

    def __enter__(self) -> EvidenceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.buffered.close()

    def flush(self) -> None:
        self.buffered.flush()

    def _failed(self, path: Path, error: OSError) -> None:
        if self.failure is None:
            self.failure = refused_by_system(error, f"writing {path}")
            self.on_failure(self.failure)


class _Kept(io.RawIOBase):
    """A file that never raises at a write: it tells, and throws away what comes after."""

    def __init__(self, path: Path, failed: Callable[[Path, OSError], None]) -> None:
        super().__init__()
        self._path = path
        self._failed = failed
        self._broken = False
        self._file = path.open("wb", buffering=0)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        length = len(view)
        try:
            while view and not self._broken:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            self._broken = True
            self._failed(self._path, error)
        return length

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()
