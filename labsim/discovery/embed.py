"""Puts an Ignition and kernel arguments into a discovery ISO of unchanged size, the way the image service does.

The Ignition becomes a gzip'd cpio archive with one file `config.ign` in the area that `/coreos/igninfo.json` names
(without it: the whole of `/images/ignition.img`); the rest of the area is zeros. Kernel arguments replace the padding
before `# COREOS_KARG_EMBED_AREA` in each file that `/coreos/kargs.json` lists. Both are small patches over a base image
on disk, so an ISO is served, Range by Range, from the base file and never held in memory (facts: CIM resources, 4.2).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from labsim.discovery.compression import gzip_fixed
from labsim.errors import LabsimError
from labsim.guest import cpio
from labsim.guest.iso9660 import IsoReader

IGNITION_AREA_BYTES = 256 * 1024
IGNITION_INFO_PATH = "/coreos/igninfo.json"
IGNITION_IMAGE_PATH = "/images/ignition.img"
RAMDISK_IMAGE_PATH = "/images/assisted_installer_custom.img"
KARGS_INFO_PATH = "/coreos/kargs.json"
KARGS_FALLBACK_PATHS = ("/EFI/redhat/grub.cfg", "/isolinux/isolinux.cfg")
KARGS_AREA = re.compile(rb"(\n#*)# COREOS_KARG_EMBED_AREA")
CHUNK_BYTES = 256 * 1024


class EmbedError(LabsimError):
    """The ISO has no place for what is to be embedded, or too little. The image service answers 500 with this text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Area:
    """A part of the image that may be overwritten, in bytes from its start."""

    offset: int
    length: int


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Where an image can be changed. `ramdisk` is there on minimal images only."""

    size_bytes: int
    ignition: Area
    kernel_arguments: tuple[Area, ...]
    ramdisk: Area | None


def layout_of(base: Path) -> Layout:
    """The embed areas of an image, read once per file version. Raises EmbedError, or NotAnIso (a ValueError)."""
    status = base.stat()
    return _layout(base, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _layout(base: Path, size_bytes: int, _mtime_ns: int) -> Layout:
    with base.open("rb") as file:
        iso = IsoReader(lambda offset, length: os.pread(file.fileno(), length, offset))
        ramdisk = None
        if iso.has(RAMDISK_IMAGE_PATH):
            extent = iso.find(RAMDISK_IMAGE_PATH)
            ramdisk = Area(extent.offset, extent.length)
        return Layout(size_bytes, ignition_area(iso), kernel_argument_areas(iso), ramdisk)


def ignition_area(iso: IsoReader) -> Area:
    """The area that igninfo.json names, or the whole of ignition.img where there is no such file."""
    path, offset, length = IGNITION_IMAGE_PATH, 0, 0
    if iso.has(IGNITION_INFO_PATH):
        info = json.loads(iso.read(IGNITION_INFO_PATH))
        path, offset, length = info.get("file", path), int(info.get("offset", 0)), int(info.get("length", 0))
    try:
        extent = iso.find(path)
    except FileNotFoundError as error:
        raise EmbedError(f"the image has no Ignition area: {error}") from error
    if offset + length > extent.length:
        raise EmbedError(f"the Ignition area lies outside {path}")
    return Area(extent.offset + offset, length or extent.length - offset)


def kernel_argument_areas(iso: IsoReader) -> tuple[Area, ...]:
    """The padding in each boot loader file. A file of the fallback list that does not exist is left out."""
    if iso.has(KARGS_INFO_PATH):
        listed = json.loads(iso.read(KARGS_INFO_PATH)).get("files", [])
        paths = [str(file["path"]) for file in listed if file.get("path")]
    else:
        paths = [path for path in KARGS_FALLBACK_PATHS if iso.has(path)]
    areas = []
    for path in paths:
        match = KARGS_AREA.search(iso.read(path))
        if match is not None:
            areas.append(Area(iso.find(path).offset + match.start(1), match.end(1) - match.start(1)))
    return tuple(areas)


def ignition_archive(ignition: bytes) -> bytes:
    """`config.ign` as the image service packs it: cpio, gzip, zeros up to a multiple of four bytes."""
    return cpio.pad4(gzip_fixed(cpio.archive([cpio.plain_file(cpio.IGNITION_NAME, ignition)])))


def ignition_in_initrd(initrd: bytes) -> bytes:
    """The discovery Ignition that a pxe-initrd carries behind the base initrd. Raises EmbedError without one."""
    ignition = cpio.ignition_of_initrd(initrd)
    if ignition is None:
        raise EmbedError("the initrd carries no archive with config.ign")
    return ignition


class IsoOverlay:
    """A base image with patches over it. Reads any range; holds the patches in memory and nothing else."""

    def __init__(self, base: Path, ignition: bytes, kernel_arguments: Sequence[str] = (), ramdisk: bytes = b"") -> None:
        layout = layout_of(base)
        self.base = base
        self.size_bytes = layout.size_bytes
        self._patches = [_ignition_patch(layout, ignition)]
        if kernel_arguments:
            self._patches += _kernel_argument_patches(layout, kernel_arguments)
        if ramdisk:
            if layout.ramdisk is None:
                raise EmbedError("the image has no area for a ramdisk: it is a full ISO")
            self._patches.append(_checked(layout.ramdisk, ramdisk))

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end` (None: the end), in chunks of at most CHUNK_BYTES."""
        position = start
        limit = self.size_bytes if end is None else min(end, self.size_bytes)
        with self.base.open("rb") as file:
            while position < limit:
                data = os.pread(file.fileno(), min(CHUNK_BYTES, limit - position), position)
                if not data:
                    raise EmbedError(f"{self.base} became shorter while it was read")
                yield self._patched(position, data)
                position += len(data)

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """A range in one piece."""
        return b"".join(self.chunks(start, None if length is None else start + length))

    def write_to(self, target: Path) -> None:
        """Write the whole image; the file appears under its name only when it is complete."""
        partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
        try:
            with partial.open("wb") as file:
                for chunk in self.chunks():
                    file.write(chunk)
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _patched(self, position: int, data: bytes) -> bytes:
        for offset, patch in self._patches:
            first, last = max(offset, position), min(offset + len(patch), position + len(data))
            if first < last:
                data = data[: first - position] + patch[first - offset : last - offset] + data[last - position :]
        return data


def overlay_reader(
    base: Path, ignition: bytes, kernel_arguments: Sequence[str] = (), *, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """The chunks of `base` with the Ignition and the kernel arguments in it, from `start` up to `end`."""
    return IsoOverlay(base, ignition, kernel_arguments).chunks(start, end)


def embed(base: Path, target: Path, ignition: bytes, kernel_arguments: Sequence[str] = ()) -> None:
    """Write a copy of `base` with the Ignition and the kernel arguments in it."""
    IsoOverlay(base, ignition, kernel_arguments).write_to(target)


def _ignition_patch(layout: Layout, ignition: bytes) -> tuple[int, bytes]:
    return _checked(layout.ignition, ignition_archive(ignition) if ignition else b"")


def _checked(area: Area, content: bytes) -> tuple[int, bytes]:
    """The content with zeros up to the end of its area, so that nothing of an earlier embedding stays behind."""
    if len(content) > area.length:
        raise EmbedError(
            f"content length ({len(content)}) exceeds embed area size ({area.length})",
            hint="shorten the Ignition: its compressed archive must fit into the area that the ISO reserves",
        )
    return area.offset, content + b"\0" * (area.length - len(content))


def _kernel_argument_patches(layout: Layout, arguments: Sequence[str]) -> list[tuple[int, bytes]]:
    """` a b` and a line end over the first bytes of each area; the padding behind stays, as upstream leaves it."""
    if not layout.kernel_arguments:
        raise EmbedError("failed to find COREOS_KARG_EMBED_AREA")
    content = f" {' '.join(arguments)}\n".encode()
    for area in layout.kernel_arguments:
        if len(content) > area.length:
            raise EmbedError(f"content length ({len(content)}) exceeds embed area size ({area.length})")
    return [(area.offset, content) for area in layout.kernel_arguments]
