"""A real kube-apiserver with its etcd, started from the binaries that KUBEBUILDER_ASSETS names, as envtest does."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import os
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labsim.edge_time import monotonic_s, wait_s
from labsim.hub.embedded.kubeconfig import write_kubeconfig
from labsim.kube.users import User

ASSETS = "KUBEBUILDER_ASSETS"
PROGRAMS = ("etcd", "kube-apiserver")
FIRST_REVISIONS = 10
READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 10.0


def assets() -> Path:
    """The folder of the binaries; skips the test, with the reason, where there is none."""
    folder = os.environ.get(ASSETS, "")
    if not folder:
        pytest.skip(f"{ASSETS} is not set: no real kube-apiserver to run against (a folder with etcd, kube-apiserver)")
    missing = [name for name in PROGRAMS if not os.access(Path(folder, name), os.X_OK)]
    if missing:
        pytest.skip(f"{ASSETS}={folder} has no {' and no '.join(missing)}: no real kube-apiserver to run against")
    return Path(folder)


class RealApiServer:
    """Both processes, an administrator's kubeconfig, and one of a user who may only look."""

    def __init__(self, folder: Path, programs: Path, users: Mapping[str, User]) -> None:
        """`users`: others that it knows, by their tokens."""
        self._folder = folder
        self._users = users
        self._programs = programs
        self._processes: list[subprocess.Popen[bytes]] = []
        self.port, self._etcd_port, self._peer_port = _free_ports(3)
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = folder / "kubeconfig"
        self.reader_kubeconfig = folder / "reader-kubeconfig"
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def ca_pem(self) -> str:
        return (self._folder / "certificates" / "apiserver.crt").read_text()

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(ENDS_WITHIN_S)

    def _start(self) -> None:
        folder = self._folder
        tokens = {"admin": os.urandom(16).hex(), "reader": os.urandom(16).hex()}  # noqa: TID251  (a real server's)
        with (folder / "tokens.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([tokens["admin"], "admin", "admin-uid", "system:masters"])
            rows.writerow([tokens["reader"], "reader", "reader-uid", "readers"])
            for token, user in self._users.items():
                rows.writerow([token, user.name, user.uid, ",".join(user.groups)])
        subprocess.run(
            ["openssl", "genrsa", "-out", str(folder / "accounts.key"), "2048"], check=True, capture_output=True
        )
        self._run("etcd", *self._etcd_options())
        self._use_first_revisions()
        self._run("kube-apiserver", *self._server_options())
        self._wait_until_ready()
        write_kubeconfig(self.kubeconfig, self.url, ca_pem=self.ca_pem, token=tokens["admin"])
        write_kubeconfig(self.reader_kubeconfig, self.url, ca_pem=self.ca_pem, token=tokens["reader"], user="reader")

    def _etcd_options(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            f"--data-dir={self._folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=error",
        ]

    def _server_options(self) -> list[str]:
        key = self._folder / "accounts.key"
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={self._folder / 'certificates'}",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",  # nobody makes the accounts that it wants
            "--allow-privileged",
        ]

    def _run(self, program: str, *options: str) -> None:
        with (self._folder / f"{program}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen([str(self._programs / program), *options], stdout=log, stderr=log, cwd=self._folder)
            )

    def _use_first_revisions(self) -> None:
        """Let the low revisions be gone, as on a server that has run for a while: etcd has compacted them."""
        deadline_s = monotonic_s() + READY_WITHIN_S
        written = 0
        while written < FIRST_REVISIONS:
            try:
                self._tell_etcd("put", {"key": base64.b64encode(b"first").decode(), "value": ""})
                written += 1
            except OSError:
                if monotonic_s() > deadline_s:
                    pytest.fail(f"etcd does not answer: see {self._folder}")
                wait_s(0.05)
        self._tell_etcd("compaction", {"revision": str(FIRST_REVISIONS), "physical": True})

    def _tell_etcd(self, what: str, document: dict[str, object]) -> None:
        url = f"http://127.0.0.1:{self._etcd_port}/v3/kv/{what}"
        with urllib.request.urlopen(url, json.dumps(document).encode(), timeout=5):
            pass

    def _wait_until_ready(self) -> None:
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        deadline_s = monotonic_s() + READY_WITHIN_S
        while True:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2, context=unverified) as answer:
                    if answer.status == 200:
                        return
            for process in self._processes:
                if process.poll() is not None:
                    pytest.fail(f"{process.args!r} ended: see the logs in {self._folder}")
            if monotonic_s() > deadline_s:
                pytest.fail(f"the kube-apiserver is not ready after {READY_WITHIN_S:.0f} s: see {self._folder}")
            wait_s(0.1)


@contextlib.contextmanager
def real_api_server(folder: Path, users: Mapping[str, User] | None = None) -> Iterator[RealApiServer]:
    """A real API server for a test, which is skipped, with the reason, where there are no binaries."""
    server = RealApiServer(folder, assets(), users or {})
    try:
        yield server
    finally:
        server.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        ports = []
        for _ in range(count):
            probe = open_sockets.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports
