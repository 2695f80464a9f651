"""Looks at this host: files below /proc and /usr, sockets, libvirt. Changes nothing, and waits for nobody for long."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import shutil
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from labsim.discovery.initramfs import BUSYBOX
from labsim.discovery.iso import ISOHYBRID_MBR, ISOLINUX_BIN, LDLINUX
from labsim.discovery.kernel import BOOT_FOLDER, find_kernel
from labsim.errors import LabError, LabsimError
from labsim.kube.services import NODE_PORTS
from labsim.lab.doctor.facts import Facts, Folder, Part, Route, SocketState
from labsim.lab.folder import cache_root, labs_root
from labsim.machines.libvirt.acceleration import find_acceleration
from labsim.machines.libvirt.preflight import check_hypervisor
from labsim.machines.libvirt.session import SESSION_URI

HYPERVISOR_ANSWERS_WITHIN_S = 3.0
USUAL_IMAGE_BYTES = 25 << 20  # of a base ISO, where none has been built
MODULES = (
    "cryptography",
    "httptools",
    "jinja2",
    "jsonpatch",
    "kubernetes",
    "orjson",
    "paramiko",
    "pycdlib",
    "pydantic",
)
_PROGRAMS: dict[Part, tuple[str, ...]] = {
    Part.QEMU: ("qemu-system-x86_64", "/usr/libexec/qemu-kvm"),
    Part.LIBVIRT: ("libvirtd", "virtqemud"),
    Part.XORRISO: ("xorriso",),
    Part.LDD: ("ldd",),
    Part.ZSTD: ("zstd",),
    Part.OPENSSL: ("openssl",),
    Part.DROPBEAR: ("dropbear",),
    Part.KUBECTL: ("kubectl",),
}
_SYSTEM_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")
_BIOS = ("/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin", "/usr/share/qemu-kvm/bios-256k.bin")
_LISTENING = "0A"  # the state of such a socket in /proc/net/tcp
_ROUTE_UP, _ROUTE_REJECTS = 0x1, 0x200


def look(uri: str = "") -> Facts:
    """The facts of this host for this user. `uri`: the hypervisor that is asked, the own session by default."""
    acceleration = find_acceleration()
    first, last = NODE_PORTS
    cache = cache_root()
    present, unreadable = _present()
    problem, fix = _hypervisor(uri or SESSION_URI)
    uefi, secure_boot = _uefi_firmware()
    return Facts(
        family="apt" if shutil.which("apt-get") else "dnf" if shutil.which("dnf") else "",
        uri=uri or SESSION_URI,
        architecture=os.uname().machine,
        cpus=len(os.sched_getaffinity(0)),
        kvm_notice=acceleration.notice,
        kvm_refused=acceleration.refused,
        memory_mib=_memory_mib(),
        folders=(_folder("labs", labs_root()), _folder("base images", cache), _folder("runs", Path("runs").resolve())),
        image_bytes=_image_bytes(cache),
        present=present,
        unreadable_kernels=unreadable,
        missing_modules=tuple(name for name in MODULES if importlib.util.find_spec(name) is None),
        hypervisor_problem=problem,
        hypervisor_fix=fix,
        system_socket=_system_socket(),
        bios=_any_file(_BIOS),
        uefi=uefi,
        secure_boot=secure_boot,
        loopback=_loopback(),
        taken_node_ports=tuple(sorted(port for port in _listening_ports() if first <= port <= last)),
        routes=tuple(routes(_text(Path("/proc/net/route")))),
    )


def routes(table: str) -> Iterator[Route]:
    """The networks of /proc/net/route, whose addresses are little-endian; neither the default route nor refusals."""
    for line in table.splitlines()[1:]:
        card, destination, _, flags, *_, mask = line.split()[:8]
        if mask != "00000000" and int(flags, 16) & _ROUTE_UP and not int(flags, 16) & _ROUTE_REJECTS:
            network = ipaddress.IPv4Network((_address(destination), str(_address(mask))), strict=False)
            yield Route(network=str(network), card=card)


def _address(little_endian: str) -> str:
    return str(ipaddress.IPv4Address(struct.pack("<L", int(little_endian, 16))))


def _text(path: Path) -> str:
    """A file's text; empty where it is not there, as on a kernel without that feature."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _memory_mib() -> int:
    """What the kernel says can be had without swapping, or less where a container is allowed less."""
    lines = (line.split() for line in _text(Path("/proc/meminfo")).splitlines())
    free_mib = next((int(words[1]) // 1024 for words in lines if words[0] == "MemAvailable:"), 0)
    group = Path("/sys/fs/cgroup")
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free_mib = min(free_mib, max(0, int(limit) - int(used)) >> 20)
    return free_mib


def _image_bytes(cache: Path) -> int:
    """The size of the largest base ISO that was built here; the usual one where there is none, or none to be seen."""
    try:
        return max((path.stat().st_size for path in cache.glob("base-*.iso")), default=USUAL_IMAGE_BYTES)
    except OSError:
        return USUAL_IMAGE_BYTES


def _folder(purpose: str, path: Path) -> Folder:
    # os.path says no where a folder above may not even be looked into; a Path would raise.
    place = next(parent for parent in (path, *path.parents) if os.path.exists(parent))
    status = os.statvfs(place)
    free_bytes = status.f_bavail * status.f_frsize
    return Folder(purpose=purpose, path=str(path), free_bytes=free_bytes, writable=os.access(place, os.W_OK | os.X_OK))


def _present() -> tuple[frozenset[Part], tuple[str, ...]]:
    """What is installed; and the kernels that cannot be read, where none of them can."""
    search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    found = {part for part, names in _PROGRAMS.items() if any(shutil.which(name, path=search) for name in names)}
    if importlib.util.find_spec("libvirt") is not None:
        found.add(Part.BINDING)
    if _any_file(ISOLINUX_BIN) and _any_file(ISOHYBRID_MBR):
        found.add(Part.ISOLINUX)
    for part, files in ((Part.SYSLINUX, LDLINUX), (Part.BUSYBOX, BUSYBOX)):
        if _any_file(files):
            found.add(part)
    unreadable: tuple[str, ...] = ()
    try:
        kernel = find_kernel()
    except (LabError, OSError):
        return frozenset(found | {Part.ZSTD}), unreadable
    if os.access(kernel.kernel, os.R_OK):
        found.add(Part.KERNEL)
    else:
        unreadable = tuple(sorted(str(path) for path in BOOT_FOLDER.glob("vmlinuz-*")))
    if ".ko.zst:" not in _text(kernel.modules / "modules.dep"):
        found.add(Part.ZSTD)  # nothing is there to unpack
    return frozenset(found), unreadable


def _any_file(candidates: Iterable[str]) -> bool:
    return any(Path(candidate).is_file() for candidate in candidates)


def _hypervisor(uri: str) -> tuple[str, str]:
    """What keeps the hypervisor from making machines, and the fix; empty where nothing does. It may hang: libvirt's
    calls have no time limit, so they are left alone in a thread that ends with the process."""
    answer: list[tuple[str, str]] = []

    def ask() -> None:
        try:
            check_hypervisor(uri)
        except LabsimError as error:
            answer.append((error.message, error.hint))
        else:
            answer.append(("", ""))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HYPERVISOR_ANSWERS_WITHIN_S)
    if answer:
        return answer[0]
    return f"{uri} does not answer within {HYPERVISOR_ANSWERS_WITHIN_S:.0f} s", f"look at it: virsh -c {uri} list"


def _system_socket() -> SocketState:
    states = {_socket_state(path) for path in _SYSTEM_SOCKETS}
    for state in (SocketState.USABLE, SocketState.REFUSED):
        if state in states:
            return state
    return SocketState.ABSENT


def _socket_state(path: str) -> SocketState:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(path)
        except PermissionError:  # of a folder that may not be looked into, nothing is known
            return SocketState.REFUSED if os.path.exists(path) else SocketState.ABSENT
        except OSError:
            return SocketState.ABSENT
    return SocketState.USABLE


def _uefi_firmware() -> tuple[bool, bool]:
    """(there is UEFI firmware, with secure boot too), by the descriptors that libvirt itself chooses from."""
    uefi = secure = False
    for folder in ("/etc/qemu/firmware", "/usr/share/qemu/firmware"):
        for path in sorted(Path(folder).glob("*.json")):
            kinds, features = _descriptor(path)
            uefi = uefi or "uefi" in kinds
            secure = secure or ("uefi" in kinds and "secure-boot" in features)
    return uefi, secure


def _descriptor(path: Path) -> tuple[set[str], set[str]]:
    """(interface types, features) of firmware for x86_64 whose file is there; empty for any other."""
    try:
        found = json.loads(path.read_text())
        fits = any(target["architecture"] == "x86_64" for target in found["targets"])
        image = found["mapping"].get("executable", found["mapping"]).get("filename", "")
        return (
            (set(found["interface-types"]), set(found["features"]))
            if fits and Path(image).is_file()
            else (set(), set())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set(), set()  # a file for other eyes


def _loopback() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            return False
    return True


def _listening_ports() -> set[int]:
    lines = [line.split() for name in ("tcp", "tcp6") for line in _text(Path("/proc/net") / name).splitlines()[1:]]
    return {int(words[1].rpartition(":")[2], 16) for words in lines if words[3] == _LISTENING}
