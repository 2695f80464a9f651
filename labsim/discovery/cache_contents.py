"""What a user's ISO cache holds, downloaded images and base images that were built, and how it is kept small."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labsim.discovery.iso_cache import CachedFile, IsoCache, used_last_first
from labsim.errors import system_errors

DOWNLOADS = "iso"  # the folder of downloaded images in the cache
BASE_IMAGE = "base image"


def cached_files(root: Path) -> list[CachedFile]:
    """Last used first."""
    with system_errors(f"looking into {root}"):
        found = IsoCache(root / DOWNLOADS).files()
        for path in root.glob("base-*.iso"):
            status = path.stat()
            used_s = max(status.st_mtime, status.st_atime)
            found.append(CachedFile(path=path, kind=BASE_IMAGE, size_bytes=status.st_size, used_s=used_s))
    return sorted(found, key=used_last_first)


def prune(root: Path, limit_bytes: int, *, keep: Iterable[Path] = ()) -> list[CachedFile]:
    """Remove what was used longest ago, until the rest is not more than `limit_bytes`; answer what was removed.

    A download that goes on, and what `keep` names, stays. A lab has its images by links of its own: they stay there."""
    files, kept, removed = cached_files(root), set(keep), []
    size = sum(file.size_bytes for file in files)
    for file in reversed(files):
        if size <= limit_bytes:
            break
        if file.path not in kept and _remove(root, file):
            removed.append(file)
            size -= file.size_bytes
    return removed


def _remove(root: Path, file: CachedFile) -> bool:
    if file.kind == BASE_IMAGE:
        with system_errors(f"removing {file.path}"):
            file.path.unlink(missing_ok=True)
            file.path.with_name(f"{file.path.name}.lock").unlink(missing_ok=True)
        return True
    return IsoCache(root / DOWNLOADS).remove(file)
