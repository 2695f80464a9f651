"""The disk of an installed machine: the record store, writing the image, boot markers. All on plain files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.discovery.base_image import BaseImage, plain_base_image
from labsim.guest import boot_entry, disk
from labsim.guest.record_store import AREA_BYTES, STORE_BYTES, RecordStore

IGNITION = b'{"ignition":{"version":"3.2.0"}}'
SURROUNDINGS = {"/etc/hosts": b"10.0.2.2 hub.lab.test\n"}


@pytest.fixture
def base(tmp_path: Path) -> BaseImage:
    return plain_base_image(tmp_path)


@pytest.fixture
def cd(base: BaseImage, tmp_path: Path) -> str:
    path = tmp_path / "cd.iso"
    base.overlay(b'{"from":"cd"}').write_to(path)
    return str(path)


@pytest.fixture
def target(tmp_path: Path) -> str:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return str(path)


@pytest.fixture
def fileno(tmp_path: Path) -> Iterator[int]:
    fileno = os.open(tmp_path / "store", os.O_CREAT | os.O_RDWR)
    os.ftruncate(fileno, STORE_BYTES)
    yield fileno
    os.close(fileno)


def install(cd: str, target: str, parts: int = 8) -> None:
    writer = disk.DiskWriter([cd, target], SURROUNDINGS)
    for part in range(parts):
        writer.write_part(target, part, parts, IGNITION)


def opened(fileno: int) -> RecordStore:
    store = RecordStore.open(fileno, 0)
    assert store is not None
    return store


def test_records_outlive_the_process(fileno: int) -> None:
    store = RecordStore.create(fileno, 0)
    store.put("a", b"1")
    store.put("b", b"2", 0o600)
    store.put("a", b"3")
    store.remove("missing")
    again = opened(fileno)
    assert again.files("") == {"a": (0o644, b"3"), "b": (0o600, b"2")}
    again.remove("a")
    assert opened(fileno).get("a") is None


def test_a_torn_record_is_the_end(fileno: int) -> None:
    store = RecordStore.create(fileno, 0)
    store.put("kept", b"whole")
    end = store._end
    store.put("torn", b"x" * 1000)
    os.pwrite(fileno, b"\0" * 500, store._area * AREA_BYTES + end + 200)  # power was cut in the middle of it
    again = opened(fileno)
    assert (again.get("kept"), again.get("torn")) == (b"whole", None)
    again.put("after", b"on")
    assert opened(fileno).get("after") == b"on"


def test_what_an_earlier_use_of_an_area_left_is_no_record(fileno: int) -> None:
    store = RecordStore.create(fileno, 0)
    for name in "abc":
        store.put(name, b"same size")
    for _ in range(2):  # back to the area of the three
        store._rewrite({})
    store.put("x", b"same size")
    assert opened(fileno).files("") == {"x": (0o644, b"same size")}


def test_a_full_area_is_cleaned_up_and_really_full_is_an_error(fileno: int) -> None:
    store = RecordStore.create(fileno, 0)
    store.put("kept", b"first")
    for number in range(12):
        store.put("big", bytes([number]) * (1 << 20))
    again = opened(fileno)
    assert again.get("kept") == b"first"
    assert again.get("big") == bytes([11]) * (1 << 20)
    with pytest.raises(OSError, match="do not fit") as caught:
        again.put("huge", bytes(AREA_BYTES))
    assert caught.value.errno == errno.ENOSPC
    assert again.get("kept") == b"first"


def test_a_crash_during_the_clean_up_keeps_the_old_area(fileno: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RecordStore.create(fileno, 0)
    store.put("kept", b"first")
    real = os.pwrite
    calls = []

    def fail_at_header(number: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if data[:8] == b"LABSIMRS":
            raise OSError(errno.EIO, "power is off")
        return real(number, data, offset)

    monkeypatch.setattr(os, "pwrite", fail_at_header)
    with pytest.raises(OSError, match="power"):
        store._rewrite({"kept": (0o644, b"second")})
    monkeypatch.undo()
    assert calls
    assert opened(fileno).get("kept") == b"first"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.binary(max_size=50))), max_size=30),
    st.integers(0, 2000),
)
def test_any_cut_leaves_a_state_that_once_was(writes: list[tuple[str, bytes | None]], cut: int) -> None:
    fileno = os.memfd_create("store")
    try:
        os.ftruncate(fileno, STORE_BYTES)
        store = RecordStore.create(fileno, 0)
        states: list[dict[str, bytes]] = [{}]
        start = store._end
        for name, data in writes:
            if data is None:
                store.remove(name)
            else:
                store.put(name, data)
            states.append({key: value for key, (_, value) in store.files("").items()})
        position = start + min(cut, store._end - start)
        os.pwrite(fileno, bytes(store._end - position + 64), store._area * AREA_BYTES + position)
        assert {key: value for key, (_, value) in opened(fileno).files("").items()} in states
    finally:
        os.close(fileno)


def test_an_installed_disk_is_the_image_with_another_marker(cd: str, target: str) -> None:
    install(cd, target)
    image = disk.open_image(target)
    assert image is not None
    assert image.boot_marker() == disk.BOOT_DISK
    store = image.store()
    assert store is not None
    assert store.get(disk.IGNITION_RECORD) == IGNITION
    assert store.get("lab/etc/hosts") == SURROUNDINGS["/etc/hosts"]
    menus = [image.iso.read(path) for path in boot_entry.MENU_PATHS]
    image.close()
    source = Path(cd).read_bytes()
    written = Path(target).read_bytes()[: len(source)]
    assert source.count(b"labsim.boot=iso") == 2
    assert written == source.replace(b"labsim.boot=iso", b"labsim.boot=dsk")
    assert [menu.count(b"labsim.boot=dsk") for menu in menus] == [1, 1], "a BIOS and UEFI start the same"


@pytest.mark.parametrize("parts", [1, 3, 8, 40])
def test_any_number_of_parts_writes_the_same_disk(cd: str, target: str, parts: int) -> None:
    install(cd, target)
    expected = Path(target).read_bytes()
    os.truncate(target, 0)
    os.truncate(target, 64 << 20)
    install(cd, target, parts)
    assert Path(target).read_bytes() == expected


def test_a_disk_whose_writing_was_cut_short_does_not_start(cd: str, target: str) -> None:
    with open(cd, "r+b") as file:
        file.write(b"boot sector of the hybrid image".ljust(512, b"!"))
    install(cd, target)
    assert Path(target).read_bytes().startswith(b"boot sector")
    writer = disk.DiskWriter([cd, target], {})
    for part in range(7):
        writer.write_part(target, part, 8, IGNITION)
    partly = Path(target).read_bytes()
    assert partly[:512] == bytes(512)
    assert partly[17 * 2048 : 18 * 2048] == bytes(2048), "UEFI starts a disk by the boot record of its ISO too"
    writer.write_part(target, 7, 8, IGNITION)
    whole = Path(target).read_bytes()
    assert whole.startswith(b"boot sector")
    assert whole[17 * 2048 : 18 * 2048] == Path(cd).read_bytes()[17 * 2048 : 18 * 2048]


def test_a_new_installation_starts_with_an_empty_var_lib(cd: str, target: str) -> None:
    install(cd, target)
    image = disk.open_image(target, writable=True)
    assert image is not None
    store = image.store()
    assert store is not None
    store.put("file/var/lib/kubelet/x", b"old")
    image.close()
    install(cd, target)
    image = disk.open_image(target)
    assert image is not None
    store = image.store()
    assert store is not None
    assert store.files("file/") == {}
    image.close()


def test_reclaim_adds_an_entry_that_starts_what_was_downloaded(base: BaseImage, cd: str, target: str) -> None:
    install(cd, target)
    kernel, initrd = b"another kernel" * 1000, base.pxe_initrd(b'{"discovery":true}')
    disk.DiskWriter([target], {}).set_boot_entry(kernel, initrd, "a=b coreos.live.rootfs_url=https://x?a=b&c=d")
    image = disk.installed_disk([target])
    assert image is not None
    assert image.boot_entry() == boot_entry.ENTRY
    # Read as a boot loader reads it: the menu's default, and the files that its entry names.
    menu = image.iso.read(boot_entry.MENU_PATH).decode()
    entry = menu.partition(f"label {boot_entry.ENTRY}\n")[2].split("\n")
    kernel_path, arguments = entry[0].split()[1], entry[1].split()[1:]
    assert image.iso.read(kernel_path) == kernel
    assert image.iso.read(arguments[0].removeprefix("initrd=")) == initrd
    assert arguments[-3:] == [boot_entry.RECLAIM_MARKER, "a=b", "coreos.live.rootfs_url=https://x?a=b&c=d"]
    grub = image.iso.read(boot_entry.GRUB_MENU_PATH).decode()
    default = grub.partition("set default=")[2].split()[0]
    assert not default[0].isdigit(), "GRUB takes that for the number of an entry, and starts the first"
    entry = grub.partition(f"--id {default} {{\n")[2].split("\n")
    assert entry[0].split()[:2] == ["linux", kernel_path]
    # Without quotes GRUB would take the & for its own.
    assert entry[0].split()[-3:] == [boot_entry.RECLAIM_MARKER, "a=b", "'coreos.live.rootfs_url=https://x?a=b&c=d'"]
    assert entry[1].split() == ["initrd", arguments[0].removeprefix("initrd=")]
    store = image.store()
    assert store is not None
    assert store.get(disk.IGNITION_RECORD) == IGNITION, "the installed system stays until it is written over"
    image.close()


def test_an_entry_is_written_again_shorter_and_set_back(base: BaseImage, cd: str, target: str) -> None:
    install(cd, target)
    before = Path(target).read_bytes()
    writer = disk.DiskWriter([target], {})
    for kernel, arguments in ((b"k" * 5000, "early=" + "x" * 500), (b"kernel", "second=2")):
        writer.set_boot_entry(kernel, base.pxe_initrd(b"{}"), arguments)
    image = disk.installed_disk([target])
    assert image is not None
    assert image.iso.read(boot_entry.KERNEL_PATH) == b"kernel"
    assert b"early" not in image.iso.read(boot_entry.MENU_PATH)
    image.set_boot_entry(boot_entry.OWN_ENTRY)
    assert image.boot_entry() == boot_entry.OWN_ENTRY
    assert image.boot_marker() == disk.BOOT_DISK
    image.close()
    install(cd, target)
    assert Path(target).read_bytes()[: 1 << 20] == before[: 1 << 20], "an installation leaves nothing of the entry"


def test_an_entry_that_was_cut_short_is_not_the_default(
    base: BaseImage, cd: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write that may be the last one, the disk starts as before, or starts the whole entry."""
    initrd = base.pxe_initrd(b"{}")
    real, writes = os.pwrite, 0

    def cut(fileno: int, data: bytes, offset: int) -> int:
        nonlocal writes
        writes -= 1
        if writes < 0:
            raise OSError(errno.EIO, "power is off")
        return real(fileno, data, offset)

    complete = False
    for allowed in range(20):
        install(cd, target)
        writes = allowed
        monkeypatch.setattr(os, "pwrite", cut)
        try:
            disk.DiskWriter([target], {}).set_boot_entry(b"kernel", initrd, "a=b")
            complete = True
        except OSError:
            complete = False
        monkeypatch.undo()
        image = disk.installed_disk([target])
        assert image is not None
        assert image.boot_entry() == (boot_entry.ENTRY if complete else boot_entry.OWN_ENTRY)
        image.close()
        if complete:
            break
    assert complete


def test_an_entry_that_cannot_be_written_says_why(base: BaseImage, cd: str, target: str, tmp_path: Path) -> None:
    initrd = base.pxe_initrd(b"{}")
    with pytest.raises(OSError, match="not started from a disk of its own"):
        disk.DiskWriter([cd], {}).set_boot_entry(b"kernel", initrd, "")
    install(cd, target)
    writer = disk.DiskWriter([target], {})
    with pytest.raises(OSError, match="does not fit") as caught:
        writer.set_boot_entry(b"kernel", initrd, "x" * 1025)
    assert caught.value.errno == errno.E2BIG
    with pytest.raises(OSError, match="are needed") as caught:
        writer.set_boot_entry(bytes(64 << 20), initrd, "")
    assert caught.value.errno == errno.ENOSPC
    other = tmp_path / "other.raw"
    other.write_bytes(Path(target).read_bytes().replace(b"VMLINUZ", b"ANOTHER").replace(b"vmlinuz", b"another"))
    with pytest.raises(OSError, match="no place for a boot entry"):
        disk.DiskWriter([str(other)], {}).set_boot_entry(b"kernel", initrd, "")


def test_what_cannot_be_installed_says_why(cd: str, target: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no medium") as caught:
        disk.DiskWriter([target], {}).write_part(target, 0, 8, IGNITION)
    assert caught.value.errno == errno.ENOMEDIUM
    os.truncate(target, 4 << 20)
    with pytest.raises(OSError, match="are needed") as caught:
        disk.DiskWriter([cd, target], {}).write_part(target, 0, 8, IGNITION)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError):
        disk.DiskWriter([cd], {}).write_part(str(tmp_path / "missing"), 0, 8, IGNITION)
