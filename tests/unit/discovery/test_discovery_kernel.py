"""Drivers and the first script of the VM."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from labsim.discovery.init_script import init_script
from labsim.discovery.kernel import KernelFiles, driver_files, find_kernel
from labsim.errors import LabError
from labsim.guest import cpio

DEPENDENCIES = """kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko
kernel/net/core/failover.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/char/hw_random/virtio-rng.ko:
kernel/sound/noise.ko:
"""


@pytest.fixture
def kernel(tmp_path: Path) -> KernelFiles:
    modules = tmp_path / "6.1.0-test"
    modules.mkdir()
    (modules / "modules.dep").write_text(DEPENDENCIES)
    for line in DEPENDENCIES.splitlines():
        file = modules / line.split(":")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        data = file.name.split(".")[0].encode()
        file.write_bytes(lzma.compress(data) if file.suffix == ".xz" else data)
    image = tmp_path / "vmlinuz-6.1.0-test"
    image.write_bytes(b"kernel")
    return KernelFiles("6.1.0-test", image, modules)


def test_drivers_come_after_what_they_need_and_uncompressed(kernel: KernelFiles) -> None:
    drivers = driver_files(kernel)
    assert list(drivers) == ["virtio", "virtio_pci", "failover", "virtio_net", "virtio_blk", "virtio_rng"]
    assert drivers["virtio_pci"] == b"virtio_pci"


def test_the_network_is_asked_before_the_disks_are_loaded(kernel: KernelFiles) -> None:
    script = init_script(Path("/usr/bin/python3"), list(driver_files(kernel)), "/opt/python/lib").decode()
    assert script.index("virtio_net") < script.index("udhcpc") < script.index("virtio_blk") < script.index("exec ")
    assert "export LD_LIBRARY_PATH=/opt/python/lib\n" in script


def test_a_kernel_that_is_not_there_is_told_with_a_hint(kernel: KernelFiles, tmp_path: Path) -> None:
    assert find_kernel(kernel.kernel, kernel.modules) == kernel
    with pytest.raises(LabError) as caught:
        find_kernel(tmp_path / "vmlinuz-none", tmp_path / "none")
    assert "--modules" in caught.value.hint


def test_device_nodes_and_links_keep_their_kind() -> None:
    entries = [cpio.character_device("dev/console", 5, 1), cpio.symbolic_link("bin/sh", "busybox"), cpio.folder("run")]
    assert list(cpio.read_archive(cpio.archive(entries))) == entries


def test_a_kernel_is_chosen_for_the_drivers_that_a_lab_needs(
    kernel: KernelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot, modules = tmp_path / "boot", tmp_path / "modules"
    boot.mkdir()
    for version, dependencies in (("6.2-cloud", DEPENDENCIES), ("6.1", f"{DEPENDENCIES}kernel/ata/ahci.ko:\n")):
        (boot / f"vmlinuz-{version}").write_bytes(b"kernel")
        (modules / version).mkdir(parents=True)
        (modules / version / "modules.dep").write_text(dependencies)
    monkeypatch.setattr("labsim.discovery.kernel.BOOT_FOLDER", boot)
    monkeypatch.setattr("labsim.discovery.kernel.MODULES_FOLDER", modules)
    assert find_kernel().version == "6.2-cloud"
    assert find_kernel(needs=("ahci",)).version == "6.1"
    (modules / "6.2-cloud" / "modules.builtin").write_text("kernel/drivers/ata/ahci.ko\n")
    assert find_kernel(needs=("ahci",)).version == "6.2-cloud"
    with pytest.raises(LabError, match="has the driver tape") as caught:
        find_kernel(needs=("tape",))
    assert "linux-image-amd64" in caught.value.hint
