"""The base image that a CIM serves: the ISO that discovery ISOs are overlaid on, and its parts for network boot."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

from labsim.discovery.embed import IsoOverlay, ignition_archive
from labsim.discovery.iso import build_plain_iso
from labsim.errors import LabError
from labsim.guest import cpio
from labsim.guest.iso9660 import IsoReader

ARTIFACT_PATHS = {
    "kernel": "/images/pxeboot/vmlinuz",
    "initrd": "/images/pxeboot/initrd.img",
    "rootfs": "/images/pxeboot/rootfs.img",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """An ISO without an Ignition, bootable or plain. `version` is the operating system's build."""

    path: Path
    arch: str = "x86_64"
    version: str = "labsim"

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def overlay(self, ignition: bytes, kernel_arguments: Sequence[str] = (), ramdisk: bytes = b"") -> IsoOverlay:
        """The image with an Ignition in it, readable by range. Raises EmbedError where it does not fit."""
        return IsoOverlay(self.path, ignition, kernel_arguments, ramdisk)

    def artifact(self, name: str) -> bytes:
        """`kernel`, `initrd` or `rootfs` of the image: what /boot-artifacts serves. Raises FileNotFoundError."""
        path = ARTIFACT_PATHS.get(name)
        if path is None:
            raise FileNotFoundError(f"no boot artifact {name!r}; there are {', '.join(ARTIFACT_PATHS)}")
        status = self.path.stat()
        return _read(self.path, status.st_mtime_ns, path)

    def pxe_initrd(self, ignition: bytes) -> bytes:
        """The base initrd with the Ignition's archive behind it: what pxe-initrd serves."""
        return cpio.pad4(self.artifact("initrd")) + ignition_archive(ignition)


@functools.lru_cache(maxsize=4)
def _read(image: Path, _mtime_ns: int, path: str) -> bytes:
    with image.open("rb") as file:
        return IsoReader(lambda offset, length: os.pread(file.fileno(), length, offset)).read(path, 256 << 20)


def plain_base_image(folder: Path, *, version: str = "labsim", arch: str = "x86_64") -> BaseImage:
    """The base image for simulated machines, made in `folder` where it is not there yet."""
    path = folder / f"base-plain-{version}-{arch}.iso"
    if not path.exists():
        try:
            build_plain_iso(path, version=version, arch=arch)
        except OSError as error:
            raise LabError(f"cannot write {path}: {error.strerror}", hint="is there space left on the disk?") from error
    return BaseImage(path=path, arch=arch, version=version)
