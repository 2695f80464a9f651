"""Makes discovery ISOs in the layout of an RHCOS live image.

Two kinds: a bootable hybrid image (CD and disk, BIOS and UEFI) with a kernel, made by xorriso, and a plain one without,
made by pycdlib in milliseconds, for simulated machines. Both hold the same paths, so whoever embeds, inspects or
downloads does not know the difference. The same input gives the same bytes: fixed times, fixed order, no random
identifiers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import subprocess
import tempfile
import threading
import time as real_time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pycdlib
import pycdlib.dates
import pycdlib.headervd

from labsim.discovery.efi import ESP_PATH, POINTER_PATH, efi_system_partition, find_efi_loader, pointer
from labsim.discovery.embed import IGNITION_AREA_BYTES
from labsim.discovery.packages import file_of_package, program
from labsim.errors import LabError
from labsim.guest import boot_entry, cpio

ISO_TIME_S = 1_767_225_600  # 2026-01-01T00:00:00Z: the date of every file and volume
KARGS_AREA_BYTES = 1137  # what RHCOS reserves
RAMDISK_AREA_BYTES = 1 << 20
BOOT_MARKER = "labsim.boot=iso"  # a disk's copy says dsk instead, same length: labsim.guest.disk
VOLUME_ID = "labsim-discovery"
ISOLINUX_BIN = ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/share/syslinux/isolinux.bin")
ISOHYBRID_MBR = ("/usr/lib/ISOLINUX/isohdpfx.bin", "/usr/share/syslinux/isohdpfx.bin")
LDLINUX = ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "/usr/share/syslinux/ldlinux.c32")
XORRISO_TIMEOUT_S = 120

# Quick and quiet: a serial console only, no pause, and no kernel work that a lab machine has no use for.
DEFAULT_KERNEL_ARGUMENTS = (
    "console=ttyS0,115200",
    "ignition.firstboot",
    "ignition.platform.id=metal",
    "quiet",
    "loglevel=4",
    "panic=15",
    "random.trust_cpu=on",
    "mitigations=off",
    "nokaslr",
    "no_timer_check",
    "cryptomgr.notests",
    "8250.nr_uarts=1",
    "rcupdate.rcu_expedited=1",
    "reboot=k",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IsoContent:
    """What goes into an image. `rootfs_url` makes it a minimal ISO: no rootfs inside, an area for a ramdisk instead."""

    kernel: bytes
    initrd: bytes
    rootfs: bytes = b"labsim has no root file system: everything is in the initrd\n"
    version: str = "labsim"
    arch: str = "x86_64"
    rootfs_url: str = ""
    kernel_arguments: Sequence[str] = DEFAULT_KERNEL_ARGUMENTS
    volume_id: str = VOLUME_ID

    @property
    def minimal(self) -> bool:
        return bool(self.rootfs_url)


def iso_files(content: IsoContent) -> dict[str, bytes]:
    """Every file of the image by its path, boot loader apart, sorted by path."""
    config, grub = isolinux_config(content), grub_config(content)
    default = " ".join(_kernel_arguments(content))
    # The area begins with the default arguments, as coreos-installer has it.
    offsets = {"isolinux/isolinux.cfg": config.index(default.encode())}
    offsets[boot_entry.GRUB_MENU_PATH.lstrip("/")] = grub.index(boot_entry.grub_words(default).encode())
    kargs = {
        "default": default,
        "files": [{"path": path, "offset": offset, "pad": "#", "end": "\n"} for path, offset in offsets.items()],
        "size": len(default) + KARGS_AREA_BYTES,
    }
    files = {
        boot_entry.GRUB_MENU_PATH: grub,
        boot_entry.INITRD_PATH: boot_entry.RESERVED,
        boot_entry.KERNEL_PATH: boot_entry.RESERVED,
        "/coreos/features.json": _json({"installer-config": True, "live-initrd-network": True}),
        "/coreos/igninfo.json": _json({"file": "images/ignition.img"}),
        "/coreos/kargs.json": _json(kargs),
        "/images/ignition.img": b"\0" * IGNITION_AREA_BYTES,
        "/images/pxeboot/initrd.img": content.initrd,
        "/images/pxeboot/vmlinuz": content.kernel,
        "/isolinux/isolinux.cfg": config,
        "/labsim/image.json": _json({"version": content.version, "arch": content.arch}),
    }
    if content.minimal:
        files["/images/assisted_installer_custom.img"] = b"\0" * RAMDISK_AREA_BYTES
    else:
        files["/images/pxeboot/rootfs.img"] = content.rootfs
    return dict(sorted(files.items()))


def isolinux_config(content: IsoContent) -> bytes:
    """The boot menu: one entry, started at once, on screen and serial line, with the padding for kernel arguments, and
    the one that a reclaim fills in and makes the default (labsim.guest.boot_entry)."""
    arguments = [f"initrd={','.join(_initrds(content))}", BOOT_MARKER, *_kernel_arguments(content)]
    lines = [
        "serial 0 115200",
        boot_entry.default_line(),
        "prompt 0",
        "timeout 1",
        f"label {boot_entry.OWN_ENTRY}",
        "  kernel /images/pxeboot/vmlinuz",
        f"  append {' '.join(arguments)}",
        "#" * KARGS_AREA_BYTES + "# COREOS_KARG_EMBED_AREA",
        *boot_entry.menu_lines(" ".join(content.kernel_arguments)),
        "",
    ]
    return "\n".join(lines).encode()


def grub_config(content: IsoContent) -> bytes:
    """The same menu for GRUB, which starts the image under UEFI."""
    arguments = boot_entry.grub_words(" ".join([BOOT_MARKER, *_kernel_arguments(content)]))
    lines = [
        "set timeout=0",
        boot_entry.default_line(boot_entry.GRUB_MENU_PATH),
        f"menuentry {boot_entry.OWN_ENTRY} --id {boot_entry.OWN_ENTRY} {{",
        f"  linux /images/pxeboot/vmlinuz {arguments}",
        "#" * KARGS_AREA_BYTES + "# COREOS_KARG_EMBED_AREA",
        f"  initrd {' '.join(_initrds(content))}",
        "}",
        *boot_entry.grub_menu_lines(" ".join(content.kernel_arguments)),
        "",
    ]
    return "\n".join(lines).encode()


def _initrds(content: IsoContent) -> list[str]:
    custom = ["/images/assisted_installer_custom.img"] if content.minimal else []
    return ["/images/pxeboot/initrd.img", "/images/ignition.img", *custom]


def _kernel_arguments(content: IsoContent) -> list[str]:
    origin = (
        f"coreos.live.rootfs_url={content.rootfs_url}" if content.minimal else f"coreos.liveiso={content.volume_id}"
    )
    return [origin, *content.kernel_arguments]


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def build_plain_iso(target: Path, *, version: str = "labsim", arch: str = "x86_64", rootfs_url: str = "") -> Path:
    """Write an ISO of the same layout without a kernel that boots; for simulated machines. Needs no program."""
    content = IsoContent(
        kernel=b"labsim: this image is for simulated machines and holds no kernel\n",
        initrd=cpio.archive([]),
        version=version,
        arch=arch,
        rootfs_url=rootfs_url,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    with _fixed_dates():
        iso = pycdlib.PyCdlib()
        iso.new(interchange_level=3, rock_ridge="1.09", vol_ident=content.volume_id.upper(), sys_ident="LINUX")
        _fill(iso, iso_files(content))
        iso.write_fp(data)
        iso.close()
    _write_whole(target, data.getvalue())
    return target


def write_bootable_iso(target: Path, content: IsoContent) -> Path:
    """Write a hybrid ISO that machines start from CD and from disk: under a BIOS, and under UEFI where a boot loader
    for it is installed here (labsim.discovery.efi). Raises LabError where a package is missing."""
    xorriso = program("xorriso", "xorriso")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="labsim-iso-", dir=target.parent) as folder:
        tree, image = Path(folder, "tree"), Path(folder, "image.iso")
        files = iso_files(content)
        files["/isolinux/isolinux.bin"] = file_of_package(ISOLINUX_BIN, "isolinux").read_bytes()
        files["/isolinux/ldlinux.c32"] = file_of_package(LDLINUX, "syslinux-common").read_bytes()
        loader = find_efi_loader()
        if loader is not None:
            files[ESP_PATH] = efi_system_partition(loader, boot_entry.GRUB_MENU_PATH, ISO_TIME_S)
            files[POINTER_PATH] = pointer(boot_entry.GRUB_MENU_PATH)
        _lay_out(tree, files)
        mbr = file_of_package(ISOHYBRID_MBR, "isolinux")
        arguments = _mkisofs_arguments(content.volume_id, mbr, image, tree, efi=loader is not None)
        _run_xorriso([str(xorriso), *arguments])
        image.replace(target)
    return target


def _mkisofs_arguments(volume_id: str, mbr: Path, image: Path, tree: Path, *, efi: bool) -> list[str]:
    # GRUB's own partition, so that firmware finds it on a disk as well.
    second = ("-eltorito-alt-boot", "-e", ESP_PATH.lstrip("/"), "-no-emul-boot", "-isohybrid-gpt-basdat") if efi else ()
    stamp = real_time.strftime("%Y%m%d%H%M%S00", real_time.gmtime(ISO_TIME_S))
    return [
        *("-as", "mkisofs", "-quiet", "-V", volume_id, "-R", "-uid", "0", "-gid", "0", "-dir-mode", "0555"),
        *("-file-mode", "0444", f"--modification-date={stamp}", "--set_all_file_dates", f"={ISO_TIME_S}"),
        *("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
        *("-isohybrid-mbr", str(mbr), *second, "-o", str(image), str(tree)),
    ]


def _run_xorriso(command: list[str]) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(ISO_TIME_S), "TZ": "UTC", "LC_ALL": "C"}
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=XORRISO_TIMEOUT_S,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        text = error.stderr.decode(errors="replace").strip()[-2000:]
        raise LabError(f"xorriso could not make the image: {text}", hint="is there space left on the disk?") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"xorriso did not end within {XORRISO_TIMEOUT_S} s") from error


def _lay_out(tree: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        file = tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _write_whole(target: Path, data: bytes) -> None:
    """The file appears under its name only when it is complete; readers never see half of it."""
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _fill(iso: pycdlib.PyCdlib, files: Mapping[str, bytes]) -> None:
    folders: dict[str, str] = {"": ""}  # Rock Ridge path to ISO path
    for path, data in files.items():
        parent = ""
        *parents, name = path.strip("/").split("/")
        for part in parents:
            here = f"{parent}/{part}"
            if here not in folders:
                folders[here] = f"{folders[parent]}/{_iso_name(part)}"
                iso.add_directory(folders[here], rr_name=part)
            parent = here
        short = f"{folders[parent]}/{_iso_name(name)}"
        iso.add_fp(io.BytesIO(data), len(data), f"{short}{'' if '.' in _iso_name(name) else '.'};1", rr_name=name)


def _iso_name(name: str) -> str:
    """A name in the letters of ISO 9660: upper case, digits, underscores, one dot; at most 30 characters."""
    stem, dot, suffix = name.strip(".").upper().rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    letters = "".join(letter if letter.isalnum() else "_" for letter in stem)[: 30 - len(suffix)]
    return f"{letters}.{suffix}" if suffix else letters


class _FixedTime(ModuleType):
    """Stands in for the `time` module inside pycdlib, which has no other way to be given a date."""

    def __init__(self) -> None:
        super().__init__("time")

    def __getattr__(self, name: str) -> object:
        return getattr(real_time, name)

    @staticmethod
    def time() -> float:
        return float(ISO_TIME_S)

    @staticmethod
    def localtime(seconds: float = ISO_TIME_S) -> real_time.struct_time:
        return real_time.gmtime(seconds)


_DATED_MODULES: tuple[Any, ...] = (pycdlib.pycdlib, pycdlib.headervd, pycdlib.dates)
_dates_lock = threading.Lock()


@contextlib.contextmanager
def _fixed_dates() -> Iterator[None]:
    """While this holds, pycdlib dates everything ISO_TIME_S, in UTC."""
    with _dates_lock:
        fixed = _FixedTime()
        for module in _DATED_MODULES:
            module.time = fixed
        try:
            yield
        finally:
            for module in _DATED_MODULES:
                module.time = real_time
