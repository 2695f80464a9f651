"""Downloads an image over HTTP(S) into a file, as any client of an image service would.

A download that breaks off goes on where it stopped, in this process or a later one, but only where the server's version
of the image is known to be the same: a strong ETag, or a Last-Modified that is at least a second older than the answer
(RFC 9110 8.8.2.2; the image service gives no ETag, facts: CIM resources 4.1). What has come is a download only when it
has the length that the server promised. Every wait has an end: for an answer, the next byte, a trickle, for all of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import orjson
import tenacity

from labsim.edge_time import monotonic_s
from labsim.errors import LabError, system_errors
from labsim.model.quantities import format_size

CHUNK_BYTES = 1 << 20
ENOUGH_BYTES = 16 << 10
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
HINTS = {
    401: "was the InfraEnv deleted, or its URL renewed? look at its status.isoDownloadURL",
    403: "was the InfraEnv deleted, or its URL renewed? look at its status.isoDownloadURL",
    404: "is this the InfraEnv's status.isoDownloadURL?",
}

Progress = Callable[[int, int | None], None]  # (bytes that are there, bytes of the whole where they are known)


class DownloadFailed(LabError):
    """The server refused, or went on failing. The URL is told without the token in it."""


class _Broken(Exception):
    """One try failed in a way that another may not."""


class _TooSlow(_Broken):
    """One try brought something, and too little to count."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to try. `tries`: in a row that bring less than ENOUGH_BYTES; `timeout_s`: for an answer, and between two
    bytes; a try that brings less than `slowest_bytes_s` over `slow_after_s` is broken off; `total_s` ends it all."""

    tries: int = 5
    timeout_s: float = 60.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0
    slow_after_s: float = 60.0
    slowest_bytes_s: int = 4096
    total_s: float = 4 * 3600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """ca_pem: authorities beside the system's. resolve_to: an address to connect to instead of the URL's host, for a
    name that only a lab knows; certificate and Host header stay those of the URL."""

    ca_pem: str = ""
    resolve_to: tuple[str, int] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a server calls the version of an image; "" where it does not say. `is_strong`: equal means equal bytes."""

    etag: str = ""
    last_modified: str = ""
    is_strong: bool = False

    @classmethod
    def of(cls, headers: HTTPMessage) -> Version:
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        is_strong = (bool(etag) and not etag.startswith("W/")) or _older(modified, headers.get("Date", ""))
        return cls(etag=etag, last_modified=modified, is_strong=is_strong)

    def if_range(self) -> str:
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def if_changed(self) -> dict[str, str]:
        """The headers that make a server answer 304 where nothing has changed."""
        conditions = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in conditions.items() if value}

    def same(self, other: Version) -> bool:
        return (self.etag, self.last_modified) == (other.etag, other.last_modified)


def download(
    url: str,
    part: Path,
    *,
    known: Version | None = None,
    trust: Trust = Trust(),
    patience: Patience = Patience(),
    progress: Progress = lambda done, total: None,
) -> Version | None:
    """Download `url` into `part`, going on with what is there; None where the server still has the version `known`.

    After None, and after an error that ends it, nothing of use is in `part`; after a passing trouble the next call goes
    on with it. Raises DownloadFailed, and LabError where the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadFailed(f"{shown_url(url)} is no http or https URL")
    fetch = _Fetch(url, part, known, trust, patience, progress)
    retrying = tenacity.Retrying(
        stop=lambda state: fetch.fruitless >= patience.tries or monotonic_s() > fetch.deadline_s,
        wait=lambda state: min(patience.longest_pause_s, max(fetch.wanted_pause_s, fetch.pause_s(state))),
        retry=tenacity.retry_if_exception_type(_Broken),
    )
    try:
        version: Version | None = retrying(fetch.try_once)
        return version
    except tenacity.RetryError as error:
        tries = error.last_attempt.attempt_number
        trouble = error.last_attempt.exception()
        raise DownloadFailed(
            f"cannot download {shown_url(url)} in {tries} tries: {trouble}",
            hint="the same command goes on with what has come, where the server lets it",
        ) from error


def forget_part(part: Path) -> None:
    """Empty what has come of a download. The file stays: whoever downloads may hold a lock on it."""
    with contextlib.suppress(FileNotFoundError):
        os.truncate(part, 0)
    _facts_of(part).unlink(missing_ok=True)


def shown_url(url: str) -> str:
    """The URL without what opens it: the token in its path, and its query."""
    parts = urlsplit(url)
    path = re.sub(r"/(byapikey|bytoken)/[^/]+", r"/\1/***", parts.path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


class _Fetch:
    """The state of one download over its tries: how much has come, and of which version."""

    def __init__(
        self, url: str, part: Path, known: Version | None, trust: Trust, patience: Patience, progress: Progress
    ) -> None:
        self._url = url
        self._part = part
        self._known = known
        self._patience = patience
        self._progress = progress
        self._opener = _opener(trust, patience.timeout_s)
        self.deadline_s = monotonic_s() + patience.total_s
        self._farthest = 0
        self._version, self._total = _read_facts(part)
        self.fruitless = 0  # tries in a row that brought next to nothing
        self.wanted_pause_s = 0.0  # what the server asked for with Retry-After

    def pause_s(self, state: tenacity.RetryCallState) -> float:
        exponential = tenacity.wait_exponential(self._patience.first_pause_s, self._patience.longest_pause_s)
        return exponential(state) if self.fruitless else 0.0

    def try_once(self) -> Version | None:
        self.wanted_pause_s = 0.0
        try:
            return self._ask()
        except _Broken as trouble:
            have = self._have()
            is_fruitful = have >= self._farthest + ENOUGH_BYTES and not isinstance(trouble, _TooSlow)
            self.fruitless = 0 if is_fruitful else self.fruitless + 1
            self._farthest = max(have, self._farthest)
            raise

    def _ask(self) -> Version | None:
        have = self._have() if self._version.is_strong else 0
        headers = {"User-Agent": "labsim", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self._version.if_range()}
        elif self._known is not None:
            headers |= self._known.if_changed()
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310  (the scheme is checked)
        try:
            with self._opener.open(request, timeout=self._patience.timeout_s) as answer:
                return self._receive(answer, have)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, have)
                return None
        except (OSError, HTTPException) as error:
            if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
                raise DownloadFailed(
                    f"cannot download {shown_url(self._url)}: {error}",
                    hint="give the authority that signed the server's certificate (--ca FILE)",
                ) from error
            raise _Broken(str(error) or type(error).__name__) from error

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _receive(self, answer: HTTPResponse, have: int) -> Version:
        version = Version.of(answer.headers)
        length = answer.headers.get("Content-Length")
        if answer.status == 206:
            start, total = _range_of(answer)
            if not version.same(self._version) or start != have or (total is not None and total != self._total):
                forget_part(self._part)
                self._version = Version()
                raise _Broken("the image changed while it was downloaded")
        else:
            have = 0
            self._version, self._total = version, None if length is None else int(length)
            self._begin()
        try:
            with system_errors(f"storing the image in {self._part}"), self._part.open("ab") as file:
                self._copy(answer, file, have)
        except LabError:
            forget_part(self._part)  # a full disk is not kept full
            raise
        size = self._have()
        if self._total is not None and size != self._total:
            if size > self._total:
                forget_part(self._part)
            raise _Broken(f"{size} of {self._total} bytes came")
        _facts_of(self._part).unlink(missing_ok=True)
        return self._version

    def _begin(self) -> None:
        """An empty part of this version; refused where the disk cannot hold it."""
        with system_errors(f"storing the image in {self._part}"):
            forget_part(self._part)
            free = shutil.disk_usage(self._part.parent).free
            if self._total is not None and self._total > free:
                raise LabError(
                    f"the image has {format_size(self._total)}; {format_size(free)} are free in {self._part.parent}",
                    hint="free some disk space (labsim iso cache prune), or set XDG_CACHE_HOME to another disk",
                )
            self._part.touch(mode=0o600)  # there is a token in the image
            facts = {**dataclasses.asdict(self._version), "total": self._total}
            _facts_of(self._part).write_bytes(orjson.dumps(facts))

    def _copy(self, answer: HTTPResponse, file: IO[bytes], have: int) -> None:
        """Append the body. What the connection does is _Broken; what the disk does is an OSError."""
        self._progress(have, self._total)
        window_s, window_bytes = monotonic_s(), 0
        while chunk := _read(answer):
            file.write(chunk)
            have += len(chunk)
            window_bytes += len(chunk)
            self._progress(have, self._total)
            now_s = monotonic_s()
            if now_s > self.deadline_s:
                raise _Broken(f"not there within {self._patience.total_s:g} s")
            if now_s - window_s >= self._patience.slow_after_s:
                if window_bytes < self._patience.slowest_bytes_s * (now_s - window_s):
                    raise _TooSlow(f"only {window_bytes} bytes came in {now_s - window_s:.0f} s")
                window_s, window_bytes = now_s, 0

    def _refused(self, error: urllib.error.HTTPError, have: int) -> None:
        """Returns only where the image has not changed."""
        if error.code == 304 and self._known is not None:
            forget_part(self._part)
            return
        if error.code == 416 and have:
            forget_part(self._part)
            self._version = Version()
            raise _Broken("the image changed while it was downloaded")
        if error.code in RETRIED_STATUS:
            with contextlib.suppress(ValueError):
                self.wanted_pause_s = float(error.headers.get("Retry-After", ""))
            raise _Broken(f"status {error.code}")
        forget_part(self._part)
        raise DownloadFailed(
            f"cannot download {shown_url(self._url)}: status {error.code}", hint=HINTS.get(error.code, "")
        )


def _read(answer: HTTPResponse) -> bytes:
    """Whatever has come, at least a byte; nothing at the end."""
    try:
        return answer.read1(CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _range_of(answer: HTTPResponse) -> tuple[int, int | None]:
    """Where a partial answer begins, and the length of the whole: Content-Range `bytes 10-99/100`."""
    found = re.match(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)$", answer.headers.get("Content-Range", ""))
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _older(modified: str, answered: str) -> bool:
    """Whether the image was last changed at least a second before the answer was made, both by the server's clock."""
    try:
        return (parsedate_to_datetime(answered) - parsedate_to_datetime(modified)).total_seconds() >= 1
    except (ValueError, TypeError):
        return False


def _facts_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_facts(part: Path) -> tuple[Version, int | None]:
    """Of which version a part is that an earlier process left, and how long the whole is."""
    try:
        facts = orjson.loads(_facts_of(part).read_bytes())
        total = facts.pop("total")
        return Version(**facts), total
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Version(), None


def _opener(trust: Trust, timeout_s: float) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    if trust.ca_pem:
        try:
            context.load_verify_locations(cadata=trust.ca_pem)
        except ssl.SSLError as error:
            raise DownloadFailed(f"the authorities for the download cannot be read: {error}") from error
    if trust.resolve_to is None:
        return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _HttpsTo(context, trust.resolve_to, timeout_s))


class _HttpsTo(urllib.request.HTTPSHandler):
    """HTTPS to a fixed address, with the name of the URL in the handshake."""

    def __init__(self, context: ssl.SSLContext, address: tuple[str, int], timeout_s: float) -> None:
        super().__init__(context=context)
        self._address = address
        self._tls = context
        self._timeout_s = timeout_s

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._connection, request)

    def _connection(self, host: str, **_: object) -> _ConnectionTo:
        return _ConnectionTo(host, self._address, self._timeout_s, self._tls)


class _ConnectionTo(http.client.HTTPSConnection):
    def __init__(self, host: str, address: tuple[str, int], timeout_s: float, context: ssl.SSLContext) -> None:
        super().__init__(host, timeout=timeout_s, context=context)
        self._to = address
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection(self._to, self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
