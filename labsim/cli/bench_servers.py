"""The servers that `labsim bench api` compares: `hub serve --bare`, a lab of `up`, a kube-apiserver with its etcd."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from labsim.edge_time import monotonic_s, os_random, wait_s
from labsim.errors import LabError

ASSETS = "KUBEBUILDER_ASSETS"
PROGRAMS = ("etcd", "kube-apiserver")
READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 10.0


class BenchServer:
    """A server's processes and an administrator's token. `durability`: what a write has survived when answered."""

    def __init__(self, folder: Path, name: str, durability: str, users: Iterable[str] = ()) -> None:
        """`users`: lines of others that it knows, beside the administrator, as token,user,uid,"groups"."""
        self.folder = folder
        self.name = name
        self.durability = durability
        self.token = os_random(16).hex()
        self.tokens = folder / "tokens.csv"
        administrator = f'{self.token},admin,admin-uid,"system:masters"'
        self.tokens.write_text("".join(f"{line}\n" for line in (administrator, *users)))
        self.port = 0
        self.start_s = 0.0
        self._processes: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(ENDS_WITHIN_S)

    @property
    def ca_pem(self) -> str:
        """What a real server's certificate is checked with; it has made it itself."""
        return (self.folder / "certificates" / "apiserver.crt").read_text()

    def memory_mib(self) -> float:
        """Resident memory of all of the server's processes."""
        total_kib = 0
        for process in self._processes:
            status = Path(f"/proc/{process.pid}/status").read_text()
            total_kib += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return total_kib / 1024

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        with (self.folder / f"{Path(command[0]).name}.log").open("wb") as output:
            self._processes.append(
                subprocess.Popen(command, stdout=output, stderr=output, cwd=self.folder, env=environment)
            )

    def wait_until_ready(self, started_s: float) -> None:
        """Ask until the server says that it is ready, and note how long that took; LabError where it does not."""
        context = ssl._create_unverified_context()  # noqa: S323  (a server of this run)
        while True:
            with contextlib.suppress(OSError):
                url = f"https://127.0.0.1:{self.port}/readyz"
                with urllib.request.urlopen(url, timeout=5, context=context):
                    break
            ended = [process.args for process in self._processes if process.poll() is not None]
            if ended or monotonic_s() - started_s > READY_WITHIN_S:
                logs = "\n".join(log.read_text(errors="replace")[-800:] for log in sorted(self.folder.glob("*.log")))
                raise LabError(f"{self.name} does not become ready", hint=logs)
            wait_s(0.005)
        self.start_s = monotonic_s() - started_s


def our_server(folder: Path) -> BenchServer:
    """`labsim hub serve --bare` as a user has it."""
    server = BenchServer(folder, "labsim", "in memory")
    (server.port,) = _free_ports(1)
    started_s = monotonic_s()
    try:
        server.run(
            *(sys.executable, "-m", "labsim.cli.main", "hub", "serve", "--bare", "--port", str(server.port)),
            *("--tokens", str(server.tokens), "--kubeconfig", str(folder / "kubeconfig")),
        )
        server.wait_until_ready(started_s)
    except BaseException:
        server.close()
        raise
    return server


_SCENARIO = """\
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {name: bench}
spec:
  lab:
    baseDomain: krnl.es
    infraEnvs: [{name: lab}]
    machines: [{name: worker, count: 1, infraEnv: lab, cpus: 4, memory: 16GiB, disk: 120GiB}]
  steps:
    - wait: {for: 1s}
"""


def our_lab(folder: Path) -> BenchServer:
    """A lab as `labsim up` makes it, with all of its components and a machine that is off: its state is on the disk."""
    server = BenchServer(folder, "labsim up", "log, fdatasync")
    (server.port,) = _free_ports(1)
    (folder / "bench.yaml").write_text(_SCENARIO)
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    started_s = monotonic_s()
    try:
        server.run(
            *(sys.executable, "-m", "labsim.cli.main", "up", str(folder / "bench.yaml"), "--foreground"),
            *("--port", str(server.port), "--speed", "1"),
            environment=environment,
        )
        server.wait_until_ready(started_s)
        kubeconfig = yaml.safe_load((folder / "labsim" / "labs" / "bench" / "kubeconfig").read_text())
        server.token = kubeconfig["users"][0]["user"]["token"]
    except BaseException:
        server.close()
        raise
    return server


def no_real_server() -> str:
    """Why there is no kube-apiserver to compare with; nothing where there is one."""
    folder = os.environ.get(ASSETS, "")
    if not folder:
        return f"{ASSETS} is not set (a folder with {', '.join(PROGRAMS)})"
    missing = [name for name in PROGRAMS if not os.access(Path(folder, name), os.X_OK)]
    return f"{ASSETS}={folder} has no {' and no '.join(missing)}" if missing else ""


def real_server(
    folder: Path,
    *,
    users: Iterable[str] = (),
    etcd_options: Sequence[str] = (),
    options: Sequence[str] = (),
    prepare: Callable[[str], None] = lambda url: None,
) -> BenchServer:
    """A kube-apiserver and an etcd that writes to disk before it answers, as in a cluster, if options do not say else.

    prepare: called with etcd's URL before the API server is started. Raises LabError where it does not become ready.
    """
    server = BenchServer(folder, "kube-apiserver", "etcd, fsync", users)
    server.port, etcd_port, peer_port = _free_ports(3)
    programs = Path(os.environ[ASSETS]).resolve()
    client, peer = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    started_s = monotonic_s()
    try:
        server.run(
            str(programs / "etcd"),
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=error",
            *etcd_options,
        )
        prepare(client)
        server.run(
            str(programs / "kube-apiserver"),
            f"--etcd-servers={client}",
            f"--secure-port={server.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={server.tokens}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",  # nobody makes the accounts that it wants
            *options,
        )
        server.wait_until_ready(started_s)
    except BaseException:
        server.close()
        raise
    return server


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        ports = []
        for _ in range(count):
            probe = open_sockets.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports
