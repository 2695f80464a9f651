"""Downloaded discovery ISOs, kept by content: a second boot of an unchanged image transfers nothing.

In the folder: `sha256-<digest>.iso` (read-only, complete, checked), and for each URL, which is told by its hash because
there is a token in it, `<key>.json`: which content it had, and which version the server called it; `<key>.part` is a
download that goes on. Files get their names when they are whole (rename), and whoever downloads a URL holds the lock of
its part, so labs that want the same image wait for one download. A lab gets a link (a copy on another disk) of its own:
what is pruned here is still there for it.

No server says what digest an image has. What is checked is that as many bytes came as were promised, that the image is
as long as its own volume descriptor says, and, before each boot, that it still has the digest that it was kept with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from labsim.discovery.download import Version, forget_part, shown_url
from labsim.edge_time import real_s
from labsim.errors import LabError, system_errors
from labsim.guest.iso9660 import IsoReader, NotAnIso

CHUNK_BYTES = 1 << 20
# Up to this size an image is read whole before each boot (0.2 s). A larger one only where its file was touched since it
# was read last: the time of its last change cannot be set back by whoever changes it.
ALWAYS_READ_BYTES = 256 << 20
SETTLED_S = 2.0  # a change this close to the last look could carry the same time

Bring = Callable[[Path, Version | None], Version | None]  # as `download`: into this part, unless it has this version


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a URL: its image's digest and version, how its file looked when it was last read whole."""

    url: str  # without the token
    sha256: str
    size_bytes: int
    version: Version
    stamp: tuple[int, int, int, int] = (0, 0, 0, 0)  # inode, size, times of content and of any change (ns)
    read_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """A file of the cache, for a list. `used_s`: when it was last given to somebody (epoch)."""

    path: Path
    kind: str  # image, part, or base image
    size_bytes: int
    used_s: float
    urls: tuple[str, ...] = ()


def used_last_first(file: CachedFile) -> tuple[float, Path]:
    """The order of a list."""
    return -file.used_s, file.path


class IsoCache:
    """The images in one folder. Any number of processes may use it at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bring(self, url: str, into: Path, bring: Bring) -> Path:
        """The image of `url` as a file in `into`, checked; `bring` is asked for what is not here.

        Raises LabError: what `bring` raises, and where what came is no whole ISO or cannot be stored.
        """
        key = _key(url)
        with system_errors(f"keeping the discovery ISO in {self._folder}"):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            into.mkdir(parents=True, exist_ok=True)
            with _locked(self._folder / f"{key}.part") as part:
                assert part is not None, "it waits"
                known = self._checked(key)
                version = bring(part, known.version if known else None)
                if known is not None and version is None:
                    with contextlib.suppress(FileNotFoundError):  # removed by a prune at this very moment
                        return self._given(key, known, into)
                    version = bring(part, None)
                if version is None:
                    raise LabError(f"{shown_url(url)} has not changed, and is not here", hint="try again")
                return self._given(key, self._keep(key, part, shown_url(url), version), into)

    def kept(self, url: str, into: Path) -> Path | None:
        """The image that `url` had, without asking anybody; None where it is not here, or is not what it was."""
        with system_errors(f"keeping the discovery ISO in {self._folder}"):
            key = _key(url)
            if not self._record_path(key).exists():
                return None
            with _locked(self._folder / f"{key}.part"), contextlib.suppress(FileNotFoundError):
                known = self._checked(key)
                return None if known is None else self._given(key, known, into)
        return None

    def files(self) -> list[CachedFile]:
        """What is in the cache, last used first."""
        urls: dict[str, list[str]] = {}
        used: dict[str, float] = {}
        found = []
        for path in self._paths("*.json"):
            record = _read_record(path)
            if record is not None:
                urls.setdefault(record.sha256, []).append(record.url)
                used[record.sha256] = max(used.get(record.sha256, 0.0), path.stat().st_mtime)
        for path in self._paths("sha256-*.iso"):
            sha256, status = path.stem.removeprefix("sha256-"), path.stat()
            known = tuple(sorted(set(urls.get(sha256, ()))))
            last = used.get(sha256, status.st_mtime)
            found.append(CachedFile(path=path, kind="image", size_bytes=status.st_size, used_s=last, urls=known))
        for path in self._paths("*.part"):
            status = path.stat()
            found.append(CachedFile(path=path, kind="part", size_bytes=status.st_size, used_s=status.st_mtime))
        return sorted(found, key=used_last_first)

    def remove(self, file: CachedFile) -> bool:
        """Remove a file that `files` listed, with what is known of it; False where somebody downloads into it now."""
        with system_errors(f"removing {file.path}"):
            if file.kind == "part":
                with _locked(file.path, wait=False) as part:
                    if part is None:
                        return False
                    forget_part(part)
                return True
            file.path.unlink(missing_ok=True)
            sha256 = file.path.stem.removeprefix("sha256-")
            for path in self._paths("*.json"):
                record = _read_record(path)
                if record is not None and record.sha256 == sha256:
                    path.unlink(missing_ok=True)
            return True

    def _paths(self, pattern: str) -> list[Path]:
        return [path for path in sorted(self._folder.glob(pattern)) if path.is_file()]

    def _record_path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _image_path(self, sha256: str) -> Path:
        return self._folder / f"sha256-{sha256}.iso"

    def _checked(self, key: str) -> Record | None:
        """What is known of a URL, if its image is here and is what it was. An image that is not is removed."""
        record = _read_record(self._record_path(key))
        if record is None:
            return None
        path = self._image_path(record.sha256)
        try:
            looked = look(path, record)
        except FileNotFoundError:
            return None
        if looked is None:
            path.unlink(missing_ok=True)
            self._record_path(key).unlink(missing_ok=True)
            return None
        if looked != record:
            self._write_record(key, looked)
        return looked

    def _keep(self, key: str, part: Path, url: str, version: Version) -> Record:
        """Check what came, and give it its name."""
        try:
            must_be_whole(part)
        except LabError:
            forget_part(part)
            raise
        sha256 = _digest(part)
        part.chmod(0o444)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        record = Record(url=url, sha256=sha256, size_bytes=part.stat().st_size, version=version)
        part.rename(self._image_path(sha256))
        self._write_record(key, record)
        return record

    def _write_record(self, key: str, record: Record) -> None:
        target = self._record_path(key)
        temporary = target.with_name(f"{target.name}.new")  # under the lock of its part: nobody else writes it
        temporary.write_bytes(orjson.dumps(dataclasses.asdict(record)))
        temporary.replace(target)

    def _given(self, key: str, record: Record, into: Path) -> Path:
        """A file of the caller's own, never half of one, with the content that it is named after."""
        path, target = self._image_path(record.sha256), into / f"sha256-{record.sha256}.iso"
        os.utime(self._record_path(key))  # used now
        if target == path or (target.exists() and (target.samefile(path) or _digest(target) == record.sha256)):
            return target
        own_file(path, target)
        if not target.samefile(path) and _digest(target) != record.sha256:
            target.unlink()
            raise LabError(f"{path} changed while it was copied", hint="try again")
        return target


def own_file(path: Path, target: Path) -> None:
    """`target` is another name of the file at `path`, or a copy of it on another disk; never half of one."""
    temporary = target.with_name(f"{target.name}.new-{os.getpid()}")
    try:
        try:
            os.link(path, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def look(path: Path, record: Record) -> Record | None:
    """The record, brought up to date, if the file still is what it says; None if not. Raises FileNotFoundError."""
    status = path.stat()
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    is_untouched = stamp == record.stamp and record.read_s - status.st_ctime >= SETTLED_S
    if is_untouched and status.st_size > ALWAYS_READ_BYTES:
        return record
    now_s = real_s()
    if status.st_size != record.size_bytes or _digest(path) != record.sha256:
        return None
    if status.st_size <= ALWAYS_READ_BYTES:
        return record
    return dataclasses.replace(record, stamp=stamp, read_s=now_s)


def must_be_whole(path: Path) -> None:
    """Raises LabError for a file that is no ISO, or is shorter than its own volume descriptor says."""
    with path.open("rb") as file:
        try:
            described = IsoReader(lambda offset, length: os.pread(file.fileno(), length, offset)).size_bytes
        except NotAnIso as error:
            raise LabError(
                f"what came is no ISO: {error}", hint="does a proxy or a login page answer there?"
            ) from error
    size = path.stat().st_size
    if size < described:
        raise LabError(
            f"the image is truncated: {size} bytes came, and its volume has {described}",
            hint="the server gave a length that is not the image's; try again, or look at its log",
        )


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:32]


def _read_record(path: Path) -> Record | None:
    try:
        fields = orjson.loads(path.read_bytes())
        fields["version"], fields["stamp"] = Version(**fields["version"]), tuple(fields["stamp"])
        return Record(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[Path | None]:
    """The file, made where it is missing, held against every other process that does the same; None where another one
    has it and it is not waited for. Its name may be taken off it meanwhile; an empty one goes at the end."""
    fileno = -1
    while fileno < 0:
        fileno = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fileno, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fileno)
            yield None
            return
        if not _is_still(path, fileno):  # whoever had it has renamed or removed it
            os.close(fileno)
            fileno = -1
    try:
        yield path
    finally:
        if _is_still(path, fileno) and os.fstat(fileno).st_size == 0:
            path.unlink(missing_ok=True)
        os.close(fileno)


def _is_still(path: Path, fileno: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(fileno))
    return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
