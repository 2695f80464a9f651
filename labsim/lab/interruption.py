"""Cleaning up is not interrupted: a second Ctrl-C, or a signal to a whole group, must not leave half a lab behind."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _say(*_: object) -> None:
    sys.stderr.write("labsim: cleaning up; kill -9 ends it at once, and `labsim down` removes what is left then\n")


def _interrupt(*_: object) -> NoReturn:
    for number in SIGNALS:
        signal.signal(number, _say)
    raise KeyboardInterrupt


def interrupt_once() -> None:
    """From now on the first SIGINT or SIGTERM raises KeyboardInterrupt in the main thread, and later ones only talk."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that SIGINT and SIGTERM do not end; what they did before is restored after it."""
    before = {number: signal.signal(number, _say) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
