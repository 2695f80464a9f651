"""A real HTTPS server of one image, which misbehaves on demand."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labsim.discovery.iso import build_plain_iso
from labsim.hub.embedded.identity import HubAuthority

MONDAY, TUESDAY = "Mon, 24 Aug 2026 10:00:00 GMT", "Tue, 25 Aug 2026 10:00:00 GMT"


class ImageServer:
    """Serves `content` by range, as upstream's image service does (Last-Modified, no ETag, 304, 206, 416).

    Each of `breaks` cuts the next answer off after so many bytes, each of `statuses` is answered before anything else.
    """

    def __init__(self, folder: Path) -> None:
        self.content = build_plain_iso(folder / "served.iso").read_bytes()
        self.last_modified = MONDAY
        self.date = TUESDAY
        self.etag = ""
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.ignores_range = False
        self.length_lie = 0  # added to the Content-Length
        self.says_length = True
        self.drip_s = 0.0  # between any two bytes
        self.on_request: dict[int, Any] = {}  # number of a request: what happens before it is answered
        self.requests: list[dict[str, str]] = []
        self.sent_bytes = 0
        self.authority = HubAuthority()
        image = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                del format, args

            def date_time_string(self, timestamp: float | None = None) -> str:
                return image.date

            def do_GET(self) -> None:
                image.requests.append({name.lower(): value for name, value in self.headers.items()})
                image.on_request.get(len(image.requests), lambda: None)()
                image.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        identity = self.authority.serving(["localhost", "images.hub.test"])
        for name, text in (("tls.crt", identity.cert_pem), ("tls.key", identity.key_pem)):
            (folder / name).write_text(text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that go away are the point
        self.port = self.server.server_port
        self.url = f"https://localhost:{self.port}/byapikey/secret-token/4.18/x86_64/full.iso?a=secret-too"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        if self.statuses:
            status = self.statuses.pop(0)
            handler.send_response(status)
            if status == 503:
                handler.send_header("Retry-After", "0")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if handler.headers.get("If-Modified-Since") == self.last_modified:
            handler.send_response(304)
            handler.end_headers()
            return
        wanted = "" if self.ignores_range else handler.headers.get("Range", "")
        same = handler.headers.get("If-Range", self.last_modified) in (self.last_modified, self.etag)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and same else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        data = self.content[start:]
        handler.send_response(206 if start else 200)
        for name, value in (("Last-Modified", self.last_modified), ("ETag", self.etag)):
            if value:
                handler.send_header(name, value)
        if self.says_length:
            handler.send_header("Content-Length", str(len(data) + self.length_lie))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        self._send(handler, data[: self.breaks.pop(0)] if self.breaks else data)

    def _send(self, handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        if self.drip_s:
            for index in range(len(data)):
                handler.wfile.write(data[index : index + 1])
                handler.wfile.flush()
                time.sleep(self.drip_s)  # noqa: TID251
        handler.wfile.write(data)
        self.sent_bytes += len(data)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def serving(folder: Path) -> Iterator[ImageServer]:
    image = ImageServer(folder)
    try:
        yield image
    finally:
        image.close()
