"""The power button among the events of the kernel's input devices."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest

from labsim.guest.power_button import is_press, wait_for_power_button


def event(kind: int, code: int, value: int) -> bytes:
    return struct.pack("llHHi", 1, 2, kind, code, value)


SYNCHRONISE, PRESS, RELEASE, OTHER_KEY = event(0, 0, 0), event(1, 116, 1), event(1, 116, 0), event(1, 30, 1)


@pytest.mark.parametrize(
    ("data", "pressed"),
    [
        (PRESS + SYNCHRONISE, True),
        (OTHER_KEY + SYNCHRONISE + PRESS, True),
        (RELEASE + SYNCHRONISE, False),
        (OTHER_KEY, False),
        (PRESS[:-1], False),
        (b"", False),
    ],
    ids=["press", "among-others", "release", "another-key", "cut-short", "nothing"],
)
def test_only_a_press_of_the_power_button_counts(data: bytes, pressed: bool) -> None:
    assert is_press(data) is pressed


def test_whichever_device_tells_it_is_heard(tmp_path: Path) -> None:
    for name in ("event0", "event1", "mouse0"):
        os.mkfifo(tmp_path / name)
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(wait_for_power_button(str(tmp_path))), daemon=True)
    waiting.start()
    with (tmp_path / "event0").open("wb") as first, (tmp_path / "event1").open("wb") as second:
        first.write(OTHER_KEY)
        first.flush()
        second.write(PRESS)
        second.flush()
        waiting.join(10)
    assert heard == [True]


def test_a_machine_without_input_devices_has_no_button(tmp_path: Path) -> None:
    assert wait_for_power_button(str(tmp_path)) is False
