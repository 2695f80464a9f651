"""A discovery ISO really boots: CD, registration over HTTPS, installation, then the installed disk, then reclaim."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from labsim import edge_time
from labsim.discovery import efi
from labsim.discovery.base_image import BaseImage
from labsim.discovery.bootable import bootable_base_image
from labsim.discovery.kernel import find_kernel
from labsim.errors import LabError
from labsim.guest.boot_entry import OWN_ENTRY
from labsim.guest.disk import BOOT_DISK, DiskWriter, open_image

pytestmark = pytest.mark.vm

QEMU = "qemu-system-x86_64"
UUID = "3b7a9d62-51d0-4d0e-8e5b-2a7c9b40d002"
INFRA_ENV = "0c1d2e3f-0000-4000-8000-000000000001"
CLUSTER = "0c1d2e3f-0000-4000-8000-000000000002"
HOST_ADDRESS = "10.0.2.2"  # the host, seen from user mode networking
SPEED = 20
LIMIT_S = 180.0
AGENT_VERSION = "quay.io/labsim/agent:test"
AGENT_UNIT = """[Service]
Environment=PULL_SECRET_TOKEN=token-of-the-test
ExecStart=/usr/local/bin/agent --url {url} --infra-env-id {infra_env} --agent-version {version} --insecure=false \
--cacert /etc/assisted-service/service-ca-cert.crt
"""


def _missing() -> str:
    for program in (QEMU, "xorriso", "openssl", "ldd"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        find_kernel()
    except LabError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseImage:
    if reason := _missing():
        pytest.skip(reason)
    return bootable_base_image(tmp_path_factory.mktemp("iso-cache"))


class FakeService:
    """As much of assisted-service and an ignition server as one installation asks for."""

    def __init__(self, folder: Path) -> None:
        certificate, key = folder / "server.crt", folder / "server.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-days", "3650", "-subj", "/CN=labsim test", "-addext", f"subjectAltName=IP:{HOST_ADDRESS}"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        self.ca_pem = certificate.read_text()
        self.seen: list[tuple[str, str]] = []
        self.stages: list[str] = []
        self.inventory: dict[str, Any] = {}
        self.registrations = 0
        self.node_tokens: list[str] = []
        self._polls = 0
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, document = service.answer(self.command, self.path, dict(self.headers), body)
                data = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _any  # noqa: N815

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://{HOST_ADDRESS}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def discovery_ignition(self) -> bytes:
        unit = AGENT_UNIT.format(url=self.url, infra_env=INFRA_ENV, version=AGENT_VERSION)
        now_s = edge_time.real_s()
        pace = json.dumps({"real_epoch_s": now_s, "world_epoch_s": now_s, "speed": SPEED})
        files = {
            "/etc/assisted-service/service-ca-cert.crt": self.ca_pem,
            "/etc/labsim/pace.json": pace,
            "/etc/hosts": f"{HOST_ADDRESS} hub.lab.test\n",
            "/etc/hostname": "worker-7\n",
        }
        return json.dumps(_ignition(files, {"agent.service": unit})).encode()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        path = path.removeprefix("/api/assisted-install").split("?")[0]
        self.seen.append((method, path))
        if path == "/ignition":
            self.node_tokens.append(headers.get("Authorization", ""))
            return 200, _ignition({"/etc/kubernetes/marker": "joined\n"}, {})
        if headers.get("X-Secret-Key") != "token-of-the-test":
            return 401, {"code": 401, "message": "no token"}
        if (method, path) == ("POST", f"/v2/infra-envs/{INFRA_ENV}/hosts"):
            self.registrations += 1
            command = json.dumps({"agent_version": AGENT_VERSION, "host_id": UUID, "infra_env_id": INFRA_ENV})
            return 201, {"id": UUID, "kind": "Host", "next_step_runner_command": {"args": [command]}}
        if path.endswith("/instructions"):
            return self._instructions(method, body)
        if path.endswith("/progress"):
            self.stages.append(json.loads(body)["current_stage"])
            return 200, None
        if path.endswith("/downloads/ignition"):
            return 200, self._pointer_ignition()
        if path == f"/v2/clusters/{CLUSTER}":
            return 200, {"kind": "AddHostsCluster"}
        return 204, None

    def _instructions(self, method: str, body: bytes) -> tuple[int, Any]:
        if method == "POST":
            reply = json.loads(body)
            if reply["step_type"] == "inventory":
                self.inventory = json.loads(reply["output"])
            return 204, None
        self._polls += 1
        order = {"boot_device": "/dev/vda", "cluster_id": CLUSTER, "infra_env_id": INFRA_ENV, "host_id": UUID}
        step = ("inventory", UUID) if not self.inventory else ("install", json.dumps({**order, "role": "worker"}))
        if self.stages:  # it installs: nothing more to do
            return 200, {"instructions": None, "next_instruction_seconds": 60, "post_step_action": "continue"}
        steps = [{"step_type": step[0], "step_id": f"{step[0]}-{self._polls:08x}", "args": [step[1]]}]
        return 200, {"instructions": steps, "next_instruction_seconds": 20, "post_step_action": "continue"}

    def _pointer_ignition(self) -> dict[str, Any]:
        source = {"source": f"{self.url}/ignition", "httpHeaders": [{"name": "Authorization", "value": "Bearer node"}]}
        pointer = _ignition({"/etc/hostname": "worker-7\n"}, {})
        pointer["ignition"]["config"] = {"merge": [source]}
        authority = {"source": f"data:,{quote(self.ca_pem)}"}
        pointer["ignition"]["security"] = {"tls": {"certificateAuthorities": [authority]}}
        return pointer


def _ignition(files: dict[str, str], units: dict[str, str]) -> dict[str, Any]:
    return {
        "ignition": {"version": "3.2.0"},
        "storage": {
            "files": [
                {"path": path, "mode": 420, "contents": {"source": f"data:,{quote(text)}"}}
                for path, text in files.items()
            ]
        },
        "systemd": {"units": [{"name": name, "contents": text, "enabled": True} for name, text in units.items()]},
    }


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    if reason := _missing():
        pytest.skip(reason)
    fake = FakeService(tmp_path)
    yield fake
    fake.close()


class Vm:
    """One QEMU process; its console is kept, and printed when a wait runs out. `firmware`: more of its arguments, in
    place of a BIOS."""

    def __init__(self, disk: Path, cd: Path | None, *, firmware: Sequence[str] = ()) -> None:
        self._monitor = disk.with_suffix(".monitor")
        command = [
            *(QEMU, "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-uuid", UUID),
            *("-m", "384" if firmware else "256"),  # UEFI keeps some for itself
            *("-monitor", f"unix:{self._monitor},server=on,wait=off", *firmware),
            *("-display", "none", "-nodefaults", "-serial", "stdio", "-netdev", "user,id=n0"),
            *("-device", "virtio-net-pci,netdev=n0,romfile="),
            *("-drive", f"file={disk},if=none,id=d0,format=raw", "-device", "virtio-blk-pci,drive=d0,bootindex=1"),
        ]
        if cd is not None:
            command += ["-drive", f"file={cd},if=none,id=c0,media=cdrom,readonly=on"]
            command += ["-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=c0,bootindex=2"]
        self.console = ""
        self.started_s = edge_time.monotonic_s()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def wait_for(self, text: str, limit_s: float = LIMIT_S) -> float:
        """Seconds from the start of QEMU until `text` was on the console."""
        assert self._process.stdout is not None
        while text not in self.console:
            left_s = self.started_s + limit_s - edge_time.monotonic_s()
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, left_s))
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert data, f"no {text!r} on the console within {limit_s} s:\n{self.console[-4000:]}"
            self.console += data.decode(errors="replace")
        return edge_time.monotonic_s() - self.started_s

    def press_power_button(self) -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            for command in (b"system_powerdown\n", b""):  # a prompt comes first, and after what was carried out
                said = b""
                while not said.endswith(b"(qemu) "):
                    said += monitor.recv(4096)
                monitor.sendall(command)

    def wait_for_the_end(self, limit_s: float = 30.0) -> int:
        return self._process.wait(limit_s)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def machine(disk: Path, cd: Path | None = None, firmware: Sequence[str] = ()) -> Iterator[Vm]:
    vm = Vm(disk, cd, firmware=firmware)
    try:
        yield vm
    finally:
        vm.close()


def empty_disk(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(120 * 10**9)  # sparse
    return path


def test_a_vm_registers_installs_and_starts_from_its_own_disk(
    base: BaseImage, service: FakeService, tmp_path: Path
) -> None:
    """Disk first in the boot order, as a BIOS worker must have it: the empty disk falls through to the CD."""
    cd, disk = tmp_path / "discovery.iso", empty_disk(tmp_path / "disk.raw")
    base.overlay(service.discovery_ignition(), ["labsim.test=1"]).write_to(cd)
    with machine(disk, cd) as vm:
        up_s = vm.wait_for("started from discovery-iso")
        registered_s = vm.wait_for("agent: registered")
        vm.wait_for("started from disk")
        joined_s = vm.wait_for("first boot from disk")
    assert up_s < registered_s < joined_s
    assert service.registrations == 1, "the installed machine came back as a discovery host"
    expected = [
        "Starting installation",
        "Installing",
        "Writing image to disk",
        "Waiting for control plane",
        "Rebooting",
    ]
    assert list(dict.fromkeys(service.stages)) == expected
    assert service.node_tokens == ["Bearer node"]
    inventory = service.inventory
    assert [disk["size_bytes"] for disk in inventory["disks"] if disk["path"] == "/dev/vda"] == [120 * 10**9]
    assert inventory["system_vendor"]["virtual"] is True
    addresses = [a for nic in inventory["interfaces"] if nic["type"] == "physical" for a in nic["ipv4_addresses"]]
    assert addresses == ["10.0.2.15/24"]
    image = open_image(str(disk))
    assert image is not None
    assert image.boot_marker() == BOOT_DISK
    image.close()

    # Reclaim: the same disk starts what was downloaded once, without any CD, then itself again. Its own kernel is made
    # useless meanwhile, so that nothing else can have been started.
    initrd = base.pxe_initrd(service.discovery_ignition())
    DiskWriter([str(disk)], {}).set_boot_entry(base.artifact("kernel"), initrd, "reclaim.test=1")
    with without_kernel(disk), machine(disk) as vm:
        vm.wait_for("started from discovery-disk")
        vm.wait_for("agent: registered")
    assert service.registrations == 2
    image = open_image(str(disk))
    assert image is not None
    assert image.boot_marker() == BOOT_DISK
    assert image.boot_entry() == OWN_ENTRY
    image.close()
    with machine(disk) as vm:
        vm.wait_for("booted from disk again")  # what the first boot applied was kept under /var/lib


@contextlib.contextmanager
def without_kernel(disk: Path) -> Iterator[None]:
    """While this holds, the kernel of the installed system cannot be started."""
    image = open_image(str(disk), writable=True)
    assert image is not None
    extent = image.iso.find("/images/pxeboot/vmlinuz")
    kept = os.pread(image.fileno, extent.length, extent.offset)
    os.pwrite(image.fileno, bytes(extent.length), extent.offset)
    yield
    os.pwrite(image.fileno, kept, extent.offset)
    image.close()


def test_the_hybrid_image_starts_as_a_disk_too(base: BaseImage, tmp_path: Path) -> None:
    stick = tmp_path / "stick.raw"
    base.overlay(b'{"ignition":{"version":"3.1.0"}}').write_to(stick)
    with machine(stick) as vm:
        vm.wait_for("started from discovery-iso")
        vm.wait_for("the Ignition has no agent.service")
        assert "discovery-disk" not in vm.console


def test_reclaim_marks_only_an_installed_disk(base: BaseImage, tmp_path: Path) -> None:
    stick = tmp_path / "stick.raw"
    base.overlay(b"{}").write_to(stick)
    with pytest.raises(OSError, match="not started from a disk of its own"):
        DiskWriter([str(stick)], {}).set_boot_entry(base.artifact("kernel"), base.pxe_initrd(b"{}"), "")
    image = open_image(str(stick))
    assert image is not None
    assert image.boot_marker() != BOOT_DISK
    assert image.boot_entry() == OWN_ENTRY
    image.close()


OVMF = Path("/usr/share/OVMF")
SECURE_CODE, ENROLLED_KEYS = OVMF / "OVMF_CODE_4M.ms.fd", OVMF / "OVMF_VARS_4M.ms.fd"


@pytest.fixture
def secure_boot(tmp_path: Path) -> Iterator[list[str]]:
    """UEFI that enforces secure boot with Microsoft's keys, and a TPM: what QEMU is given for them."""
    missing = [path.name for path in (SECURE_CODE, ENROLLED_KEYS, efi.SHIM, efi.SIGNED_GRUB) if not path.exists()]
    missing += [name for name in ("swtpm", "mformat") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no uefi with secure boot here: {', '.join(missing)} missing (sh setup/install-packages.sh)")
    variables, state, control = tmp_path / "nvram.fd", tmp_path / "tpm", tmp_path / "tpm.socket"
    shutil.copy(ENROLLED_KEYS, variables)
    state.mkdir()
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={control}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as tpm:
        yield [
            *("-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"),
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={SECURE_CODE}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
            *("-chardev", f"socket,id=tpm,path={control}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
            *("-device", "tpm-crb,tpmdev=tpm0"),
        ]
        tpm.kill()


def test_under_secure_boot_a_vm_installs_and_starts_from_its_own_disk_and_heeds_its_power_button(
    base: BaseImage, service: FakeService, secure_boot: list[str], tmp_path: Path
) -> None:
    cd, disk = tmp_path / "discovery.iso", empty_disk(tmp_path / "disk.raw")
    base.overlay(service.discovery_ignition(), ["labsim.test=1"]).write_to(cd)
    with machine(disk, cd, secure_boot) as vm:
        vm.wait_for("started from discovery-iso")
        vm.wait_for("first boot from disk")
        vm.press_power_button()
        vm.wait_for("the power button was pressed: shutting down")
        assert vm.wait_for_the_end() == 0
    boot = service.inventory["boot"]
    assert (boot["current_boot_mode"], boot["secure_boot_state"]) == ("uefi", "Enabled")
    assert "labsim.test=1" in boot["command_line"]
    assert service.inventory["tpm_version"] == "2.0"


def test_what_nobody_signed_is_refused_by_the_firmware(
    secure_boot: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ISO that was made without shim, with a GRUB whose signature does not hold."""
    monkeypatch.setattr(efi, "SHIM", tmp_path / "not-there")
    monkeypatch.setattr(efi, "PLAIN_GRUB", plain_grub(tmp_path))
    base = bootable_base_image(tmp_path / "iso-cache")
    with machine(empty_disk(tmp_path / "disk.raw"), base.path, secure_boot) as vm:
        vm.wait_for("Access Denied", limit_s=60)
        assert "GRUB" not in vm.console


def plain_grub(folder: Path) -> Path:
    """The signed GRUB with a byte changed: nobody's signature is on it."""
    data = bytearray(efi.SIGNED_GRUB.read_bytes())
    data[len(data) // 2] ^= 1
    path = folder / "grubx64.efi"
    path.write_bytes(data)
    return path
