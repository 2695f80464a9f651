"""Downloads from a real HTTPS server that breaks off, lies, changes its mind, refuses and drips."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_server import MONDAY, TUESDAY, ImageServer, serving

from labsim.discovery.download import DownloadFailed, Patience, Trust, Version, download
from labsim.errors import LabError

QUICK = Patience(tries=3, timeout_s=5.0, first_pause_s=0.0, longest_pause_s=0.0)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[ImageServer]:
    with serving(tmp_path) as made:
        yield made


def fetch(
    image: ImageServer, part: Path, known: Version | None = None, patience: Patience = QUICK, trust: Trust | None = None
) -> Version | None:
    return download(
        image.url, part, known=known, trust=trust or Trust(ca_pem=image.authority.ca_pem), patience=patience
    )


def ranges(image: ImageServer) -> list[str]:
    return [request.get("range", "") for request in image.requests]


def test_a_broken_download_goes_on_where_it_stopped(image: ImageServer, tmp_path: Path) -> None:
    image.breaks = [30_000, 20_000]
    fetch(image, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == image.content
    assert ranges(image) == ["", "bytes=30000-", "bytes=50000-"]
    assert image.requests[1]["if-range"] == MONDAY


def test_a_later_process_goes_on_with_what_an_earlier_one_left(image: ImageServer, tmp_path: Path) -> None:
    image.breaks = [30_000, 0, 0, 0, 0]
    with pytest.raises(DownloadFailed, match=f"30000 of {len(image.content)} bytes came"):
        fetch(image, tmp_path / "part")
    image.breaks, image.requests = [], []
    fetch(image, tmp_path / "part")
    assert ranges(image) == ["bytes=30000-"]
    assert (tmp_path / "part").read_bytes() == image.content


def test_the_server_may_ignore_the_range(image: ImageServer, tmp_path: Path) -> None:
    image.breaks, image.ignores_range = [30_000], True
    fetch(image, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == image.content


def test_progress_says_how_much_is_there_and_how_much_it_will_be(image: ImageServer, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    image.breaks, image.ignores_range = [30_000], True
    download(
        image.url,
        tmp_path / "part",
        trust=Trust(ca_pem=image.authority.ca_pem),
        patience=QUICK,
        progress=lambda done, total: told.append((done, total)),
    )
    size = len(image.content)
    assert told[0] == (0, size)
    assert (30_000, size) in told
    assert told[-1] == (size, size)


def test_tries_that_bring_something_do_not_count(image: ImageServer, tmp_path: Path) -> None:
    image.breaks = [20_000] * (3 * QUICK.tries)
    fetch(image, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == image.content


@pytest.mark.parametrize("tells_version", [True, False])
def test_an_image_that_changes_between_two_ranges_is_not_mixed(
    image: ImageServer, tmp_path: Path, tells_version: bool
) -> None:
    old, new = image.content, image.content[::-1]

    def change() -> None:
        image.content = new
        if tells_version:
            image.last_modified = TUESDAY

    image.breaks = [30_000]
    if not tells_version:
        image.date = image.last_modified  # changed in the very second of the answer: it may change again in it
    image.on_request[2] = change
    fetch(image, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == new != old


def test_a_range_of_another_image_is_not_taken(image: ImageServer, tmp_path: Path) -> None:
    """A server that knows no If-Range sends the rest of what it has now."""
    new = image.content[::-1]

    def change() -> None:
        image.content, image.last_modified = new, TUESDAY
        image.etag = image.requests[-1]["if-range"]  # whatever it was, it is the same to this server

    image.breaks = [30_000]
    image.on_request[2] = change
    fetch(image, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == new


def test_a_length_that_never_comes_is_an_error(image: ImageServer, tmp_path: Path) -> None:
    image.length_lie, size = 10, len(image.content)
    with pytest.raises(DownloadFailed, match=rf"in \d tries: ({size} of {size + 10} bytes came|the image changed)"):
        fetch(image, tmp_path / "part")


def test_an_unchanged_image_transfers_nothing(image: ImageServer, tmp_path: Path) -> None:
    known = fetch(image, tmp_path / "part")
    sent = image.sent_bytes
    assert fetch(image, tmp_path / "again", known) is None
    assert image.sent_bytes == sent
    image.last_modified = TUESDAY
    changed = fetch(image, tmp_path / "again", known)
    assert changed is not None
    assert changed.last_modified == TUESDAY
    assert (tmp_path / "again").read_bytes() == image.content


def test_a_passing_trouble_is_waited_out(image: ImageServer, tmp_path: Path) -> None:
    image.statuses = [503, 502]
    fetch(image, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == image.content


def test_giving_up_tells_no_token(image: ImageServer, tmp_path: Path) -> None:
    image.statuses = [503] * 10
    with pytest.raises(DownloadFailed, match=f"in {QUICK.tries} tries: status 503") as caught:
        fetch(image, tmp_path / "part")
    assert "secret" not in str(caught.value)
    assert len(image.requests) == QUICK.tries
    image.statuses, image.requests = [401], []
    with pytest.raises(DownloadFailed, match=r"/byapikey/\*\*\*/4.18/x86_64/full.iso: status 401") as caught:
        fetch(image, tmp_path / "part")
    assert "secret" not in str(caught.value)
    assert "InfraEnv" in caught.value.hint
    assert len(image.requests) == 1
    with pytest.raises(DownloadFailed, match="no http or https"):
        download("file:///etc/passwd", tmp_path / "part")


def test_a_server_that_drips_is_given_up_on(image: ImageServer, tmp_path: Path) -> None:
    image.drip_s = 0.01
    impatient = Patience(tries=1, first_pause_s=0.0, slow_after_s=0.2, slowest_bytes_s=100_000)
    with pytest.raises(DownloadFailed, match=r"only \d+ bytes came"):
        fetch(image, tmp_path / "part", patience=impatient)


def test_a_server_that_says_nothing_is_given_up_on(image: ImageServer, tmp_path: Path) -> None:
    image.drip_s = 3.0
    with pytest.raises(DownloadFailed, match="timed out"):
        fetch(image, tmp_path / "part", patience=Patience(tries=1, timeout_s=0.2, first_pause_s=0.0))


def test_only_the_authority_of_the_hub_is_trusted(image: ImageServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="CERTIFICATE_VERIFY_FAILED") as caught:
        fetch(image, tmp_path / "part", trust=Trust())
    assert "--ca" in caught.value.hint
    assert image.requests == []


def test_a_name_that_only_the_lab_knows_is_reached_at_its_address(image: ImageServer, tmp_path: Path) -> None:
    trust = Trust(ca_pem=image.authority.ca_pem, resolve_to=("127.0.0.1", image.port))
    download("https://images.hub.test/full.iso", tmp_path / "part", trust=trust, patience=QUICK)
    assert (tmp_path / "part").read_bytes() == image.content
    assert image.requests[0]["host"] == "images.hub.test"


def test_an_image_that_the_disk_cannot_hold_is_refused_at_once(
    image: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(LabError, match=rf"the image has {len(image.content) >> 10} KiB; 1000 B are free in") as caught:
        fetch(image, tmp_path / "part")
    assert "prune" in caught.value.hint


def test_a_disk_that_fills_up_is_an_error_and_is_not_kept_full(image: ImageServer, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(LabError, match=r"storing the image in .*: File too large"):
            fetch(image, tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "part").stat().st_size == 0
    assert len(image.requests) == 1
