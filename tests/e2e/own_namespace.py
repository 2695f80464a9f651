"""A host of its own for a test: network, mounts and processes in namespaces, with a system libvirtd in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

READY = "ready"
PROGRAMS = ("libvirtd", "dnsmasq", "ip", "unshare", "nsenter", "iptables", "qemu-system-x86_64")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
SYSTEM = "qemu:///system"
_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork")

# libvirtd looks up this user before it reads its configuration, and a container may not have it.
_USER = "libvirt-qemu"
_START = f"""
set -e
mount --make-rprivate /
grep -q ^{_USER}: /etc/passwd || {{
  cp /etc/passwd "$1/passwd"; cp /etc/group "$1/group"
  echo "{_USER}:x:64055:64055::/nonexistent:/usr/sbin/nologin" >>"$1/passwd"; echo "{_USER}:x:64055:" >>"$1/group"
  mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/group" /etc/group
}}
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /run; do
  mkdir -p "$folder"; mount -t tmpfs tmpfs "$folder"
done
mkdir -p /etc/libvirt/qemu/networks
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
END
ip link set lo up
ip link add outside0 type bridge
ip address add 192.168.200.1/24 dev outside0
ip link set outside0 up
libvirtd >"$1/libvirtd.log" 2>&1 &
until virsh -c {SYSTEM} uri >/dev/null 2>&1; do sleep 0.1; done
echo {READY}
# The first process is everybody's parent at last: libvirtd waits until its orphans are buried.
while :; do sleep 0.1; done
"""


def why_not() -> str:
    """What keeps this host from having such namespaces; "" where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"missing: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "only root can make a network and mounts of its own here"
    tried = subprocess.run(
        [*_UNSHARE, "mount", "--make-rprivate", "/"],
        capture_output=True, text=True, check=False, timeout=20, env={**os.environ, "PATH": PATH},
    )  # fmt: skip
    return "" if tried.returncode == 0 else f"namespaces are not permitted: {tried.stderr.strip()}"


class OwnHost:
    """The namespaces and their libvirtd, until `close`. `folder` is the test's own."""

    def __init__(self, folder: Path) -> None:
        self._environment = {**os.environ, "PATH": PATH}
        self._process = subprocess.Popen(
            [*_UNSHARE, "--mount-proc", "--kill-child", "sh", "-c", _START, "sh", folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=self._environment,
        )  # fmt: skip
        try:
            self._first = self._wait_until_ready(folder)
        except BaseException:
            self.close()
            raise

    def run(
        self, *command: str | Path, environment: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A program on this host; its exit code is the caller's to look at."""
        inside = ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid", *map(str, command)]
        wanted = {**self._environment, **(environment or {})}
        return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=timeout_s, env=wanted)

    def virsh(self, *words: str) -> list[str]:
        """The lines that virsh prints, without empty ones."""
        done = self.run("virsh", "-c", SYSTEM, *words)
        assert done.returncode == 0, done.stderr
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]

    def close(self) -> None:
        """End every process in there; the namespaces go with the last of them."""
        self._process.kill()
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _wait_until_ready(self, folder: Path) -> int:
        """The pid of the first process in there, seen from here."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        log = folder / "libvirtd.log"
        assert line == READY, log.read_text()[-2000:] if log.exists() else "the namespaces could not be set up"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])
