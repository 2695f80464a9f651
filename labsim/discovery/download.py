"""Downloads a discovery ISO as any client would, into a cache by content.

A download that breaks off goes on where it stopped (Range), and what has come is the file only when its length is the
server's. The image service gives no ETag but a Last-Modified, so a part is continued only while that is the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import tenacity

from labsim.errors import LabError

CHUNK_BYTES = 1 << 20
TRIES = 5
TIMEOUT_S = 60.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
RETRIED_STATUS = frozenset({408, 429, 500, 502, 503, 504})


class DownloadFailed(LabError):
    """The server refused, or went on failing. The URL is told without the token in it."""


class _Broken(Exception):
    """One try failed in a way that another may not."""


def download_iso(
    url: str,
    cache: Path,
    *,
    ca_pem: str = "",
    resolve_to: tuple[str, int] | None = None,
    first_pause_s: float = FIRST_PAUSE_S,
) -> Path:
    """Download `url`; answer the file, named by its content, so that equal ISOs are kept once.

    `ca_pem` replaces the system's bundle. `resolve_to` is an address to connect to instead of the URL's host, for names
    that only the lab knows; certificate and Host header stay those of the URL. Raises DownloadFailed.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadFailed(f"{_without_query(url)} is no http or https URL")
    cache.mkdir(parents=True, exist_ok=True)
    part = cache / f"part-{hashlib.sha256(url.encode()).hexdigest()[:24]}"
    fetch = _Fetch(url, part, _opener(ca_pem, resolve_to))
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential(multiplier=first_pause_s, max=LONGEST_PAUSE_S),
        retry=tenacity.retry_if_exception_type(_Broken),
    )
    try:
        retrying(fetch.try_once)
    except tenacity.RetryError as error:
        trouble = error.last_attempt.exception()
        raise DownloadFailed(f"cannot download {_without_query(url)} in {TRIES} tries: {trouble}") from error
    target = cache / f"sha256-{_digest(part)}.iso"
    part.replace(target)
    return target


class _Fetch:
    """The state of one download over its tries: how much has come, and of which version."""

    def __init__(self, url: str, part: Path, opener: urllib.request.OpenerDirector) -> None:
        self._url = url
        self._part = part
        self._opener = opener
        self._version = ""  # Last-Modified of what has come so far
        part.unlink(missing_ok=True)

    def try_once(self) -> None:
        have = self._part.stat().st_size if self._part.exists() else 0
        request = urllib.request.Request(self._url, headers=self._headers(have))  # noqa: S310  (scheme is checked)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                self._receive(answer, have)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error.code, have)
        except (OSError, HTTPException) as error:
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                raise DownloadFailed(f"cannot download {_without_query(self._url)}: {error}") from error
            raise _Broken(str(error) or type(error).__name__) from error

    def _headers(self, have: int) -> dict[str, str]:
        if not have:
            return {}
        return {"Range": f"bytes={have}-"} | ({"If-Range": self._version} if self._version else {})

    def _receive(self, answer: HTTPResponse, have: int) -> None:
        version = answer.headers.get("Last-Modified", "")
        continued = answer.status == 206 and version == self._version and _starts_at(answer) == have
        if answer.status == 206 and not continued:
            self._part.unlink(missing_ok=True)
            raise _Broken("the image changed while it was downloaded")
        self._version = version
        expected = have if continued else 0
        expected += int(answer.headers.get("Content-Length") or -1)
        with self._part.open("ab" if continued else "wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
        size = self._part.stat().st_size
        if size != expected:
            raise _Broken(f"{size} of {expected} bytes came")

    def _refused(self, status: int, have: int) -> None:
        if status == 416 and have:
            self._part.unlink(missing_ok=True)
            raise _Broken("the image changed while it was downloaded")
        if status in RETRIED_STATUS:
            raise _Broken(f"status {status}")
        hints = {401: "was the InfraEnv deleted, or its URL renewed?", 404: "is this the InfraEnv's isoDownloadURL?"}
        raise DownloadFailed(
            f"cannot download {_without_query(self._url)}: status {status}", hint=hints.get(status, "")
        )


def _starts_at(answer: HTTPResponse) -> int:
    """The first byte of a partial answer: Content-Range `bytes 10-99/100`."""
    with contextlib.suppress(ValueError):
        return int(answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])
    return -1


def _opener(ca_pem: str, resolve_to: tuple[str, int] | None) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cadata=ca_pem) if ca_pem else ssl.create_default_context()
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})] if resolve_to else []
    if resolve_to is None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    else:
        handlers.append(_HttpsTo(context, resolve_to))
    return urllib.request.build_opener(*handlers)


class _HttpsTo(urllib.request.HTTPSHandler):
    """HTTPS to a fixed address, with the name of the URL in the handshake."""

    def __init__(self, context: ssl.SSLContext, address: tuple[str, int]) -> None:
        super().__init__(context=context)
        self._address = address
        self._tls = context

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._connection, request)

    def _connection(self, host: str, timeout: float = TIMEOUT_S, **_: object) -> _ConnectionTo:
        return _ConnectionTo(host, self._address, timeout, self._tls)


class _ConnectionTo(http.client.HTTPSConnection):
    def __init__(self, host: str, address: tuple[str, int], timeout_s: float, context: ssl.SSLContext) -> None:
        super().__init__(host, timeout=timeout_s, context=context)
        self._to = address
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection(self._to, self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    path = re.sub(r"/(byapikey|bytoken)/[^/]+", r"/\1/***", parts.path)
    return f"{parts.scheme}://{parts.netloc}{path}"


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
