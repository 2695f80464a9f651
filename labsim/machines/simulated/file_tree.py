"""The files that the program of a simulated machine sees: a made-up system, and what it has written itself."""

from __future__ import annotations

from typing import TypeVar

from labsim.machines.simulated.disk import SimulatedDisk

RUNTIME_FILES = ("/home/", "/run/", "/tmp/", "/var/")  # noqa: S108  (paths of the machine: not in its inventory)


T = TypeVar("T")
System = tuple[dict[str, bytes], dict[str, str]]  # files, links


class FileTree:
    """The files of one boot. disk: keeps what is under /var/lib; None where the system runs from memory.

    `system_version` grows with every change of a file that describes the machine.
    """

    def __init__(self, files: dict[str, bytes], links: dict[str, str], disk: SimulatedDisk | None = None) -> None:
        self.system_version = 0
        self._files = files
        self._links = links
        self._disk = disk

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""
        if self._disk is not None and path.startswith("/var/lib/"):
            return self._disk.files.get(path)
        return self._files.get(self._links_resolved(path))

    def target(self, path: str) -> str | None:
        """Where a link leads; None where there is none."""
        return self._links.get(path)

    def write(self, path: str, data: bytes) -> None:
        if self._disk is not None and path.startswith("/var/lib/"):
            self._disk.files[path] = data
            return
        self._files[path] = data
        if not path.startswith(RUNTIME_FILES):
            self.system_version += 1

    def retell(self, before: System, after: System) -> None:
        """Change what the made-up system says as `before` changed to `after`; what was written since stays."""
        _retell(self._files, before[0], after[0])
        _retell(self._links, before[1], after[1])
        self.system_version += 1

    def remove(self, path: str) -> None:
        """Quiet where there is no such file."""
        self._files.pop(path, None)

    def names(self, path: str) -> tuple[str, ...] | None:
        """The names in a folder; None where there is none. Folders follow from the paths of what is in them."""
        start = self._links_resolved(path).rstrip("/") + "/"
        inside = [entry for entry in (*self._files, *self._links) if entry.startswith(start)]
        return tuple(sorted({entry[len(start) :].partition("/")[0] for entry in inside})) or None

    def _links_resolved(self, path: str) -> str:
        """The path with links followed, as the kernel would."""
        if path in self._files or not self._links:
            return path
        parts = path.strip("/").split("/")
        seen = ""
        for index, part in enumerate(parts):
            seen += f"/{part}"
            target = self._links.get(seen)
            if target is not None:
                base = target if target.startswith("/") else normal(f"{seen.rsplit('/', 1)[0]}/{target}")
                return self._links_resolved("/".join([base, *parts[index + 1 :]]))
        return path


def _retell(present: dict[str, T], before: dict[str, T], after: dict[str, T]) -> None:
    for path in before.keys() - after.keys():
        present.pop(path, None)
    present |= {path: told for path, told in after.items() if before.get(path) != told}


def normal(path: str) -> str:
    """The path without `.`, `..` and empty parts, from the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
