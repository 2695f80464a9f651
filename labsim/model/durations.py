"""Go's text form of durations, as metav1.Duration fields carry it: `20m`, `1h30m`, `10m0s`."""

from __future__ import annotations

import re

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def seconds(text: str | None) -> float | None:
    """The seconds of a duration; None where there is none. ValueError for what Go would not parse."""
    if text is None:
        return None
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("+-"):
        raise ValueError(f'time: invalid duration "{text}"')
    total = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return -total if text.startswith("-") else total


def duration_text(whole_s: int) -> str:
    """How Go writes a duration of whole seconds: `1h0m0s`, `10m0s`, `0s`."""
    sign, left = ("-", -whole_s) if whole_s < 0 else ("", whole_s)
    minutes, rest_s = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{rest_s}s"
    return f"{sign}{minutes}m{rest_s}s" if minutes else f"{sign}{rest_s}s"
