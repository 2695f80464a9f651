"""The kubelet's client of its cluster's API."""

from __future__ import annotations

import datetime
from typing import Any

from labsim.guest import json_text
from labsim.guest.effects import ConnectionFailed, Http, HttpAnswer, NextPart, Task
from labsim.guest.kubeconfig import Kubeconfig

MERGE_PATCH = "application/merge-patch+json"
WATCH_MARGIN_S = 30.0  # a server that is asked to end a watch in time may be late


class ApiRefused(Exception):
    """The API server answered with an error; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class KubeClient:
    """Calls with one identity. Every call raises ApiRefused or ConnectionFailed."""

    def __init__(self, access: Kubeconfig) -> None:
        self._access = access
        self._headers = {"Accept": "application/json"}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"

    def get(self, path: str) -> Task[dict[str, Any]]:
        return _document((yield from self._call("GET", path, None, "")))

    def watch(self, path: str, timeout_s: float) -> Task[WatchedEvents]:
        """The events of a watch, which the server is asked to end after a time."""
        separator = "&" if "?" in path else "?"
        path = f"{path}{separator}watch=true&allowWatchBookmarks=true&timeoutSeconds={int(timeout_s)}"
        answer = yield from self._exchange("GET", path, None, "", timeout_s=timeout_s + WATCH_MARGIN_S, follow=True)
        return WatchedEvents(answer)

    def create(self, path: str, body: dict[str, Any]) -> Task[dict[str, Any]]:
        return _document((yield from self._call("POST", path, body, "application/json")))

    def merge_patch(self, path: str, body: dict[str, Any]) -> Task[None]:
        yield from self._call("PATCH", path, body, MERGE_PATCH)

    def delete(self, path: str, options: dict[str, Any]) -> Task[None]:
        yield from self._call("DELETE", path, options, "application/json")

    def _call(self, method: str, path: str, body: dict[str, Any] | None, content_type: str) -> Task[bytes]:
        return (yield from self._exchange(method, path, body, content_type)).body

    def _exchange(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        content_type: str,
        *,
        timeout_s: float = 30.0,
        follow: bool = False,
    ) -> Task[HttpAnswer]:
        access = self._access
        answer: HttpAnswer = yield Http(
            method,
            access.server + path,
            {**self._headers, "Content-Type": content_type} if content_type else self._headers,
            b"" if body is None else json_text.write(body),
            access.ca_pem,
            False,
            timeout_s,
            access.client_cert_pem,
            access.client_key_pem,
            follow,
        )
        if answer.status >= 300:
            raise ApiRefused(answer.status, str(_document(answer.body).get("message", ""))[:300])
        return answer


class WatchedEvents:
    """The events of a watch, as they come."""

    def __init__(self, answer: HttpAnswer) -> None:
        self._rest = answer.rest
        self._kept = answer.body

    def next(self) -> Task[list[dict[str, Any]]]:
        """The next events; none at the end. Raises ConnectionFailed."""
        while True:
            part: bytes = yield NextPart(self._rest)
            if not part:
                return []
            *lines, self._kept = (self._kept + part).split(b"\n")
            try:
                events = [json_text.read(line) for line in lines if line]
            except ValueError as error:
                raise ConnectionFailed(f"a watch that cannot be read: {error}") from error
            if events:
                return events


def _document(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; an empty one where it holds none."""
    try:
        document = json_text.read(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def timestamp(now_s: float) -> str:
    """A moment as metav1.Time writes it."""
    return datetime.datetime.fromtimestamp(int(now_s), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(now_s: float) -> str:
    """A moment as metav1.MicroTime writes it (Leases)."""
    return datetime.datetime.fromtimestamp(now_s, datetime.UTC).isoformat(timespec="microseconds")[:26] + "Z"
