"""What the image holds for UEFI firmware: the loader, and the menu that it goes on with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from labsim.discovery import efi
from labsim.errors import LabError


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has every package."""
    for name in ("SHIM", "SIGNED_GRUB", "PLAIN_GRUB"):
        path = tmp_path / name
        path.write_bytes(name.encode())
        monkeypatch.setattr(efi, name, path)


@pytest.mark.usefixtures("loader")
def test_the_signed_loader_is_taken_before_the_other_one() -> None:
    found = efi.find_efi_loader()
    assert found is not None
    assert [(path, file.name) for path, file in found.files] == [
        ("/EFI/BOOT/BOOTX64.EFI", "SHIM"),
        ("/EFI/BOOT/grubx64.efi", "SIGNED_GRUB"),
    ]
    efi.require_efi_loader(signed=True)


@pytest.mark.usefixtures("loader")
def test_a_loader_that_nobody_signed_is_for_uefi_without_secure_boot() -> None:
    efi.SHIM.unlink()
    efi.require_efi_loader(signed=False)
    with pytest.raises(LabError, match="secure boot") as caught:
        efi.require_efi_loader(signed=True)
    assert "shim-signed" in caught.value.hint
    efi.PLAIN_GRUB.unlink()
    assert efi.find_efi_loader() is None
    with pytest.raises(LabError, match="under UEFI"):
        efi.require_efi_loader(signed=False)


@pytest.mark.usefixtures("loader")
def test_the_partition_is_the_same_each_time_and_holds_loader_and_pointer(tmp_path: Path) -> None:
    if not shutil.which("mformat"):
        pytest.skip("mtools is not installed")
    found = efi.find_efi_loader()
    assert found is not None
    image = efi.efi_system_partition(found, "/EFI/redhat/grub.cfg", 1_767_225_600)
    assert efi.efi_system_partition(found, "/EFI/redhat/grub.cfg", 1_767_225_600) == image
    path = tmp_path / "esp.img"
    path.write_bytes(image)
    for name, content in (("/EFI/BOOT/BOOTX64.EFI", b"SHIM"), (efi.POINTER_PATH, efi.pointer("/EFI/redhat/grub.cfg"))):
        read = subprocess.run(["mtype", "-i", str(path), f"::{name}"], capture_output=True, check=True)
        assert read.stdout == content
