"""What a person types to mend a finding, for both families of distributions."""

from __future__ import annotations

import dataclasses

from labsim.discovery.packages import KERNEL_PACKAGES_APT
from labsim.lab.doctor.facts import Part


@dataclasses.dataclass(frozen=True, slots=True)
class Fix:
    """The command (or the advice) on Debian and Ubuntu, and on Fedora."""

    apt: str = ""
    dnf: str = ""

    def on(self, family: str) -> str:
        """For this family; both where it is not known."""
        if self.apt == self.dnf or family == "apt":
            return self.apt
        return self.dnf if family == "dnf" else f"{self.apt} (Fedora: {self.dnf})"


NONE = Fix()


def advice(text: str) -> Fix:
    """The same on every distribution."""
    return Fix(text, text)


def install(apt: str, dnf: str) -> Fix:
    return Fix(f"sudo apt-get install {apt}", f"sudo dnf install {dnf}")


# As setup/install-packages.sh names them.
_PACKAGES: dict[Part, tuple[str, str]] = {
    Part.QEMU: ("qemu-system-x86", "qemu-system-x86-core"),
    Part.LIBVIRT: (
        "libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients",
        "libvirt-daemon-driver-qemu libvirt-daemon-log libvirt-client",
    ),
    Part.BINDING: ("libvirt-dev pkg-config gcc python3-dev", "libvirt-devel pkgconf-pkg-config gcc python3-devel"),
    Part.ISOLINUX: ("isolinux", "syslinux"),
    Part.SYSLINUX: ("syslinux-common", "syslinux-nonlinux"),
    Part.XORRISO: ("xorriso", "xorriso"),
    Part.BUSYBOX: ("busybox-static", "busybox"),
    Part.LDD: ("libc-bin", "glibc-common"),
    Part.ZSTD: ("zstd", "zstd"),
    Part.OPENSSL: ("openssl", "openssl"),
    Part.KERNEL: (f"{KERNEL_PACKAGES_APT[0]} (Ubuntu: {KERNEL_PACKAGES_APT[1]})", "kernel-core kernel-modules-core"),
    Part.DROPBEAR: ("dropbear-bin", "dropbear"),
    Part.KUBECTL: ("kubernetes-client", "kubernetes-client"),
}
FIRMWARE = install("ovmf", "edk2-ovmf")
SEABIOS = install("seabios", "seabios-bin")


def of_part(part: Part) -> Fix:
    fix = install(*_PACKAGES[part])
    if part is Part.BINDING:
        pip = " && pip install 'libvirt-python>=9'"
        return Fix(fix.apt + pip, fix.dnf + pip)
    return fix
