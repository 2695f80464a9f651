"""The node side's client of assisted-service: headers, and the retries that happen below every call.

Source: host-lifecycle 3.1 (headers), 3.4 and 8 (retries of the agent), 6 (retries of the installer).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from labsim.guest import json_text
from labsim.guest.effects import ConnectionFailed, Http, HttpAnswer, RandomBytes, Sleep, Task

BASE_PATH = "/api/assisted-install"
JITTER_CAP_S = 10.0
JSON_HEADER = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a call is tried again, by what went wrong. 0: never."""

    connection: int
    by_status: dict[int, int]


AGENT_RETRIES = RetryPolicy(connection=3, by_status={503: 3, 504: 3})
INSTALLER_RETRIES = RetryPolicy(
    connection=360,
    by_status={404: 10, 423: 10, 425: 10, **dict.fromkeys((408, 429, *range(500, 600)), 360)},
)


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceAccess:
    """Where assisted-service is, and how this machine shows who it is."""

    url: str
    token: str
    agent_version: str
    ca_pem: str = ""
    insecure: bool = False


class ServiceClient:
    """Calls to assisted-service from one process of the machine (the agent, a step runner, the installer)."""

    def __init__(self, access: ServiceAccess, retries: RetryPolicy = AGENT_RETRIES) -> None:
        self.access = access
        self._retries = retries
        self._headers = {**JSON_HEADER, "discovery_agent_version": access.agent_version}
        if access.token:
            self._headers["X-Secret-Key"] = access.token
        self._request_ids: Iterator[str] | None = None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str = "",
        timeout_s: float = 30.0,
    ) -> Task[HttpAnswer]:
        """One call under /api/assisted-install; `body` is sent as JSON, `raw` as it is. Raises ConnectionFailed."""
        payload = raw if raw is not None else (b"" if body is None else json_text.write(body))
        url = f"{self.access.url}{BASE_PATH}{path}"
        for attempt in itertools.count():
            if self._request_ids is None:
                self._request_ids = request_ids((yield RandomBytes("request-id", 16)))
            headers = {**self._headers, "X-Request-ID": next(self._request_ids)}
            if content_type:
                headers["Content-Type"] = content_type
            try:
                answer: HttpAnswer = yield Http(
                    method, url, headers, payload, self.access.ca_pem, self.access.insecure, timeout_s
                )
            except ConnectionFailed:
                if attempt >= self._retries.connection:
                    raise
            else:
                if attempt >= self._retries.by_status.get(answer.status, 0):
                    return answer
            yield Sleep((yield from jitter_s(min(JITTER_CAP_S, 2.0 * 2 ** min(attempt, 8)))))
        raise AssertionError("itertools.count never ends")


def request_ids(seed: bytes) -> Iterator[str]:
    """An ID for each request of a process: one draw names the process, a counter the request.

    Version 4 UUIDs that share their first half with each other and nothing with another process's."""
    head = seed.hex()
    prefix = f"{head[:8]}-{head[8:12]}-4{head[13:16]}-a{head[17:20]}-"
    start = int(head[20:32], 16)
    return (f"{prefix}{(start + number) % 2**48:012x}" for number in itertools.count())


def jitter_s(limit_s: float) -> Task[float]:
    """A delay from 0 to `limit_s`, evenly spread."""
    drawn: bytes = yield RandomBytes("retry-jitter", 7)
    return limit_s * int.from_bytes(drawn, "big") / 2**56


def spread(drawn: bytes, low: float, high: float) -> float:
    """A number from `low` to `high` out of random bytes."""
    return low + (high - low) * int.from_bytes(drawn[:7], "big") / 2**56
