"""One table from what libvirt and the operating system say to what a person can do about it."""

from __future__ import annotations

import dataclasses
import errno
import re

from labsim.errors import LabError

# Numbers of enum virErrorNumber (libvirt/virterror.h), which are part of libvirt's stable interface: they are named
# here so that the table can be read and tested without libvirt.
INTERNAL_ERROR, NO_MEMORY, NO_SUPPORT, NO_CONNECT, INVALID_CONN, INVALID_DOMAIN = 1, 2, 3, 5, 6, 7
OPERATION_FAILED, DOM_EXIST, XML_ERROR, SYSTEM_ERROR, RPC, NO_DOMAIN, NO_NETWORK = 9, 28, 27, 38, 39, 42, 43
AUTH_FAILED, OPERATION_INVALID, OPERATION_TIMEOUT, CONFIG_UNSUPPORTED = 45, 55, 68, 67
AUTH_UNAVAILABLE, NO_DOMAIN_METADATA, ACCESS_DENIED, AUTH_CANCELLED = 94, 80, 88, 79


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """Applies when the code is one of `codes` (empty: any) and `text` is found in the message (empty: any)."""

    name: str
    codes: frozenset[int]
    text: str
    summary: str
    hint: str
    connection_lost: bool = False

    def fits(self, code: int, message: str) -> bool:
        return (not self.codes or code in self.codes) and re.search(self.text, message, re.IGNORECASE) is not None


INSTALL_HINT = "install the hypervisor: sh setup/install-packages.sh; or use --machines simulated"

RULES: tuple[Rule, ...] = (
    Rule(
        "no-space",
        frozenset(),
        r"no space left|disk quota exceeded|ENOSPC",
        "the disk is full",
        "free space where the lab's folder lies, or choose another state directory (XDG_STATE_HOME)",
    ),
    Rule(
        "permission",
        frozenset(),
        r"permission denied|operation not permitted|read-only file system",
        "the hypervisor may not use a file or device of the lab",
        "keep the lab's folder where the hypervisor's user can reach it: "
        "with qemu:///system not below a home directory; "
        "for /dev/kvm join the group kvm",
    ),
    Rule(
        "connection-refused",
        frozenset({SYSTEM_ERROR, NO_CONNECT, RPC}),
        r"connection refused|failed to connect socket|unable to connect|"
        r"unable to resolve|connection timed out|no route to host",
        "libvirt does not answer",
        "start libvirt (systemctl start libvirtd.socket), check the libvirt URI, or use the "
        "session's own: qemu:///session",
        connection_lost=True,
    ),
    Rule(
        "no-hypervisor-program",
        frozenset(),
        r"(cannot find|failed to find|no such file).*(qemu|emulator|libvirtd|virtqemud)|"
        r"(qemu|libvirtd|virtqemud)\S*.*no such file|no emulator|could not find.*emulator",
        "QEMU or libvirt is not installed",
        INSTALL_HINT,
    ),
    Rule(
        "connection-lost",
        frozenset({SYSTEM_ERROR, INTERNAL_ERROR, INVALID_CONN, NO_CONNECT, RPC}),
        r"connection (reset|closed)|client socket is closed|broken pipe|end of file while reading|not connected|"
        r"invalid connection|keepalive|cannot (recv|write) data",
        "the connection to libvirt broke, and again when it was renewed",
        "see what became of libvirtd (journalctl --user -u libvirtd, or its log), then say it again",
        connection_lost=True,
    ),
    Rule(
        "not-authorised",
        frozenset({AUTH_FAILED, AUTH_UNAVAILABLE, AUTH_CANCELLED, ACCESS_DENIED}),
        "",
        "libvirt refuses this user",
        "join the group libvirt and log in again, or use qemu:///session, which needs no rights",
    ),
    Rule(
        "unknown-uri",
        frozenset({NO_CONNECT, NO_SUPPORT}),
        "",
        "no hypervisor of this libvirt fits the URI",
        "qemu:///session and qemu:///system are the usual ones; libvirt needs its QEMU driver: "
        "sh setup/install-packages.sh",
    ),
    Rule(
        "name-exists",
        frozenset({OPERATION_FAILED, DOM_EXIST, OPERATION_INVALID}),
        r"already (exists|defined|active)|"
        r"is already (in use|running)",
        "a machine of this name or UUID exists already, and is not this lab's",
        "`virsh list --all` shows it; choose another lab name or seed, or `labsim down` the lab that owns it",
    ),
    Rule(
        "domain-gone",
        frozenset({NO_DOMAIN, INVALID_DOMAIN}),
        "",
        "the machine is gone from libvirt",
        "somebody else removed it; `labsim down` cleans up what is left of the lab",
    ),
    Rule(
        "network-taken",
        frozenset(),
        r"network is already in use by|bridge name .* already in use",
        "the network's subnet or bridge is taken",
        "say it again: another subnet is chosen then; `labsim leaks` shows networks that labs have left",
    ),
    Rule(
        "no-dnsmasq",
        frozenset(),
        r"dnsmasq",
        "libvirt has no dnsmasq for the network's DHCP and DNS",
        "install it (dnsmasq-base on Debian, dnsmasq on Fedora), or leave lab.network out: user mode needs none",
    ),
    Rule(
        "no-network",
        frozenset({NO_NETWORK}),
        "",
        "libvirt has no such network",
        "define it (`virsh net-list --all`), or leave the network out: user mode needs none",
    ),
    Rule(
        "no-memory",
        frozenset(),
        r"cannot (allocate|set up guest) memory|out of memory",
        "the host has not enough memory",
        "fewer or smaller machines: --profile small",
    ),
    Rule(
        "no-kvm",
        frozenset(),
        r"\bkvm\b.*(not|fail|unavailable|does)|(not|fail|unavailable).*\bkvm\b",
        "KVM does not work here",
        "machines can run under software emulation instead",
    ),
    Rule(
        "timeout",
        frozenset({OPERATION_TIMEOUT}),
        "",
        "the hypervisor did not finish in time",
        "the host may be overloaded: fewer machines at once, or say it again",
    ),
    Rule(
        "not-supported",
        frozenset({CONFIG_UNSUPPORTED, XML_ERROR}),
        "",
        "this hypervisor cannot make such a machine",
        "QEMU 6 and libvirt 8 or newer are needed",
    ),
    Rule(
        "anything-else",
        frozenset(),
        "",
        "libvirt could not do it",
        "the message is libvirt's own; its log and `virsh` may say more",
    ),
)


class HypervisorError(LabError):
    """A LabError that came from the hypervisor. `rule` names the line of the table, `code` is libvirt's number."""

    def __init__(self, rule: Rule, message: str, *, code: int = 0) -> None:
        super().__init__(f"{rule.summary}: {message}", hint=rule.hint)
        self.rule = rule
        self.code = code


def rule_for(code: int, message: str) -> Rule:
    """The first line of the table that fits; the last one fits everything."""
    return next(rule for rule in RULES if rule.fits(code, message))


def from_libvirt(error: Exception) -> HypervisorError:
    """Translate a libvirt.libvirtError."""
    # The class is libvirt's, which may not be installed where this is read: only its method is relied upon.
    code = int(getattr(error, "get_error_code", lambda: 0)() or 0)
    message = str(error)
    return HypervisorError(rule_for(code, message), message, code=code)


def from_os(error: OSError, doing: str) -> HypervisorError:
    """Translate an error of the operating system met while `doing` something to a lab's files."""
    text = error.strerror or str(error)
    if error.errno == errno.EDQUOT:
        text = "disk quota exceeded"
    where = f" ({error.filename})" if error.filename else ""
    return HypervisorError(rule_for(0, text), f"{doing}: {text}{where}")


def not_installed(error: Exception) -> HypervisorError:
    """The Python binding is missing, or cannot be loaded."""
    rule = Rule(
        "no-libvirt",
        frozenset(),
        "",
        "the libvirt driver is not installed",
        "pip install 'labsim[libvirt]' (it compiles: sh setup/install-packages.sh installs what it needs)",
    )
    return HypervisorError(rule, str(error))
