"""Downloads: resumed after a break, checked by length, named by content."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labsim.discovery.download import TRIES, DownloadFailed, download_iso
from labsim.entropy import Entropy

CONTENT = Entropy(7).bytes("iso", 100_000)


class ImageServer:
    """Serves one image by range; `breaks` says after how many bytes each next answer breaks off."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.ranges: list[str] = []
        self.version = "Mon, 24 Aug 2026 10:00:00 GMT"
        image = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                del format, args

            def do_GET(self) -> None:
                wanted = self.headers.get("Range", "")
                image.ranges.append(wanted)
                if image.statuses:
                    self.send_error(image.statuses.pop(0))
                    return
                whole = not wanted or self.headers.get("If-Range", image.version) != image.version
                start = 0 if whole else int(wanted.removeprefix("bytes=").rstrip("-"))
                data = image.content[start:]
                self.send_response(200 if whole else 206)
                self.send_header("Last-Modified", image.version)
                self.send_header("Content-Length", str(len(data)))
                if not whole:
                    self.send_header("Content-Range", f"bytes {start}-{len(image.content) - 1}/{len(image.content)}")
                self.end_headers()
                self.wfile.write(data[: image.breaks.pop(0)] if image.breaks else data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/byapikey/secret-token/4.18/x86_64/full.iso?a=secret-too"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def image() -> Iterator[ImageServer]:
    made = ImageServer()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def fetch(image: ImageServer, cache: Path) -> Path:
    return download_iso(image.url, cache, first_pause_s=0.0)


def test_a_download_is_named_by_its_content(image: ImageServer, tmp_path: Path) -> None:
    path = fetch(image, tmp_path)
    assert path.name == f"sha256-{hashlib.sha256(CONTENT).hexdigest()}.iso"
    assert path.read_bytes() == CONTENT
    assert fetch(image, tmp_path) == path
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_broken_download_goes_on_where_it_stopped(image: ImageServer, tmp_path: Path) -> None:
    image.breaks = [30_000, 20_000]
    assert fetch(image, tmp_path).read_bytes() == CONTENT
    assert image.ranges == ["", "bytes=30000-", "bytes=50000-"]


def test_an_image_that_changed_meanwhile_starts_again(image: ImageServer, tmp_path: Path) -> None:
    image.breaks = [30_000]
    first = image.version

    class Changing(list[str]):
        def append(self, wanted: str) -> None:
            super().append(wanted)
            if len(self) == 2:
                image.version, image.content = "Mon, 24 Aug 2026 11:00:00 GMT", CONTENT[::-1]

    image.ranges = Changing()
    assert fetch(image, tmp_path).read_bytes() == CONTENT[::-1]
    assert image.version != first


def test_a_passing_trouble_is_waited_out(image: ImageServer, tmp_path: Path) -> None:
    image.statuses = [503, 502]
    assert fetch(image, tmp_path).read_bytes() == CONTENT


def test_giving_up_tells_no_token(image: ImageServer, tmp_path: Path) -> None:
    image.statuses = [503] * TRIES
    with pytest.raises(DownloadFailed, match=f"in {TRIES} tries: status 503") as caught:
        fetch(image, tmp_path)
    assert "secret" not in str(caught.value)
    image.statuses = [401]
    with pytest.raises(DownloadFailed, match="status 401") as caught:
        fetch(image, tmp_path)
    assert "secret" not in str(caught.value)
    assert "InfraEnv" in caught.value.hint
    with pytest.raises(DownloadFailed, match="no http or https"):
        download_iso("file:///etc/passwd", tmp_path)
