"""A real kube-apiserver with its etcd, started from the binaries that KUBEBUILDER_ASSETS names, as envtest does."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labsim.cli.bench_servers import no_real_server, real_server
from labsim.edge_time import monotonic_s, wait_s
from labsim.hub.embedded.kubeconfig import write_kubeconfig
from labsim.kube.users import User

FIRST_REVISIONS = 10
READY_WITHIN_S = 60.0


class RealApiServer:
    """Both processes, an administrator's kubeconfig, and one of a user who may only look."""

    def __init__(self, folder: Path, users: Mapping[str, User]) -> None:
        """`users`: others that it knows, by their tokens."""
        reader = os.urandom(16).hex()  # noqa: TID251  (a real server's)
        others = [f'{token},{user.name},{user.uid},"{",".join(user.groups)}"' for token, user in users.items()]
        self._server = real_server(
            folder,
            users=[f"{reader},reader,reader-uid,readers", *others],
            etcd_options=["--unsafe-no-fsync"],
            options=["--allow-privileged"],
            prepare=_use_first_revisions,
        )
        self.port = self._server.port
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_pem = self._server.ca_pem
        self.kubeconfig = folder / "kubeconfig"
        self.reader_kubeconfig = folder / "reader-kubeconfig"
        write_kubeconfig(self.kubeconfig, self.url, ca_pem=self.ca_pem, token=self._server.token)
        write_kubeconfig(self.reader_kubeconfig, self.url, ca_pem=self.ca_pem, token=reader, user="reader")

    def close(self) -> None:
        self._server.close()


def _use_first_revisions(etcd: str) -> None:
    """Let the low revisions be gone, as on a server that has run for a while: etcd has compacted them."""
    deadline_s = monotonic_s() + READY_WITHIN_S
    written = 0
    while written < FIRST_REVISIONS:
        try:
            _tell(etcd, "put", {"key": base64.b64encode(b"first").decode(), "value": ""})
            written += 1
        except OSError:
            if monotonic_s() > deadline_s:
                pytest.fail("etcd does not answer")
            wait_s(0.05)
    _tell(etcd, "compaction", {"revision": str(FIRST_REVISIONS), "physical": True})


def _tell(etcd: str, what: str, document: dict[str, object]) -> None:
    with urllib.request.urlopen(f"{etcd}/v3/kv/{what}", json.dumps(document).encode(), timeout=5):
        pass


@contextlib.contextmanager
def real_api_server(folder: Path, users: Mapping[str, User] | None = None) -> Iterator[RealApiServer]:
    """A real API server for a test, which is skipped, with the reason, where there are no binaries."""
    why = no_real_server()
    if why:
        pytest.skip(f"no real kube-apiserver to run against: {why}")
    server = RealApiServer(folder, users or {})
    try:
        yield server
    finally:
        server.close()
