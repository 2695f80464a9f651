"""Images kept by content: fetched once, checked before each use, shared by processes, kept small."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_server import TUESDAY, ImageServer, serving

from labsim.discovery import iso_cache
from labsim.discovery.cache_contents import DOWNLOADS, cached_files, prune
from labsim.discovery.download import DownloadFailed, Patience, Trust, Version, download
from labsim.discovery.iso_cache import IsoCache
from labsim.errors import LabError

QUICK = Patience(tries=3, timeout_s=5.0, first_pause_s=0.0, longest_pause_s=0.0)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[ImageServer]:
    with serving(tmp_path) as made:
        yield made


def bring(image: ImageServer, cache: Path, lab: Path, url: str = "") -> Path:
    def fetch(part: Path, known: Version | None) -> Version | None:
        trust = Trust(ca_pem=image.authority.ca_pem)
        return download(url or image.url, part, known=known, trust=trust, patience=QUICK)

    return IsoCache(cache).bring(url or image.url, lab, fetch)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_boot_of_an_unchanged_image_transfers_nothing(image: ImageServer, tmp_path: Path) -> None:
    cache, lab = tmp_path / "cache", tmp_path / "lab"
    path = bring(image, cache, lab)
    assert path.read_bytes() == image.content
    assert path.name == f"sha256-{hashlib.sha256(image.content).hexdigest()}.iso"
    sent = image.sent_bytes
    assert bring(image, cache, lab) == path
    other = bring(image, cache, tmp_path / "other lab")
    assert image.sent_bytes == sent
    assert other.samefile(path)
    assert len(names(cache)) == 2, "the image and its record"
    assert not any(b"secret" in (cache / name).read_bytes() for name in names(cache) if name.endswith(".json"))


def test_an_image_that_changed_is_fetched_again(image: ImageServer, tmp_path: Path) -> None:
    old = bring(image, tmp_path / "cache", tmp_path / "lab")
    image.content, image.last_modified = image.content + bytes(2048), TUESDAY
    new = bring(image, tmp_path / "cache", tmp_path / "lab")
    assert new != old
    assert new.read_bytes() == image.content


def test_a_tampered_file_is_not_booted(image: ImageServer, tmp_path: Path) -> None:
    """Same length, same time, one byte: the lab's link and the cache's file are one."""
    path = bring(image, tmp_path / "cache", tmp_path / "lab")
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"tampered")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert bring(image, tmp_path / "cache", tmp_path / "lab").read_bytes() == image.content


def test_a_truncated_file_is_not_booted(image: ImageServer, tmp_path: Path) -> None:
    path = bring(image, tmp_path / "cache", tmp_path / "lab")
    path.chmod(0o644)
    os.truncate(path, 100_000)
    assert bring(image, tmp_path / "cache", tmp_path / "lab").read_bytes() == image.content


def test_a_large_file_is_read_again_where_it_was_touched(
    image: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iso_cache, "ALWAYS_READ_BYTES", 0)
    monkeypatch.setattr(iso_cache, "real_s", lambda: 4e9)  # and the clock may be set back afterwards
    path = bring(image, tmp_path / "cache", tmp_path / "lab")
    bring(image, tmp_path / "cache", tmp_path / "lab")  # its link has touched it: read once more, and remembered
    read: list[Path] = []
    digest = iso_cache._digest

    def reading(file: Path) -> str:
        read.append(file)
        return digest(file)

    monkeypatch.setattr(iso_cache, "_digest", reading)
    bring(image, tmp_path / "cache", tmp_path / "lab")
    assert read == [], "untouched: trusted"
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"tampered")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert bring(image, tmp_path / "cache", tmp_path / "lab").read_bytes() == image.content


def test_a_server_that_lies_about_a_short_length_gives_no_image(image: ImageServer, tmp_path: Path) -> None:
    image.length_lie, size = -100_000, len(image.content)
    with pytest.raises(LabError, match=f"truncated: {size - 100_000} bytes came, and its volume has {size}"):
        bring(image, tmp_path / "cache", tmp_path / "lab")
    assert names(tmp_path / "cache") == []
    assert names(tmp_path / "lab") == []


def test_without_a_length_the_image_itself_says_whether_it_is_whole(image: ImageServer, tmp_path: Path) -> None:
    image.says_length, image.breaks = False, [100_000]
    with pytest.raises(LabError, match="truncated"):
        bring(image, tmp_path / "cache", tmp_path / "lab")
    assert bring(image, tmp_path / "cache", tmp_path / "lab").read_bytes() == image.content


def test_a_login_page_is_no_image(image: ImageServer, tmp_path: Path) -> None:
    image.content = b"<html>who are you?</html>" * 5000
    with pytest.raises(LabError, match="no ISO"):
        bring(image, tmp_path / "cache", tmp_path / "lab")


def test_what_has_come_of_a_broken_download_is_never_given(image: ImageServer, tmp_path: Path) -> None:
    cache, lab = tmp_path / "cache", tmp_path / "lab"
    image.breaks = [100_000, 0, 0, 0]
    with pytest.raises(DownloadFailed):
        bring(image, cache, lab)
    assert not [name for name in names(cache) if name.startswith("sha256")]
    assert names(lab) == []
    image.breaks, image.requests = [], []
    assert bring(image, cache, lab).read_bytes() == image.content
    assert image.requests[0]["range"] == "bytes=100000-", "a later command goes on"


def test_labs_that_want_the_same_image_wait_for_one_download(image: ImageServer, tmp_path: Path) -> None:
    release = threading.Event()
    image.on_request[1] = release.wait
    threads = [
        threading.Thread(target=bring, args=(image, tmp_path / "cache", tmp_path / f"lab-{number}"))
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert image.sent_bytes == len(image.content)
    assert [len(names(tmp_path / f"lab-{number}")) for number in range(3)] == [1, 1, 1]


def test_a_prune_takes_what_was_used_longest_ago_and_no_lab_loses_its_image(image: ImageServer, tmp_path: Path) -> None:
    cache, lab = tmp_path / DOWNLOADS, tmp_path / "lab"
    first = bring(image, cache, lab)
    image.content = image.content + bytes(2048)
    second = bring(image, cache, lab, image.url + "&b")
    for age_s, record in ((1000, first), (500, second)):
        sha256 = record.stem.removeprefix("sha256-")
        for path in cache.glob("*.json"):
            if sha256.encode() in path.read_bytes():
                os.utime(path, (path.stat().st_atime - age_s, path.stat().st_mtime - age_s))
    assert [file.path.name for file in cached_files(tmp_path)] == [second.name, first.name]
    removed = prune(tmp_path, limit_bytes=second.stat().st_size)
    assert [file.path.name for file in removed] == [first.name]
    assert names(cache) == sorted([second.name, next(cache.glob("*.json")).name])
    assert first.exists(), "the lab's own"
    image.content = first.read_bytes()
    assert bring(image, cache, lab) == first


def test_a_download_that_goes_on_is_not_pruned(image: ImageServer, tmp_path: Path) -> None:
    asked, release = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        release.wait()

    image.breaks, image.on_request[2] = [100_000], wait
    thread = threading.Thread(target=bring, args=(image, tmp_path / DOWNLOADS, tmp_path / "lab"))
    thread.start()
    asked.wait()
    assert prune(tmp_path, limit_bytes=0) == []
    release.set()
    thread.join()
    assert len(names(tmp_path / "lab")) == 1
