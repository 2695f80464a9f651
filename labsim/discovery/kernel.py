"""The kernel that goes into an image, and the drivers that a lab machine needs from its modules."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import re
import subprocess
from pathlib import Path

from labsim.discovery.packages import COMPLETE_KERNEL_APT, KERNEL_PACKAGES_APT
from labsim.errors import LabError

BOOT_FOLDER = Path("/boot")
MODULES_FOLDER = Path("/lib/modules")

# In the order of their need: the network first, so that DHCP runs while the rest is loaded. A driver that a kernel
# has built in, or does not have at all, is left out.
NETWORK_DRIVERS = ("virtio_pci", "virtio_net", "virtio_mmio")
STORAGE_DRIVERS = ("virtio_blk", "virtio_scsi", "virtio_rng", "ata_piix", "ahci", "nvme", "sr_mod", "sd_mod")
SYSTEM_DRIVERS = ("efivarfs", "button", "evdev")  # UEFI's variables; the power button, and how it is heard
DRIVERS = NETWORK_DRIVERS + STORAGE_DRIVERS + SYSTEM_DRIVERS


@dataclasses.dataclass(frozen=True, slots=True)
class KernelFiles:
    """A kernel image and the folder of its modules."""

    version: str
    kernel: Path
    modules: Path


def find_kernel(kernel: Path | None = None, modules: Path | None = None, needs: tuple[str, ...] = ()) -> KernelFiles:
    """The kernel to use: the one that is named, else this machine's newest that has modules and the drivers in `needs`,
    cloud kernels first."""
    if kernel is not None:
        version = modules.name if modules else kernel.name.removeprefix("vmlinuz-")
        folder = modules or MODULES_FOLDER / version
        if not kernel.is_file() or not folder.is_dir():
            raise LabError(f"no kernel {kernel} with modules {folder}", hint="name both with --kernel and --modules")
        return KernelFiles(version, kernel, folder)
    candidates = [
        KernelFiles(version, path, MODULES_FOLDER / version)
        for path in BOOT_FOLDER.glob("vmlinuz-*")
        if (MODULES_FOLDER / (version := path.name.removeprefix("vmlinuz-")) / "modules.dep").is_file()
    ]
    if not candidates:
        raise LabError(
            "this machine has no kernel package to make an ISO from",
            hint=f"apt-get install {' or '.join(KERNEL_PACKAGES_APT)}, or use --kernel and --modules",
        )
    candidates = [found for found in candidates if not _missing_drivers(found, needs)]
    if not candidates:
        raise LabError(
            f"no kernel on this host has the driver {' and '.join(needs)}",
            hint=f"apt-get install {COMPLETE_KERNEL_APT}: small cloud kernels leave drivers out",
        )
    return max(candidates, key=lambda found: ("cloud" in found.version, _numbers(found.version)))


def _missing_drivers(kernel: KernelFiles, needs: tuple[str, ...]) -> list[str]:
    builtin = kernel.modules / "modules.builtin"
    present = {_module_name(line) for line in builtin.read_text().split()} if builtin.is_file() else set()
    present |= set(_dependencies(kernel.modules))
    return [name for name in needs if name not in present]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def driver_files(kernel: KernelFiles) -> dict[str, bytes]:
    """The drivers and what they depend on, uncompressed, in the order in which they have to be loaded."""
    depends = _dependencies(kernel.modules)
    order: dict[str, Path] = {}
    for name in DRIVERS:
        _add(name, depends, order)
    return {name: _uncompressed(kernel.modules / path) for name, path in order.items()}


def _dependencies(modules: Path) -> dict[str, tuple[Path, list[str]]]:
    """modules.dep: module name -> (its file, the names that it needs)."""
    found = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        found[_module_name(path)] = (Path(path), [_module_name(need) for need in needs.split()])
    return found


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _add(name: str, depends: dict[str, tuple[Path, list[str]]], order: dict[str, Path]) -> None:
    if name in order or name not in depends:
        return
    path, needs = depends[name]
    for need in needs:
        _add(need, depends, order)
    order[name] = path


def _uncompressed(file: Path) -> bytes:
    """A module as the kernel wants it; distributions compress them differently."""
    data = file.read_bytes()
    if file.suffix == ".xz":
        return lzma.decompress(data)
    if file.suffix == ".gz":
        return gzip.decompress(data)
    if file.suffix == ".bz2":
        return bz2.decompress(data)
    if file.suffix == ".zst":
        try:
            return subprocess.run(("zstd", "-dc", str(file)), check=True, capture_output=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise LabError(f"cannot decompress {file.name}: {error}", hint="apt-get install zstd") from error
    return data
