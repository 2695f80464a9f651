"""The packages that a bootable discovery ISO is made from, and how to say that one is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

from labsim.errors import LabError

# Debian 12 and Ubuntu 22.04+. The kernel is the small one for virtual machines; a distribution may name it otherwise.
ISO_PACKAGES_APT: tuple[str, ...] = (
    "isolinux",
    "syslinux-common",
    "xorriso",
    "busybox-static",
    "openssl",
    "python3",
)
KERNEL_PACKAGES_APT: tuple[str, ...] = ("linux-image-cloud-amd64", "linux-image-virtual")  # Debian's, Ubuntu's
COMPLETE_KERNEL_APT = "linux-image-amd64"
# Files only: nothing of these changes what the machine itself boots. Without them images start under a BIOS alone.
EFI_PACKAGES_APT: tuple[str, ...] = ("shim-signed", "grub-efi-amd64-signed", "mtools")
VM_PACKAGES_APT: tuple[str, ...] = ("qemu-system-x86",)


def program(name: str, package: str) -> Path:
    """Where a program is. Raises LabError that names the package."""
    found = shutil.which(name)
    if found is None:
        raise LabError(f"the program {name} is missing", hint=f"apt-get install {package}")
    return Path(found)


def file_of_package(candidates: tuple[str, ...], package: str) -> Path:
    """The first of the paths that exists. Raises LabError that names the package."""
    for candidate in candidates:
        if Path(candidate).is_file():
            return Path(candidate)
    raise LabError(f"{candidates[0]} is missing", hint=f"apt-get install {package}")
