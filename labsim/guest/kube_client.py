"""The kubelet's client of its cluster's API."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from labsim.guest import json_text
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
        return _document((yield from self._call("GET", path, None, "")))

    def changed(self, path: str, known: bytes) -> Task[tuple[list[dict[str, Any]] | None, bytes]]:
        """The items of a list and their digest; None for the items where the digest is `known` already.

        A list begins with its own revision, which grows with every write to anything: what follows is compared.
        """
        body = yield from self._call("GET", path, None, "")
        digest = hashlib.blake2b(body[max(body.find(b'"items"'), 0) :], digest_size=16).digest()
        if digest == known:
            return None, digest
        return _document(body).get("items") or [], digest

    def create(self, path: str, body: dict[str, Any]) -> Task[dict[str, Any]]:
        return _document((yield from self._call("POST", path, body, "application/json")))

    def merge_patch(self, path: str, body: dict[str, Any]) -> Task[None]:
        yield from self._call("PATCH", path, body, MERGE_PATCH)

    def delete(self, path: str, options: dict[str, Any]) -> Task[None]:
        yield from self._call("DELETE", path, options, "application/json")

    def _call(self, method: str, path: str, body: dict[str, Any] | None, content_type: str) -> Task[bytes]:
        access = self._access
        answer: HttpAnswer = yield Http(
            method,
            access.server + path,
            {**self._headers, "Content-Type": content_type} if content_type else self._headers,
            b"" if body is None else json_text.write(body),
            access.ca_pem,
            client_cert_pem=access.client_cert_pem,
            client_key_pem=access.client_key_pem,
        )
        if answer.status >= 300:
            raise ApiRefused(answer.status, str(_document(answer.body).get("message", ""))[:300])
        return answer.body


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
