"""Shows what a discovery ISO holds: ours, the image service's, or a bare RHCOS live image.

Works on the paths of the RHCOS layout and mounts nothing. The Ignition carries a pull secret and tokens; they are
masked unless somebody asks for them.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes

from labsim.discovery.embed import KARGS_INFO_PATH, EmbedError, ignition_area
from labsim.errors import LabError, UsageError
from labsim.guest import cpio
from labsim.guest.iso9660 import IsoReader, NotAnIso

MASK = "***"
COREISO_OFFSET = 32744  # the last 24 bytes of the system area: magic, offset, length
COREISO_MAGIC = b"coreiso+"
CONFIG_PATHS = ("/isolinux/isolinux.cfg", "/EFI/redhat/grub.cfg", "/EFI/fedora/grub.cfg")
_APPEND_LINE = re.compile(r"^\s*(?:append|linux(?:efi)?\s+\S+)\s+(.*)$", re.MULTILINE | re.IGNORECASE)
_TOKENS = re.compile(r"(?i)((?:PULL_SECRET_TOKEN|api_key|token|password|secret)[\"']?\s*[=:]\s*[\"']?)([^\s\"'&,}]+)")
_BEARER = re.compile(r"(?i)(bearer\s+|basic\s+)([A-Za-z0-9._~+/=-]{8,})")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SECRET_PATHS = ("/root/.docker/config.json", "/.dockerconfigjson", "/var/lib/kubelet/config.json")
_SECRET_KEYS = frozenset({"auth", "password", "passwordhash", "token", "secret", "identitytoken"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmbedAreaView:
    """Where the Ignition lies: bytes from the start of the image, and how much of it is used."""

    offset: int
    length: int
    used: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IsoView:
    """What an ISO holds. `ignition` is None where nothing is embedded; its secrets are masked unless asked for."""

    path: Path
    volume_id: str
    size_bytes: int
    kind: str  # full-iso or minimal-iso
    hybrid: bool  # has a boot sector, so it starts as a disk too
    ignition_area: EmbedAreaView | None
    ignition: Any
    kernel_arguments: tuple[str, ...]  # of the boot entry
    extra_kernel_arguments: tuple[str, ...]  # embedded behind it
    rootfs_url: str
    coreiso_header: tuple[int, int] | None  # (offset, length), the older way to point at the area
    boot_files: dict[str, int]  # sizes of kernel, initrd, rootfs

    def as_document(self) -> dict[str, Any]:
        """The view as JSON values: texts, numbers, lists and mappings only."""
        document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return document


def inspect_iso(path: Path, *, show_secrets: bool = False) -> IsoView:
    """Read an ISO. Raises UsageError where the file is missing or no ISO."""
    with _open(path) as file:
        iso = _reader(path, file)
        ignition, area = _ignition(iso, file)
        config = _boot_config(iso)
        arguments = _boot_arguments(config)
        return IsoView(
            path=path,
            volume_id=iso.volume_id,
            size_bytes=os.fstat(file.fileno()).st_size,
            kind="full-iso" if iso.has("/images/pxeboot/rootfs.img") else "minimal-iso",
            hybrid=os.pread(file.fileno(), 512, 0)[510:512] == b"\x55\xaa",
            ignition_area=area,
            ignition=_ignition_document(ignition, show_secrets=show_secrets),
            kernel_arguments=arguments,
            extra_kernel_arguments=_embedded_arguments(iso),
            rootfs_url=next((a.partition("=")[2] for a in arguments if a.startswith("coreos.live.rootfs_url=")), ""),
            coreiso_header=_coreiso_header(file),
            boot_files={
                name: iso.find(f"/images/pxeboot/{name}").length
                for name in ("vmlinuz", "initrd.img", "rootfs.img")
                if iso.has(f"/images/pxeboot/{name}")
            },
        )


def read_ignition(path: Path) -> bytes:
    """The Ignition in an ISO, as it is. Raises LabError where there is none."""
    with _open(path) as file:
        ignition, _ = _ignition(_reader(path, file), file)
    if ignition is None:
        raise LabError(f"{path} carries no Ignition", hint="download it from the InfraEnv's isoDownloadURL")
    return ignition


def mask_secrets(ignition: Any) -> Any:
    """A copy of an Ignition document with pull secrets, tokens and password hashes replaced by ***."""
    return _mask(ignition, secret=False)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="name a discovery ISO") from error


def _reader(path: Path, file: BinaryIO) -> IsoReader:
    try:
        return IsoReader(lambda offset, length: os.pread(file.fileno(), length, offset))
    except NotAnIso as error:
        raise UsageError(f"{path} is not an ISO image: {error}", hint="name a discovery ISO") from error


def _ignition(iso: IsoReader, file: BinaryIO) -> tuple[bytes | None, EmbedAreaView | None]:
    try:
        area = ignition_area(iso)
    except EmbedError:
        header = _coreiso_header(file)
        if header is None:
            return None, None
        offset, length = header
    else:
        offset, length = area.offset, area.length
    content = os.pread(file.fileno(), length, offset)
    try:
        ignition = cpio.ignition_of_area(content)
    except ValueError as error:
        raise LabError(f"the Ignition area holds something else: {error}") from error
    return ignition, EmbedAreaView(offset=offset, length=length, used=len(content.rstrip(b"\0")))


def _ignition_document(ignition: bytes | None, *, show_secrets: bool) -> Any:
    if ignition is None:
        return None
    try:
        document = json.loads(ignition)
    except ValueError as error:
        raise LabError(f"the embedded Ignition is not JSON: {error}") from error
    return document if show_secrets else mask_secrets(document)


def _coreiso_header(file: BinaryIO) -> tuple[int, int] | None:
    header = os.pread(file.fileno(), 24, COREISO_OFFSET)
    if not header.startswith(COREISO_MAGIC) or len(header) < 24:
        return None
    offset, length = struct.unpack("<QQ", header[8:])
    return int(offset), int(length)


def _boot_config(iso: IsoReader) -> str:
    for path in CONFIG_PATHS:
        if iso.has(path):
            return iso.read(path).decode(errors="replace")
    return ""


def _boot_arguments(config: str) -> tuple[str, ...]:
    match = _APPEND_LINE.search(config)
    return tuple(match.group(1).split()) if match else ()


def _embedded_arguments(iso: IsoReader) -> tuple[str, ...]:
    """What was added to the default arguments that kargs.json states; () where the image states none."""
    if not iso.has(KARGS_INFO_PATH):
        return ()
    info = json.loads(iso.read(KARGS_INFO_PATH))
    for file in info.get("files", []):
        if "path" not in file or "offset" not in file or not iso.has(file["path"]):
            continue
        start = int(file["offset"])
        area = iso.read(file["path"])[start : start + int(info.get("size", 0))].decode(errors="replace")
        line = area.split("\n")[0].rstrip("#").strip()
        return tuple(line.removeprefix(str(info.get("default", ""))).split())
    return ()


def _mask(value: Any, *, secret: bool) -> Any:
    if isinstance(value, dict):
        hidden = secret or str(value.get("path", "")) in _SECRET_PATHS
        return {
            key: MASK if str(key).lower() in _SECRET_KEYS and item else _mask(item, secret=hidden)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_mask(item, secret=secret) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("data:"):
        return _mask_data_url(value, secret=secret)
    return _mask_text(value)


def _mask_text(text: str) -> str:
    return _BEARER.sub(rf"\1{MASK}", _TOKENS.sub(rf"\1{MASK}", _JWT.sub(MASK, text)))


def _mask_data_url(url: str, *, secret: bool) -> str:
    if secret:
        return f"data:,{MASK}"
    head, _, body = url[len("data:") :].partition(",")
    raw = unquote_to_bytes(body)
    if head.endswith(";base64"):
        try:
            raw = base64.b64decode(raw, validate=True)
        except binascii.Error:
            return url
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return url  # compressed or binary content: no text to look for secrets in
    masked = _mask_text(text)
    return url if masked == text else f"data:,{quote(masked)}"
