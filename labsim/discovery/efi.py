"""What lets UEFI firmware start a discovery image: an EFI system partition with a boot loader, as a FAT image.

Debian's and Ubuntu's packages are used as files. With shim and the signed GRUB the image also starts under secure boot,
because the kernel of their package is signed by the same distribution; with GRUB alone firmware that enforces secure
boot refuses it. Without either the image starts under a BIOS only.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from pathlib import Path

from labsim.discovery.packages import EFI_PACKAGES_APT, program
from labsim.errors import LabError

ESP_PATH = "/images/efiboot.img"
# The GRUB for CDs looks for its configuration where it was itself started from, then on every disk: only the first
# will do, because an installed disk and the CD beside it hold the same files.
POINTER_PATH = "/boot/grub/grub.cfg"
SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
SIGNED_GRUB = Path("/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed")
PLAIN_GRUB = Path("/usr/lib/grub/x86_64-efi/monolithic/gcdx64.efi")
SLACK_BYTES = 256 << 10  # of the file system itself
SECTOR_BYTES = 512
MTOOLS_TIMEOUT_S = 30


@dataclasses.dataclass(frozen=True, slots=True)
class EfiLoader:
    """The boot loader's files: path in the EFI system partition -> file here. `signed`: secure boot accepts it."""

    files: tuple[tuple[str, Path], ...]
    signed: bool


def find_efi_loader() -> EfiLoader | None:
    """The best loader that is installed; None where there is none, and the image then has no EFI part."""
    if SHIM.is_file() and SIGNED_GRUB.is_file():
        return EfiLoader((("/EFI/BOOT/BOOTX64.EFI", SHIM), ("/EFI/BOOT/grubx64.efi", SIGNED_GRUB)), signed=True)
    if PLAIN_GRUB.is_file():
        return EfiLoader((("/EFI/BOOT/BOOTX64.EFI", PLAIN_GRUB),), signed=False)
    return None


def require_efi_loader(*, signed: bool) -> None:
    """Raises LabError where images made here would not start under UEFI, or not under secure boot."""
    loader = find_efi_loader()
    if loader is None or (signed and not loader.signed):
        what = "under secure boot" if signed else "under UEFI"
        raise LabError(
            f"the discovery ISO made on this host does not start {what}: its boot loader is missing",
            hint=f"apt-get install {' '.join(EFI_PACKAGES_APT)}",
        )


def pointer(menu_path: str) -> bytes:
    """GRUB's first configuration: go on with the menu of the disk or CD that GRUB was started from."""
    return f'regexp --set=1:drive "^([^,]+)" "$root"\nset root="$drive"\nconfigfile "($drive){menu_path}"\n'.encode()


def efi_system_partition(loader: EfiLoader, menu_path: str, time_s: int) -> bytes:
    """A FAT image with the loader in it. Raises LabError where mtools is missing or fails."""
    with tempfile.TemporaryDirectory(prefix="labsim-esp-") as folder:
        image, config = Path(folder, "esp.img"), Path(folder, "grub.cfg")
        config.write_bytes(pointer(menu_path))
        files = [*loader.files, (POINTER_PATH, config)]
        size = sum(file.stat().st_size for _, file in files) + SLACK_BYTES
        tracks = -(-size // (SECTOR_BYTES * 32 * 2))
        geometry = ("-t", str(tracks), "-h", "2", "-s", "32")
        _mtools("mformat", time_s, "-C", "-i", str(image), *geometry, "-N", "4c414253", "-v", "LABSIM-EFI")
        made: set[str] = set()
        for path, file in files:
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                parent = "/".join(parts[:depth])
                if parent not in made:
                    made.add(parent)
                    _mtools("mmd", time_s, "-i", str(image), f"::/{parent}")
            _mtools("mcopy", time_s, "-i", str(image), str(file), f"::{path}")
        return image.read_bytes()


def _mtools(name: str, time_s: int, *arguments: str) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(time_s), "TZ": "UTC", "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    command = [str(program(name, "mtools")), *arguments]
    try:
        subprocess.run(
            command, check=True, capture_output=True, timeout=MTOOLS_TIMEOUT_S, env=environment,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        text = error.stderr.decode(errors="replace").strip()[-500:]
        raise LabError(f"{name} could not make the EFI system partition: {text}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{name} did not end within {MTOOLS_TIMEOUT_S} s") from error
