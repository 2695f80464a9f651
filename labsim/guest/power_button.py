"""The power button of a machine, as the kernel's input devices tell of it (linux/input-event-codes.h)."""

from __future__ import annotations

import os
import select
import struct
from pathlib import Path

INPUT_FOLDER = "/dev/input"
_EVENT = struct.Struct("llHHi")  # seconds, microseconds, type, code, value
_EV_KEY, _KEY_POWER, _PRESSED = 1, 116, 1
_EVENTS_AT_ONCE = 64


def wait_for_power_button(folder: str = INPUT_FOLDER) -> bool:
    """Block until somebody presses it. False where this machine has no input device that could tell."""
    devices = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in sorted(Path(folder).glob("event*"))]
    try:
        while devices:
            ready, _, _ = select.select(devices, [], [])
            for device in ready:
                data = os.read(device, _EVENT.size * _EVENTS_AT_ONCE)
                if is_press(data):
                    return True
                if not data:  # the device is gone
                    devices.remove(device)
                    os.close(device)
    finally:
        for device in devices:
            os.close(device)
    return False


def is_press(data: bytes) -> bool:
    """Whether the power button's press is among these events."""
    whole = len(data) // _EVENT.size * _EVENT.size
    return any(event[2:] == (_EV_KEY, _KEY_POWER, _PRESSED) for event in _EVENT.iter_unpack(data[:whole]))
