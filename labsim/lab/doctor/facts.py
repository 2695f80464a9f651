"""What is known of a host before anything is judged."""

from __future__ import annotations

import dataclasses
import enum


class Part(enum.StrEnum):
    """Something that is installed, or not."""

    QEMU = "QEMU"
    LIBVIRT = "libvirt"
    BINDING = "libvirt's Python binding"
    ISOLINUX = "isolinux"
    SYSLINUX = "syslinux modules"
    XORRISO = "xorriso"
    BUSYBOX = "busybox"
    LDD = "ldd"
    ZSTD = "zstd"
    OPENSSL = "openssl"
    KERNEL = "kernel"
    DROPBEAR = "dropbear"
    KUBECTL = "kubectl"


class SocketState(enum.StrEnum):
    """What becomes of the one who connects to the socket of the system's libvirt."""

    ABSENT = "absent"
    REFUSED = "refused"
    USABLE = "usable"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A place that labs write to. `free_bytes` is what this user may still take of its disk."""

    purpose: str
    path: str
    free_bytes: int
    writable: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A network that the host reaches by one of its cards; the default route is none of them."""

    network: str
    card: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A host, as it was found.

    family: "apt", "dnf" or "" where neither is there. kvm_notice: why machines are emulated, empty with KVM;
    kvm_refused: the device is there and this user may not open it. memory_mib: what can be had now, a container's
    limit counted in. hypervisor_problem and its fix: what the caller's libvirt session (or `uri`) answered, empty where
    it works. unreadable_kernels: kernels of packages that this user may not read. missing_modules: Python modules that
    labsim itself imports. image_bytes: a base ISO's size. loopback: whether a listener can be had on the loopback
    address. taken_node_ports: of the range, those that somebody listens on.
    """

    family: str
    uri: str
    architecture: str
    cpus: int
    kvm_notice: str
    kvm_refused: bool
    memory_mib: int
    folders: tuple[Folder, ...]
    image_bytes: int
    present: frozenset[Part]
    unreadable_kernels: tuple[str, ...]
    missing_modules: tuple[str, ...]
    hypervisor_problem: str
    hypervisor_fix: str
    system_socket: SocketState
    bios: bool
    uefi: bool
    secure_boot: bool
    loopback: bool
    taken_node_ports: tuple[int, ...]
    routes: tuple[Route, ...]
