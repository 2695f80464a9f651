"""The files of one lab's machines: a directory for each, with sparse disks and the console. Marked as the lab's."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from labsim.errors import LabError
from labsim.machines.driver import DiskSpec, MachineSpec
from labsim.machines.libvirt.errors import from_os
from labsim.machines.marked_folder import delete_marked_folder

COPY_BYTES = 1 << 20
MARK_FILE = "labsim-mark"
CONSOLE_FILE = "console.log"
SNAPSHOTS = "snapshots"
NVRAM_FILE = "nvram.fd"  # UEFI's variables; the hypervisor makes it from its template at the first start


class MachineFiles:
    """Directory `<folder>/machines/<name>`; `mark` says whose it is."""

    def __init__(self, folder: Path, mark: str) -> None:
        self._root = folder.resolve() / "machines"
        self._mark = mark

    def directory(self, name: str) -> Path:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
            raise LabError(f"{name!r} cannot be a machine's name", hint="lower-case letters, digits, '-' and '.'")
        return self._root / name

    def console(self, name: str) -> Path:
        return self.directory(name) / CONSOLE_FILE

    def nvram(self, name: str) -> Path:
        return self.directory(name) / NVRAM_FILE

    def disks(self, spec: MachineSpec) -> list[Path]:
        return [self.directory(spec.name) / f"{disk.name}.raw" for disk in spec.disks]

    def make(self, spec: MachineSpec) -> None:
        """The directory and the disks exist. Contents are kept; a disk may grow and never shrinks."""
        directory = self.directory(spec.name)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / MARK_FILE).write_text(self._mark + "\n")
            self.console(spec.name).touch()
            for disk, path in zip(spec.disks, self.disks(spec), strict=True):
                _make_disk(path, disk.size_bytes)
        except OSError as error:
            raise from_os(error, f"making the files of machine {spec.name!r}") from error

    def make_disk(self, name: str, disk: DiskSpec) -> None:
        """The file of a disk that is plugged in; contents of an earlier one of that name are kept."""
        try:
            _make_disk(self.directory(name) / f"{disk.name}.raw", disk.size_bytes)
        except OSError as error:
            raise from_os(error, f"making disk {disk.name!r} of machine {name!r}") from error

    def snapshots(self, name: str) -> tuple[str, ...]:
        folder = self.directory(name) / SNAPSHOTS
        names = os.listdir(folder) if folder.is_dir() else []
        return tuple(sorted(name for name in names if not name.startswith(".")))

    def keep(self, name: str, snapshot: str) -> None:
        """Copy disks and UEFI's variables; the snapshot is there only when it is complete."""
        directory = self.directory(name)
        target, partial = directory / SNAPSHOTS / snapshot, directory / SNAPSHOTS / f".{snapshot}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for file in _state_files(directory):
                copy_sparse(file, partial / file.name)
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise from_os(error, f"keeping snapshot {snapshot!r} of machine {name!r}") from error

    def bring_back(self, name: str, snapshot: str) -> None:
        """Disks and UEFI's variables as they were; what came later is left alone."""
        directory = self.directory(name)
        try:
            for file in _state_files(directory / SNAPSHOTS / snapshot):
                partial = directory / f"{file.name}.partial"
                copy_sparse(file, partial)
                partial.replace(directory / file.name)
        except OSError as error:
            raise from_os(error, f"going back to snapshot {snapshot!r} of machine {name!r}") from error

    def console_bytes(self, name: str) -> bytes:
        """All that the serial port wrote, oldest first: virtlogd moves a long log to console.log.0, .1 and so on."""
        console = self.console(name)
        parts = sorted(console.parent.glob(CONSOLE_FILE + ".[0-9]"), reverse=True)
        try:
            return b"".join(part.read_bytes() for part in (*parts, console) if part.exists())
        except OSError as error:
            raise from_os(error, f"reading the console of machine {name!r}") from error


def _state_files(folder: Path) -> list[Path]:
    variables = folder / NVRAM_FILE
    return [*sorted(folder.glob("*.raw")), *([variables] if variables.exists() else [])]


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes: a disk of 120 GiB takes the room of what was written on it."""
    with source.open("rb") as read, target.open("wb") as written:
        size = os.fstat(read.fileno()).st_size
        os.fchmod(written.fileno(), os.fstat(read.fileno()).st_mode & 0o777)
        written.truncate(size)
        position = 0
        while position < size:
            try:
                start = os.lseek(read.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                    break
                raise
            position = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            while start < position:
                data = os.pread(read.fileno(), min(COPY_BYTES, position - start), start)
                if not data:
                    break
                start += os.pwrite(written.fileno(), data, start)


def _make_disk(path: Path, size_bytes: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        present = os.fstat(descriptor).st_size
        if present > size_bytes:
            raise LabError(
                f"disk {path.name} of machine {path.parent.name!r} would shrink from {present} to {size_bytes} bytes",
                hint="remove the machine first: its disk's contents cannot be kept",
            )
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def remove_directory(directory: Path, mark: str) -> None:
    """Delete a machine's directory if it carries `mark`; one that a crash left without a mark must be empty."""
    if directory.is_symlink():
        raise LabError(f"{directory} is a link, not a machine's directory", hint="look at it, and remove it yourself")
    if not directory.exists():
        return
    try:
        marked = directory / MARK_FILE
        text = marked.read_text().strip() if marked.exists() else ""
        if text == mark:
            delete_marked_folder(directory, MARK_FILE)
        elif text == "":
            _remove_unmarked(directory)
        else:
            raise LabError(f"{directory} belongs to {text!r}, not to {mark!r}", hint="nothing was deleted")
    except OSError as error:
        raise from_os(error, f"deleting {directory}") from error


def _remove_unmarked(directory: Path) -> None:
    """Between mkdir and the written mark a crash leaves nothing, or an empty mark file."""
    strangers = [child.name for child in directory.iterdir() if child.name != MARK_FILE]
    if strangers:
        raise LabError(
            f"{directory} carries no mark and holds {strangers[0]!r}", hint="look at it, and remove it yourself"
        )
    delete_marked_folder(directory, MARK_FILE)
