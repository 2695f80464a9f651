"""The bootable discovery ISO, built once per set of inputs and kept in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from labsim.discovery.base_image import BaseImage
from labsim.discovery.compression import gzip_fixed
from labsim.discovery.initramfs import build_initramfs, inputs_digest
from labsim.discovery.iso import IsoContent, write_bootable_iso
from labsim.discovery.kernel import KernelFiles, find_kernel
from labsim.edge_time import real_s
from labsim.errors import LabError, system_errors

# Measured under software emulation, QEMU start to the guest's program: none 6.6 s, zstd 6.8 s, gzip 6.0 s, lz4 5.8 s.
# gzip needs no program here or there, and the initrd is downloaded by machines that are reclaimed.
GZIP_LEVEL = 1


def bootable_base_image(
    cache: Path,
    *,
    kernel: Path | None = None,
    modules: Path | None = None,
    python: Path | None = None,
    version: str = "labsim",
    rootfs_url: str = "",
    needs: tuple[str, ...] = (),
) -> BaseImage:
    """The bootable image for these inputs, from the cache where it was made before (some seconds otherwise).

    Raises LabError where a package is missing, no kernel has the drivers in `needs`, or the disk is full. Two processes
    that want the same one wait for each other. `rootfs_url` makes it a minimal ISO.
    """
    files = find_kernel(kernel, modules, needs)
    identity = f"{inputs_digest(files, python)} {version} {rootfs_url}"
    path = cache / f"base-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.iso"
    try:
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with _only_one(cache / f"{path.name}.lock"):
                if not path.exists():
                    _build(path, files, python, version, rootfs_url)
        os.utime(path, (real_s(), path.stat().st_mtime))  # used now: a prune takes what was used longest ago
    except OSError as error:
        hint = "is there space left on the disk, and may you write there?"
        raise LabError(f"cannot make {path}: {error.strerror or error}", hint=hint) from error
    return BaseImage(path=path, version=version)


def build_iso(
    target: Path,
    *,
    cache: Path,
    kernel: Path | None = None,
    modules: Path | None = None,
    python: Path | None = None,
    version: str = "labsim",
    ignition: bytes = b"",
) -> BaseImage:
    """Write a bootable ISO to `target`, with an Ignition in it where one is given."""
    base = bootable_base_image(cache, kernel=kernel, modules=modules, python=python, version=version)
    with system_errors(f"writing {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        base.overlay(ignition).write_to(target)
    return BaseImage(path=target, version=version)


def _build(path: Path, files: KernelFiles, python: Path | None, version: str, rootfs_url: str) -> None:
    content = IsoContent(
        kernel=files.kernel.read_bytes(),
        initrd=gzip_fixed(build_initramfs(files, python=python), GZIP_LEVEL),
        version=version,
        rootfs_url=rootfs_url,
    )
    write_bootable_iso(path, content)


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    fileno = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fileno, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fileno)
