"""ISOs: made, embedded into, read back; ours and one in RHCOS layout that public tools made."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pycdlib
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labsim.discovery.base_image import BaseImage, plain_base_image
from labsim.discovery.compression import gzip_fixed
from labsim.discovery.embed import (
    IGNITION_AREA_BYTES,
    EmbedError,
    embed,
    ignition_archive,
    ignition_in_initrd,
    layout_of,
    overlay_reader,
)
from labsim.discovery.inspect import MASK, inspect_iso, mask_secrets, read_ignition
from labsim.discovery.iso import IsoContent, build_plain_iso, iso_files
from labsim.entropy import Entropy
from labsim.errors import LabError, UsageError
from labsim.guest import cpio
from labsim.guest.iso9660 import IsoReader, NotAnIso

IGNITION = b'{"ignition":{"version":"3.1.0"}}'


@pytest.fixture
def base(tmp_path: Path) -> BaseImage:
    return plain_base_image(tmp_path)


def reader(path: Path) -> IsoReader:
    data = path.read_bytes()
    return IsoReader(lambda offset, length: data[offset : offset + length])


def test_the_same_input_gives_the_same_bytes_in_any_time_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_plain_iso(tmp_path / "a.iso").read_bytes()
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert build_plain_iso(tmp_path / "b.iso").read_bytes() == first
    finally:
        monkeypatch.undo()
        time.tzset()
    assert build_plain_iso(tmp_path / "c.iso", version="other").read_bytes() != first


def test_another_reader_sees_the_rhcos_layout(base: BaseImage) -> None:
    iso = pycdlib.PyCdlib()
    iso.open(str(base.path))
    kargs = io.BytesIO()
    iso.get_file_from_iso_fp(kargs, rr_path="/coreos/kargs.json")
    files = [path + "/" + name for path, _, names in iso.walk(rr_path="/") for name in names]
    iso.close()
    assert {"/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img", "/images/pxeboot/rootfs.img"} <= set(files)
    assert {"/images/ignition.img", "/coreos/igninfo.json", "/isolinux/isolinux.cfg"} <= set(files)
    document = json.loads(kargs.getvalue())
    assert [file["path"] for file in document["files"]] == ["isolinux/isolinux.cfg", "EFI/redhat/grub.cfg"]
    for file in document["files"]:
        config = reader(base.path).read(f"/{file['path']}").decode()
        area = config[file["offset"] :][: document["size"]]
        assert area.startswith(document["default"] + "\n####")
        assert area.endswith("####")


def test_embedding_keeps_the_size_and_can_be_read_back(base: BaseImage, tmp_path: Path) -> None:
    target = tmp_path / "discovery.iso"
    embed(base.path, target, IGNITION, ["a=b", "c"])
    assert target.stat().st_size == base.size_bytes
    assert read_ignition(target) == IGNITION
    view = inspect_iso(target)
    assert view.extra_kernel_arguments == ("a=b", "c")
    assert view.kernel_arguments[-2:] == ("a=b", "c")
    assert " a=b c\n####" in reader(target).read("/EFI/redhat/grub.cfg").decode(), "UEFI is given the same"
    assert (view.kind, view.rootfs_url, view.coreiso_header) == ("full-iso", "", None)
    assert yaml.safe_load(yaml.safe_dump(view.as_document()))["extra_kernel_arguments"] == ["a=b", "c"]
    assert view.ignition_area is not None
    assert view.ignition_area.length == IGNITION_AREA_BYTES
    archive = gzip.decompress(reader(target).read("/images/ignition.img").rstrip(b"\0") + b"\0" * 4)
    (entry,) = cpio.read_archive(archive)
    assert (entry.path, entry.mode, entry.data) == ("config.ign", 0o100644, IGNITION)


def test_a_shorter_ignition_leaves_nothing_of_a_longer_one(base: BaseImage, tmp_path: Path) -> None:
    first, second = tmp_path / "first.iso", tmp_path / "second.iso"
    embed(base.path, first, Entropy(1).bytes("x", 20_000).hex().encode())
    embed(first, second, IGNITION)
    area = reader(second).read("/images/ignition.img")
    assert area == ignition_archive(IGNITION).ljust(IGNITION_AREA_BYTES, b"\0")


@given(st.integers(0, 400_000), st.integers(0, 400_000))
def test_any_range_is_that_part_of_the_whole(start: int, length: int) -> None:
    image = _shared_image()
    whole = b"".join(overlay_reader(image, IGNITION, ["x=1"]))
    part = b"".join(overlay_reader(image, IGNITION, ["x=1"], start=start, end=start + length))
    assert part == whole[start : start + length]


_image: list[Path] = []


def _shared_image() -> Path:
    if not _image:
        _image.append(build_plain_iso(Path(tempfile.mkdtemp(prefix="labsim-test-"), "shared.iso")))
    return _image[0]


@pytest.fixture(scope="module", autouse=True)
def _remove_shared_image() -> Iterator[None]:
    yield
    while _image:
        shutil.rmtree(_image.pop().parent)


def test_too_much_is_refused_with_upstreams_text(base: BaseImage) -> None:
    with pytest.raises(
        EmbedError, match=rf"^content length \(\d+\) exceeds embed area size \({IGNITION_AREA_BYTES}\)$"
    ):
        base.overlay(Entropy(1).bytes("noise", 300_000))
    with pytest.raises(EmbedError, match="exceeds embed area size"):
        base.overlay(IGNITION, ["x" * 2000])
    with pytest.raises(EmbedError, match="full ISO"):
        base.overlay(IGNITION, ramdisk=b"x")


def test_a_minimal_iso_says_where_its_rootfs_is(tmp_path: Path) -> None:
    url = "https://images.example:8443/boot-artifacts/rootfs?arch=x86_64&version=418.94"
    path = build_plain_iso(tmp_path / "minimal.iso", rootfs_url=url)
    target = tmp_path / "with-ramdisk.iso"
    BaseImage(path=path).overlay(IGNITION, ramdisk=gzip_fixed(b"network")).write_to(target)
    view = inspect_iso(target)
    assert (view.kind, view.rootfs_url) == ("minimal-iso", url)
    ramdisk = reader(target).read("/images/assisted_installer_custom.img")
    assert len(ramdisk) == 1 << 20
    assert cpio.gunzip_member(ramdisk) == b"network"


def test_boot_artifacts_and_the_pxe_initrd(base: BaseImage) -> None:
    initrd = base.pxe_initrd(IGNITION)
    assert initrd.startswith(base.artifact("initrd"))
    assert ignition_in_initrd(initrd) == IGNITION
    with pytest.raises(EmbedError, match="no archive"):
        ignition_in_initrd(base.artifact("initrd"))
    with pytest.raises(FileNotFoundError, match="ramdisk"):
        base.artifact("ramdisk")


@pytest.fixture
def rhcos_tree(tmp_path: Path) -> Path:
    """The file tree of an RHCOS live image, as its own build tool lays it out."""
    tree = tmp_path / "tree"
    for folder in ("coreos", "images/pxeboot", "isolinux", "EFI/redhat"):
        (tree / folder).mkdir(parents=True)
    default = "ignition.firstboot ignition.platform.id=metal coreos.liveiso=rhcos-418.94.202501221327-0"
    padding = "#" * (1137 - len(default))
    config = (
        "default vesamenu.c32\nlabel linux\n  kernel /images/pxeboot/vmlinuz\n"
        f"  append initrd=/images/pxeboot/initrd.img,/images/ignition.img {default}\n"
        f"{padding}# COREOS_KARG_EMBED_AREA\n"
    )
    (tree / "isolinux/isolinux.cfg").write_text(config)
    (tree / "images/ignition.img").write_bytes(bytes(IGNITION_AREA_BYTES))
    (tree / "images/pxeboot/vmlinuz").write_bytes(b"kernel")
    (tree / "images/pxeboot/initrd.img").write_bytes(b"initrd")
    (tree / "images/pxeboot/rootfs.img").write_bytes(b"rootfs" * 1000)
    (tree / "coreos/igninfo.json").write_text('{"file": "images/ignition.img"}')
    files = [{"path": "isolinux/isolinux.cfg", "offset": config.index(default), "pad": "#", "end": "\n"}]
    (tree / "coreos/kargs.json").write_text(json.dumps({"default": default, "files": files, "size": 1137}))
    return tree


def xorriso(tree: Path, image: Path) -> Path:
    if shutil.which("xorriso") is None:
        pytest.skip("xorriso is not installed")
    command = ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-V", "rhcos-418.94", "-o", str(image), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    return image


def test_an_rhcos_image_of_public_tools(rhcos_tree: Path, tmp_path: Path) -> None:
    image = xorriso(rhcos_tree, tmp_path / "rhcos.iso")
    bare = inspect_iso(image)
    assert (bare.volume_id, bare.kind, bare.ignition, bare.extra_kernel_arguments) == (
        "rhcos-418.94",
        "full-iso",
        None,
        (),
    )
    with pytest.raises(LabError, match="carries no Ignition"):
        read_ignition(image)
    with image.open("r+b") as file:  # what coreos-installer does, with cpio and gzip of this machine
        file.seek(reader(image).find("/images/ignition.img").offset)
        file.write(gzip.compress(_cpio_program(tmp_path, IGNITION)))
    view = inspect_iso(image)
    assert view.ignition == json.loads(IGNITION)
    assert view.boot_files == {"vmlinuz": 6, "initrd.img": 6, "rootfs.img": 6000}
    ours = tmp_path / "ours.iso"
    embed(image, ours, b"{}", ["rd.debug"])
    assert inspect_iso(ours).extra_kernel_arguments == ("rd.debug",)
    assert b" rd.debug\n####" in reader(ours).read("/isolinux/isolinux.cfg")


def _cpio_program(folder: Path, ignition: bytes) -> bytes:
    if shutil.which("cpio") is None:
        return cpio.archive([cpio.plain_file("config.ign", ignition)])
    (folder / "config.ign").write_bytes(ignition)
    made = subprocess.run(
        ("cpio", "-o", "-H", "newc"), input=b"config.ign\n", cwd=folder, check=True, capture_output=True
    )
    return made.stdout


def test_an_area_inside_another_file(rhcos_tree: Path, tmp_path: Path) -> None:
    """igninfo.json may name a part of a file (s390x: inside cdboot.img)."""
    (rhcos_tree / "images/cdboot.img").write_bytes(b"head" * 1024 + bytes(8192) + b"tail")
    info = {"file": "images/cdboot.img", "offset": 4096, "length": 8192}
    (rhcos_tree / "coreos/igninfo.json").write_text(json.dumps(info))
    image = xorriso(rhcos_tree, tmp_path / "s390x.iso")
    target = tmp_path / "embedded.iso"
    embed(image, target, IGNITION)
    assert read_ignition(target) == IGNITION
    cdboot = reader(target).read("/images/cdboot.img")
    assert (cdboot[:4096], cdboot[-4:]) == (b"head" * 1024, b"tail")
    assert layout_of(image).ignition.length == 8192


def test_the_older_header_is_read_where_nothing_else_tells(rhcos_tree: Path, tmp_path: Path) -> None:
    (rhcos_tree / "coreos/igninfo.json").unlink()
    (rhcos_tree / "images/ignition.img").rename(rhcos_tree / "images/area.img")
    image = xorriso(rhcos_tree, tmp_path / "old.iso")
    offset = reader(image).find("/images/area.img").offset
    with image.open("r+b") as file:
        file.seek(32744)
        file.write(b"coreiso+" + struct.pack("<QQ", offset, IGNITION_AREA_BYTES))
        file.seek(offset)
        file.write(ignition_archive(IGNITION))
    view = inspect_iso(image)
    assert view.coreiso_header == (offset, IGNITION_AREA_BYTES)
    assert view.ignition == json.loads(IGNITION)


def test_what_is_no_iso_is_told(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no image\n" * 10_000)
    with pytest.raises(UsageError, match="is not an ISO image"):
        inspect_iso(text)
    with pytest.raises(UsageError, match="cannot be read"):
        read_ignition(tmp_path / "nothing")


def test_a_damaged_directory_is_an_error_and_no_loop(base: BaseImage) -> None:
    data = bytearray(base.path.read_bytes())
    root = struct.unpack_from("<I", data, 16 * 2048 + 158)[0] * 2048
    first = root + data[root]
    data[first + data[first]] = 3  # the first record behind those of the directory and its parent
    with pytest.raises(NotAnIso):
        IsoReader(lambda offset, length: bytes(data[offset : offset + length])).find("/images/ignition.img")


def test_secrets_are_masked_unless_asked_for(base: BaseImage, tmp_path: Path) -> None:
    token = "eyJhbGciOiJFUzI1NiJ9.eyJpbmZyYV9lbnZfaWQiOiJ4In0.c2lnbmF0dXJlLW9mLXRlc3Q"
    auth = '{"auths":{"quay.io":{"auth":"c2VjcmV0LW9mLXRlc3Q="}}}'
    document = {
        "passwd": {"users": [{"name": "core", "passwordHash": "$6$hash"}]},
        "storage": {"files": [{"path": "/root/.docker/config.json", "contents": {"source": f"data:,{auth}"}}]},
        "systemd": {"units": [{"name": "agent.service", "contents": f"Environment=PULL_SECRET_TOKEN={token}\nA=1\n"}]},
        "url": f"https://images/byapikey/{token}/4.18/x86_64/full.iso",
        "header": "Authorization: Bearer c29tZS1ub2RlLXRva2Vu",
    }
    target = tmp_path / "secret.iso"
    base.overlay(json.dumps(document).encode()).write_to(target)
    shown = json.dumps(inspect_iso(target).as_document()["ignition"])
    for secret in (token, "c2VjcmV0LW9mLXRlc3Q=", "$6$hash", "c29tZS1ub2RlLXRva2Vu"):
        assert secret not in shown
    assert MASK in shown
    assert "A=1" in shown
    assert inspect_iso(target, show_secrets=True).ignition == document
    assert mask_secrets(json.loads(IGNITION)) == json.loads(IGNITION)


def test_an_iso_appears_whole_or_not_at_all(base: BaseImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "half.iso"
    overlay = base.overlay(IGNITION)

    def fail(*_: object) -> bytes:
        raise OSError("disk trouble")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(OSError, match="disk trouble"):
        overlay.write_to(target)
    assert [path.name for path in tmp_path.iterdir() if "half" in path.name] == []


@given(st.lists(st.tuples(st.text("abcdef/", min_size=1, max_size=20), st.binary(max_size=300)), max_size=8))
def test_what_is_archived_is_read_back(files: list[tuple[str, bytes]]) -> None:
    entries = [cpio.plain_file(path, data) for path, data in files]
    assert list(cpio.read_archive(cpio.archive(entries))) == entries


def test_a_cut_archive_is_an_error() -> None:
    archive = cpio.archive([cpio.plain_file("config.ign", IGNITION)])
    with pytest.raises(ValueError, match=r"no newc header|ends inside"):
        list(cpio.read_archive(archive[:-200]))
    with pytest.raises(ValueError, match="cut short"):
        cpio.gunzip_member(gzip_fixed(archive)[:-10])


def test_a_minimal_image_says_the_same_to_both_boot_loaders() -> None:
    url = "https://images.example.com/boot-artifacts/rootfs?arch=x86_64&version=4.18"
    files = iso_files(IsoContent(kernel=b"k", initrd=b"i", rootfs_url=url))
    assert f" coreos.live.rootfs_url={url} " in files["/isolinux/isolinux.cfg"].decode()
    grub = files["/EFI/redhat/grub.cfg"].decode()
    assert f" 'coreos.live.rootfs_url={url}' " in grub, "GRUB would take the & for its own"
    assert "initrd /images/pxeboot/initrd.img /images/ignition.img /images/assisted_installer_custom.img" in grub
