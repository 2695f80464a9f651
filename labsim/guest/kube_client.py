"""The kubelet's client of its cluster's API."""

from __future__ import annotations

import datetime
import json
from typing import Any

from labsim.guest.effects import Http, HttpAnswer, Task
from labsim.guest.kubeconfig import Kubeconfig

MERGE_PATCH = "application/merge-patch+json"


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
        document: dict[str, Any] = yield from self._call("GET", path, None, "")
        return document

    def create(self, path: str, body: dict[str, Any]) -> Task[dict[str, Any]]:
        document: dict[str, Any] = yield from self._call("POST", path, body, "application/json")
        return document

    def merge_patch(self, path: str, body: dict[str, Any]) -> Task[dict[str, Any]]:
        document: dict[str, Any] = yield from self._call("PATCH", path, body, MERGE_PATCH)
        return document

    def delete(self, path: str, options: dict[str, Any]) -> Task[dict[str, Any]]:
        document: dict[str, Any] = yield from self._call("DELETE", path, options, "application/json")
        return document

    def _call(self, method: str, path: str, body: dict[str, Any] | None, content_type: str) -> Task[dict[str, Any]]:
        headers = dict(self._headers)
        if content_type:
            headers["Content-Type"] = content_type
        answer: HttpAnswer = yield Http(
            method,
            self._access.server + path,
            headers,
            b"" if body is None else json.dumps(body).encode(),
            self._access.ca_pem,
            client_cert_pem=self._access.client_cert_pem,
            client_key_pem=self._access.client_key_pem,
        )
        try:
            document = json.loads(answer.body) if answer.body else {}
        except ValueError:
            document = {}
        if answer.status >= 300:
            raise ApiRefused(answer.status, str(document.get("message", ""))[:300])
        return document if isinstance(document, dict) else {}


def timestamp(now_s: float) -> str:
    """A moment as metav1.Time writes it."""
    return datetime.datetime.fromtimestamp(int(now_s), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(now_s: float) -> str:
    """A moment as metav1.MicroTime writes it (Leases)."""
    return datetime.datetime.fromtimestamp(now_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
