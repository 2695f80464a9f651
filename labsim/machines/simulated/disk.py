"""The disk of a simulated machine: what an installation leaves on it, and what outlives a reboot."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class BootEntry:
    """A kernel and initrd that the disk boots once (what reclaim writes to /boot)."""

    ignition: bytes
    command_line: str


@dataclasses.dataclass(slots=True)
class SimulatedDisk:
    """One disk. `parts_written` of `parts` tells how far an installation came; it boots only when all are there."""

    name: str
    size_bytes: int
    ignition: bytes | None = None
    parts_written: int = 0
    parts: int = 0
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    boot_entry: BootEntry | None = None

    @property
    def is_bootable(self) -> bool:
        return self.ignition is not None and self.parts_written == self.parts > 0

    def write_part(self, part: int, parts: int, ignition: bytes) -> None:
        """Store one part of an installation; the first wipes what was there."""
        if part == 0:
            self.files.clear()
            self.ignition = None
            self.boot_entry = None
        self.parts, self.parts_written = parts, part + 1
        if part + 1 == parts:
            self.ignition = ignition
